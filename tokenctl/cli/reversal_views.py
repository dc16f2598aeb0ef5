"""What the reversal of many entries looks like: in a sentence, as a plan, as a receipt."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tokenctl.output import Cell, Column, Count, Schema, Table, Tokens, TypedDict, View
from tokenctl.services import reversal_sets

if TYPE_CHECKING:
    from tokenctl.models import Batch
    from tokenctl.services.reversal_sets import Undoing

_COLUMNS = (
    Column("RESULT"),
    Column("ENTRIES", number=True),
    Column("TAKEN BACK", number=True),
    Column("GIVEN BACK", number=True),
)


class KindData(TypedDict):
    """Entries of one kind: tokens that are taken back, and those that are given back."""

    entries: Count
    taken: Tokens
    given: Tokens


class ShortageData(TypedDict):
    """A user whose entries cannot be reversed as things stand."""

    user_id: str
    wanted: Tokens
    available: Tokens
    missing: Tokens


class BatchReversalData(TypedDict):
    """The reversal of many entries, or with `batch_id` null what it would do; `tokens` is taken less given."""

    batch_id: str | None
    reverses_batch: str | None
    reverses_operator: str | None
    since: datetime | None
    until: datetime | None
    rows: Count
    users: Count
    tokens: Tokens
    taken: Tokens
    given: Tokens
    total: Tokens
    by_kind: dict[str, KindData]
    refused: Count | None
    shortages: list[ShortageData]
    operator: str | None
    reason: str | None
    at: datetime | None
    undo: str | None


BATCH_REVERSAL = Schema("tokenctl.batch_reversal.v1", BatchReversalData)


def plan(work: Undoing) -> View[BatchReversalData]:
    """What would be reversed, by kind, and what could not be."""
    entries, tokens = work.left_out
    whole = sum(kind.entries for kind in work.kinds)
    rows: list[tuple[Cell, ...]] = [("would be reversed", whole - entries, work.taken, work.given)]
    rows += [(f"  {k.kind}", k.entries, k.taken, k.given) for k in work.kinds if len(work.kinds) > 1 or entries]
    rows += [("left out: spent or held", entries, tokens, None)] if entries else []
    data = _data(work, None, entries=whole - entries, taken=work.taken, given=work.given)
    return View(BATCH_REVERSAL, data, Table(_COLUMNS, rows), meta={"dry_run": True})


def receipt(work: Undoing, done: Batch) -> View[BatchReversalData]:
    """What was reversed: the tokens net of what was given back, because slices are counted so."""
    net = -(done.applied_tokens or 0)
    given = work.given if not done.replayed and not done.conflicting else max(-net, 0)
    rows: list[tuple[Cell, ...]] = [("reversed", done.applied, net + given, given)]
    rows += [("reversed by others meanwhile", done.replayed, None, None)] if done.replayed else []
    rows += [("left out: spent or held", done.refused, None, None)] if done.refused else []
    rows += [("key used otherwise", done.conflicting, None, None)] if done.conflicting else []
    data = _data(work, done, entries=done.applied or 0, taken=net + given, given=given)
    return View(BATCH_REVERSAL, data, Table(_COLUMNS, rows), value=done.batch_id, meta={"dry_run": False})


def _data(work: Undoing, done: Batch | None, *, entries: int, taken: int, given: int) -> BatchReversalData:
    chosen = work.asked.chosen
    return {
        "batch_id": None if done is None else done.batch_id,
        "reverses_batch": chosen.batch,
        "reverses_operator": chosen.operator,
        "since": chosen.since,
        "until": chosen.until if done is None else done.reverses_until,
        "rows": entries,
        "users": work.plan.users,
        "tokens": taken - given,
        "taken": taken,
        "given": given,
        "total": work.total,
        "by_kind": {k.kind: {"entries": k.entries, "taken": k.taken, "given": k.given} for k in work.kinds},
        "refused": work.left_out[0] if done is None else done.refused,
        "shortages": [
            {"user_id": s.user_id, "wanted": s.wanted, "available": s.available, "missing": s.missing}
            for s in work.shortages[: reversal_sets.NAMED]
        ],
        "operator": None if done is None else done.operator,
        "reason": None if done is None else done.reason,
        "at": None if done is None else done.finished_at,
        "undo": None if done is None else undo(done),
    }


def undo(done: Batch) -> str:
    """The command that undoes the reversal."""
    return f"tokenctl reverse --batch {done.batch_id} --reason mistake"


def sentence(work: Undoing) -> str:
    """What is about to be reversed."""
    entries, _ = work.left_out
    count = sum(kind.entries for kind in work.kinds) - entries
    file = f" ({work.original.file_name})" if work.original is not None and work.original.file_name else ""
    tokens = [f"{work.taken:,} tokens are taken back"] if work.taken or not work.given else []
    tokens += [f"{work.given:,} tokens are given back"] if work.given else []
    return f"{work.name}{file}: {count:,} entries of {work.plan.users:,} users, {' and '.join(tokens)}"


def left_out(work: Undoing) -> str | None:
    """What cannot be reversed as things stand."""
    entries, tokens = work.left_out
    if not entries:
        return None
    return f"left out: {entries:,} entries of {len(work.shortages):,} users, {tokens:,} tokens that are spent or held"
