"""What the reversal of many entries looks like: in a sentence, as a plan, as a receipt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tokenctl import commandline
from tokenctl.output import Cell, Column, Count, Schema, Table, Tokens, TypedDict, View
from tokenctl.services import unreversed
from tokenctl.wording import counted, fitting

if TYPE_CHECKING:
    from tokenctl.models import Batch
    from tokenctl.services.reversal_sets import Undoing
    from tokenctl.storage.staged import LeftOut

_COLUMNS = (
    Column("RESULT"),
    Column("ENTRIES", number=True),
    Column("TAKEN BACK", number=True),
    Column("GIVEN BACK", number=True),
)
_LACKING = "left out: spent or held"
_TOO_LARGE = "left out: balance too large"


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


class OverflowData(TypedDict):
    """A user none of whose entries can be reversed: with what is given back the balance would be too large."""

    user_id: str
    balance: Tokens
    given: Tokens
    entries: Count


class BatchReversalData(TypedDict):
    """The reversal of many entries, or with `batch_id` null what it would do; `tokens` is taken less given.

    Of the entries that were `refused`, `too_large` would make a balance too large, of others the tokens are spent
    or held; `shortages` and `overflows` are as it was planned.
    """

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
    too_large: Count
    shortages: list[ShortageData]
    overflows: list[OverflowData]
    operator: str | None
    reason: str | None
    at: datetime | None
    undo: str | None


BATCH_REVERSAL = Schema("tokenctl.batch_reversal.v1", BatchReversalData)


def plan(work: Undoing) -> View[BatchReversalData]:
    """What would be reversed, by kind, and what could not be."""
    fit = sum(kind.entries for kind in work.kinds) - work.left_out
    rows: list[tuple[Cell, ...]] = [("would be reversed", fit, work.taken, work.given)]
    rows += [(f"  {k.kind}", k.entries, k.taken, k.given) for k in work.kinds if len(work.kinds) > 1 or work.left_out]
    if work.shortages:
        entries, taken, _ = _sums(work.shortages)
        rows.append((_LACKING, entries, taken, None))
    rows += [(_TOO_LARGE, *_sums(work.overflows))] if work.overflows else []
    data = _data(work, None, entries=fit, taken=work.taken, given=work.given)
    return View(BATCH_REVERSAL, data, Table(_COLUMNS, rows), meta={"dry_run": True})


def receipt(work: Undoing, done: Batch) -> View[BatchReversalData]:
    """What was reversed: the tokens net of what was given back, because slices are counted so."""
    net = -(done.applied_tokens or 0)
    as_planned = not done.replayed and not done.conflicting and work.too_large == _sums(work.overflows)[0]
    given = work.given if as_planned else max(-net, 0)
    lacking = (done.refused or 0) - work.too_large
    rows: list[tuple[Cell, ...]] = [("reversed", done.applied, net + given, given)]
    rows += [("reversed by others meanwhile", done.replayed, None, None)] if done.replayed else []
    rows += [(_LACKING, lacking, None, None)] if lacking else []
    rows += [(_TOO_LARGE, work.too_large, None, None)] if work.too_large else []
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
        "refused": work.left_out if done is None else done.refused,
        "too_large": _sums(work.overflows)[0] if done is None else work.too_large,
        "shortages": unreversed.as_data(work.shortages),
        "overflows": [
            {"user_id": o.user_id, "balance": o.balance, "given": o.given, "entries": o.entries}
            for o in work.overflows[: unreversed.NAMED]
        ],
        "operator": None if done is None else done.operator,
        "reason": None if done is None else done.reason,
        "at": None if done is None else done.finished_at,
        "undo": commandline.undo_batch(done.batch_id) if done is not None and done.applied else None,
    }


def sentence(work: Undoing) -> str:
    """What is about to be reversed."""
    whole = sum(kind.entries for kind in work.kinds)
    count = f"{whole - work.left_out:,} of {whole:,}" if work.left_out else f"{whole:,}"
    file = f" ({work.original.file_name})" if work.original is not None and work.original.file_name else ""
    entries = f"{count} {fitting(whole, 'entry', 'entries')}"
    tokens = [f"{counted(work.taken, 'token is', 'tokens are')} taken back"] if work.taken or not work.given else []
    tokens += [f"{counted(work.given, 'token is', 'tokens are')} given back"] if work.given else []
    return f"{work.name}{file}: {entries} of {counted(work.plan.users, 'user')}, {' and '.join(tokens)}"


def left_out(work: Undoing) -> list[tuple[str, list[str]]]:
    """What cannot be reversed as things stand: a line for each cause, and one for each user."""
    lines = []
    if work.shortages:
        entries, tokens, _ = _sums(work.shortages)
        what = f"{_entries_of(entries, len(work.shortages))}, {counted(tokens, 'token that is', 'tokens that are')}"
        lines.append((f"left out: {what} spent or held", unreversed.named(work.shortages)))
    if work.overflows:
        whose = _entries_of(_sums(work.overflows)[0], len(work.overflows))
        what = f"left out: {whose}, whose balance would pass {unreversed.MOST}"
        lines.append((what, unreversed.named_overflows(work.overflows)))
    lines += [(f"left out: what batch {work.given_back} gave back", [])] if work.given_back is not None else []
    return lines


def _entries_of(entries: int, users: int) -> str:
    return f"{counted(entries, 'entry', 'entries')} of {counted(users, 'user')}"


def _sums(users: Sequence[LeftOut]) -> tuple[int, int, int]:
    """Entries that are left out, and the tokens that they would take and give."""
    return sum(u.entries for u in users), sum(u.taken for u in users), sum(u.given for u in users)
