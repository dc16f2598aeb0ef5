"""Holds as an operator sees them: listed, released by hand, and tidied up after crashes."""

from __future__ import annotations

from tokenctl import commandline
from tokenctl.errors import NotAllowed, NotFound, Refused
from tokenctl.models import Generation, Hold
from tokenctl.storage.generations import GenerationStore

ALL = ("open", "captured", "released")
_AT_ONCE = 1_000


def listed(store: GenerationStore, user_id: str | None, *, everything: bool, limit: int) -> list[Hold]:
    """Open holds, or all of them, by deadline; at most `limit`."""
    return store.holds(user_id=user_id, states=ALL if everything else ("open",), limit=limit)


def found(store: GenerationStore, user_id: str, hold_id: str) -> Generation:
    """The open hold of that name. Raises NotFound, or Refused when it is settled."""
    at = store.get(user_id, hold_id)
    if at.outcome == "unknown_generation":
        raise NotFound(
            f"user {user_id} has no hold {hold_id}",
            hint=f"{commandline.line('holds', 'list', user_id, '--all')} shows them",
        )
    _still_open(at)
    return at


def release(store: GenerationStore, at: Generation, why: str) -> Generation:
    """Release it whoever is at work on it. Raises Refused when it was settled meanwhile."""
    released = store.release(at, why, force=True)
    if released.outcome == "not_allowed":
        raise NotAllowed("the database's role may not release holds", hint="it needs tokenctl_support")
    if released.outcome != "released":
        _still_open(released)
    return released


def reconcile(store: GenerationStore, *, dry_run: bool) -> list[Hold]:
    """Release what is past its deadline and has no job at work; answers those holds."""
    done: list[Hold] = []
    while True:
        past = [hold for hold in store.holds(user_id=None, states=("open",), limit=_AT_ONCE) if hold.is_past]
        if dry_run:
            return past
        freed = [hold for hold in past if store.release(_named(store, hold), "deadline").outcome == "released"]
        done += freed
        if len(past) < _AT_ONCE or not freed:
            return done


def _named(store: GenerationStore, hold: Hold) -> Generation:
    return store.get(hold.user_id, hold.hold_id)


def _still_open(at: Generation) -> None:
    if at.outcome == "reversed":
        raise Refused(
            f"hold {at.generation_id} was paid as {at.transaction}, and that was reversed since",
            hint="nothing was changed",
        )
    if at.outcome == "captured":
        raise Refused(
            f"hold {at.generation_id} was paid as {at.transaction}",
            hint=f"{commandline.undo(str(at.transaction))} undoes that",
        )
    if at.outcome == "released":
        raise Refused(f"hold {at.generation_id} is released already", hint="nothing was changed")
