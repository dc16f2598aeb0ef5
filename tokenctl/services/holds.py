"""Holds as an operator sees them: listed, released by hand, and tidied up after crashes."""

from __future__ import annotations

from dataclasses import replace

from tokenctl import commandline
from tokenctl.errors import AlreadyReleased, NotAllowed, NotFound, Refused
from tokenctl.grantfile.display import clean
from tokenctl.models import Generation, Hold
from tokenctl.services.balances import not_found
from tokenctl.services.heldtokens import moved
from tokenctl.storage.generations import GenerationStore
from tokenctl.storage.ledger import Ledger
from tokenctl.telemetry.metrics import Metrics

ALL = ("open", "captured", "released")
_AT_ONCE = 1_000


def listed(
    store: GenerationStore, ledger: Ledger, user_id: str | None, *, everything: bool, limit: int, ledger_name: str
) -> list[Hold]:
    """Open holds, or all of them, by deadline; at most `limit`. Raises UserNotFound."""
    held = store.holds(user_id=user_id, states=ALL if everything else ("open",), limit=limit)
    if not held and user_id is not None and not ledger.balances([user_id]):
        raise not_found(ledger, [user_id], ledger_name=ledger_name)
    return held


def found(store: GenerationStore, user_id: str, hold_id: str) -> Generation:
    """The open hold of that name. Raises NotFound, AlreadyReleased, or Refused when it was paid."""
    at = store.get(user_id, hold_id)
    if at.outcome == "unknown_generation":
        raise NotFound(
            f"user {user_id} has no hold {hold_id}",
            hint=f"{commandline.line('holds', 'list', user_id, '--all')} shows them",
        )
    _still_open(store, at)
    return at


def release(store: GenerationStore, metrics: Metrics, at: Generation, why: str) -> Generation:
    """Release it whoever is at work on it; answers it as this run released it.

    Raises AlreadyReleased when somebody else did meanwhile, or Refused when it was paid.
    """
    released = store.release(at, why, force=True)
    if released.outcome == "not_allowed":
        raise NotAllowed("the database's role may not release holds", hint="it needs tokenctl_support")
    if released.outcome != "released":
        _still_open(store, released)
        return released
    moved(metrics, "released", released)
    return released


def reconcile(store: GenerationStore, metrics: Metrics, *, dry_run: bool) -> list[Hold]:
    """Release what is past its deadline and has no job at work; answers those holds as they were released.

    The database judges each again: one that was made again since it was listed stays.
    """
    done: list[Hold] = []
    while True:
        past = [hold for hold in store.holds(user_id=None, states=("open",), limit=_AT_ONCE) if hold.is_past]
        if dry_run:
            return past
        freed = [ended for hold in past if (ended := _expired(store, metrics, hold)) is not None]
        done += freed
        if len(past) < _AT_ONCE or not freed:
            return done


def _expired(store: GenerationStore, metrics: Metrics, hold: Hold) -> Hold | None:
    at = store.expire(hold)
    if at.outcome != "released" or at.amount is None or at.expires_at is None:
        return None
    moved(metrics, "released", at)
    return replace(hold, amount=at.amount, expires_at=at.expires_at, attempts=at.attempts)


def _still_open(store: GenerationStore, at: Generation) -> None:
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
    if at.outcome in ("released", "already_released"):
        raise AlreadyReleased(_as_released(at, store.released(at)), hint="nothing was changed")


def _as_released(at: Generation, hold: Hold | None) -> str:
    if hold is None:  # made again since
        return f"hold {at.generation_id} was released before by somebody else"
    when = f" on {hold.settled_at:%Y-%m-%d %H:%M} UTC" if hold.settled_at else ""
    by = f" by {hold.released_by} ({hold.released_claimed_by})" if hold.released_by else ""
    why = f", reason {hold.released_why}" if hold.released_why else ""
    # Cleaned: a newline in a claim or a reason would pass for a line of ours.
    return clean(f"hold {at.generation_id} was released before{when}{by}{why}")
