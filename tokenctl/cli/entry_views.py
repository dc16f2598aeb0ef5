"""What entries of the ledger look like: a statement, and one transaction whole."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tokenctl.output import Cell, Column, Count, EntryName, Listing, Meta, Named, Schema, Table, Tokens, TypedDict, View
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.models import Entry
    from tokenctl.services.history import Statement
    from tokenctl.services.transactions import Transaction

_STATEMENT = (
    Column("ID"),
    Column("AT"),
    Column("AMOUNT", number=True, signed=True),
    Column("BALANCE", number=True),
    Column("KIND", optional=True),
    Column("REASON"),
    Column("REVERSED BY", optional=True, telling=True),
    Column("REVERSES", optional=True),
    Column("TICKET", optional=True),
    Column("OPERATOR", optional=True),
    Column("BATCH", optional=True),
    Column("NOTE", optional=True),
)


class PostedData(TypedDict):
    """One entry of the ledger, as it was posted."""

    id: EntryName
    user_id: str
    seq: Count
    at: datetime
    amount: Tokens
    balance_before: Tokens
    balance: Tokens
    kind: str
    reason: str
    note: str | None
    ticket: str | None
    campaign: str | None
    operator: str
    claimed_by: str
    request_id: str
    idempotency_key: str
    batch_id: str | None
    reverses: EntryName | None


class EntryData(PostedData):
    """One entry of the ledger.

    `reversed_by` is the entry that reverses it, null where none does; whether that one still stands, `show` tells.
    """

    reversed_by: EntryName | None


class HistoryMeta(Meta):
    """The run, where the list goes on (null at its end), and the moment that it is of; null for now."""

    next_cursor: str | None
    as_of: datetime | None


HISTORY = Schema("tokenctl.history.v1", list[EntryData], meta=HistoryMeta)


def statement(entries: Statement) -> Listing[EntryData]:
    """The entries of one account, the newest first."""
    rows = ((entry_data(entry), _cells(entry)) for entry in entries)
    meta = lambda: {"next_cursor": entries.next_cursor, "as_of": entries.as_of}  # noqa: E731 — known after the last row
    return Listing(HISTORY, _STATEMENT, rows, meta, trend="BALANCE")


def _cells(entry: Entry) -> tuple[Cell, ...]:
    return (
        entry.name,
        entry.created_at,
        entry.amount,
        entry.balance_after,
        entry.kind,
        entry.reason,
        _name(entry, entry.reversed_by),
        _name(entry, entry.reverses_seq),
        entry.ticket,
        entry.operator,
        entry.batch_id,
        entry.note,
    )


def entry_data(entry: Entry) -> EntryData:
    """An entry for programs, and what became of it."""
    return {**posted_data(entry), "reversed_by": _name(entry, entry.reversed_by)}


def posted_data(entry: Entry) -> PostedData:
    """An entry for programs."""
    return {
        "id": entry.name,
        "user_id": entry.user_id,
        "seq": entry.seq,
        "at": entry.created_at,
        "amount": entry.amount,
        "balance_before": entry.balance_after - entry.amount,
        "balance": entry.balance_after,
        "kind": entry.kind,
        "reason": entry.reason,
        "note": entry.note,
        "ticket": entry.ticket,
        "campaign": entry.campaign,
        "operator": entry.operator,
        "claimed_by": entry.claimed_by,
        "request_id": entry.request_id,
        "idempotency_key": entry.idempotency_key,
        "batch_id": entry.batch_id,
        "reverses": _name(entry, entry.reverses_seq),
    }


class ReversalEntry(TypedDict):
    """An entry of a chain of reversals."""

    id: EntryName
    at: datetime
    amount: Tokens
    reason: str
    operator: str


class TransactionData(EntryData):
    """One entry, whether it `stands` today, and how to undo it, or how many tokens are missing for that."""

    stands: bool
    reversals: list[ReversalEntry]
    fingerprint: str
    undo: str | None
    undo_missing: Tokens | None


TRANSACTION = Schema("tokenctl.transaction.v1", TransactionData)


def transaction(found: Transaction, fingerprint: str) -> View[TransactionData]:
    """One transaction whole, whether it counts today, and how to undo it."""
    entry = found.entry
    data: TransactionData = {
        **entry_data(entry),
        "stands": found.stands,
        "reversals": [
            {"id": r.name, "at": r.created_at, "amount": r.amount, "reason": r.reason, "operator": r.operator}
            for r in found.reversals
        ],
        "fingerprint": fingerprint,
        "undo": found.undo,
        "undo_missing": found.missing,
    }
    missing = counted(found.missing or 0, "token is", "tokens are")
    pairs: dict[str, Cell] = {
        "TRANSACTION": entry.name,
        "STATE": _state(found),
        "KIND": entry.kind,
        "AMOUNT": entry.amount,
        "BEFORE": entry.balance_after - entry.amount,
        "AFTER": entry.balance_after,
        "AT": entry.created_at,
        "REASON": entry.reason,
        "NOTE": entry.note,
        "TICKET": entry.ticket,
        "CAMPAIGN": entry.campaign,
        "BATCH": entry.batch_id,
        "BY": f"{entry.operator} ({entry.claimed_by})",
        "REVERSES": _reverses(found),
        "REVERSED BY": _reversed_by(found),
        "KEY": entry.idempotency_key,
        "REQUEST": entry.request_id,
        "FINGERPRINT": fingerprint,
        "UNDO": found.undo or (f"not now: {missing} spent or held" if found.missing else None),
    }
    columns = [Column(heading, signed=heading == "AMOUNT") for heading in pairs]
    return View(TRANSACTION, data, Table(columns, [tuple(pairs.values())], pairs=True))


def _state(found: Transaction) -> str:
    if not found.reversals:
        return "counts"
    last = found.reversals[-1].name
    return f"counts again: {last} reversed its reversal" if found.stands else f"undone by {last}"


def _reverses(found: Transaction) -> Named | None:
    """What the entry reverses, and whether that reversal stands."""
    name = _name(found.entry, found.entry.reverses_seq)
    if name is None:
        return None
    return Named(name, f"{name}, and stands" if found.stands else f"{name}, and was reversed itself")


def _reversed_by(found: Transaction) -> Named | None:
    """The entry that reverses this one, and what became of that."""
    if not found.reversals:
        return None
    return Named(found.reversals[0].name, "; ".join(map(_reversal, found.reversals)))


def _reversal(entry: Entry) -> str:
    return f"{entry.name} ({entry.created_at:%Y-%m-%d %H:%M} UTC, {entry.operator}, {entry.reason})"


def _name(entry: Entry, seq: int | None) -> str | None:
    return None if seq is None else f"{entry.user_id}:{seq}"
