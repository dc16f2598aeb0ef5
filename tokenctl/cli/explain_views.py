"""What the explanation of a balance looks like: a waterfall from zero to what can be spent."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tokenctl.output import Ago, Cell, Column, Count, EntryName, Schema, Table, Tokens, TypedDict, View

if TYPE_CHECKING:
    from tokenctl.services.explanations import Explanation, Source

_COLUMNS = (
    Column("WHAT"),
    Column("TOKENS", number=True, signed=True),
    Column("SUM", number=True),
    Column("AGE", number=True, optional=True),
    Column("ENTRIES", number=True, optional=True),
    Column("LAST", optional=True),
)


class SourceData(TypedDict):
    """Where tokens came from or went to, and what reversals took out of it again; `net` is what is left."""

    kind: str
    name: str | None
    entries: Count
    tokens: Tokens
    reversals: Count
    reversed: Tokens
    net: Tokens
    last_id: EntryName | None
    last_change: datetime | None


class HeldData(TypedDict):
    """Tokens that are promised to a running job until its deadline."""

    hold_id: str
    purpose: str
    tokens: Tokens
    since: datetime
    until: datetime


class AccountSays(TypedDict):
    """What the account says."""

    balance: Tokens
    entries: Count


class RowsSay(TypedDict):
    """What its entries come to."""

    sum: Tokens
    entries: Count


class CheckData(TypedDict):
    """Whether the account and its entries agree; `difference` is how much the account says more."""

    agrees: bool
    account: AccountSays
    rows: RowsSay
    difference: Tokens


class ExplainData(TypedDict):
    """A balance and what it is made of, at `as_of` by the database's clock; `past` when a moment was asked for."""

    user_id: str
    as_of: datetime
    past: bool
    sources: list[SourceData]
    balance: Tokens
    last_change: datetime | None
    last_id: EntryName | None
    holds: list[HeldData]
    open_holds: Count
    held: Tokens
    available: Tokens
    check: CheckData


EXPLAIN = Schema("tokenctl.explain.v1", ExplainData)


def explanation(found: Explanation) -> View[ExplainData]:
    """Source by source to the balance, then hold by hold to what is available."""
    return View(EXPLAIN, _data(found), Table(_COLUMNS, _rows(found)), value=str(found.balance))


def _rows(found: Explanation) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    total = 0
    for source in found.sources:
        age, last = _age(found, source.last_at), _name(found, source.last_seq)
        total += source.tokens
        rows.append((_title(source), source.tokens, total, age, source.entries, last))
        if source.reversals:
            total += source.reversed
            rows.append(("  reversed of it", source.reversed, total, None, source.reversals, None))
    age, last = _age(found, found.last_at), _name(found, found.last_seq or None)
    rows.append(("= balance", None, found.balance, age, found.entries, last))
    total = found.balance
    for hold in found.holds:
        total -= hold.tokens
        rows.append((f"held: {hold.purpose}", -hold.tokens, total, _age(found, hold.until), None, hold.hold_id))
    named = sum(hold.tokens for hold in found.holds)
    if found.held > named:
        total -= found.held - named
        rows.append((f"held: {found.open_holds - len(found.holds)} more", named - found.held, total, None, None, None))
    rows.append(("= available", None, found.available, None, None, None))
    return rows


def _title(source: Source) -> str:
    if source.kind == "unexplained":
        return "NOT EXPLAINED"
    return f"{source.kind}: {source.name or 'others'}"


def _age(found: Explanation, when: datetime | None) -> Cell:
    return None if when is None else Ago(when, found.as_of)


def _name(found: Explanation, seq: int | None) -> str | None:
    return None if seq is None else f"{found.user_id}:{seq}"


def _data(found: Explanation) -> ExplainData:
    return {
        "user_id": found.user_id,
        "as_of": found.as_of,
        "past": found.past,
        "sources": [_source(found, source) for source in found.sources],
        "balance": found.balance,
        "last_change": found.last_at,
        "last_id": _name(found, found.last_seq or None),
        "holds": [
            {"hold_id": h.hold_id, "purpose": h.purpose, "tokens": h.tokens, "since": h.since, "until": h.until}
            for h in found.holds
        ],
        "open_holds": found.open_holds,
        "held": found.held,
        "available": found.available,
        "check": {
            "agrees": found.trouble() is None,
            "account": {"balance": found.balance, "entries": found.last_seq},
            "rows": {"sum": found.total, "entries": found.entries},
            "difference": found.difference,
        },
    }


def _source(found: Explanation, source: Source) -> SourceData:
    return {
        "kind": source.kind,
        "name": source.name,
        "entries": source.entries,
        "tokens": source.tokens,
        "reversals": source.reversals,
        "reversed": source.reversed,
        "net": source.net,
        "last_id": _name(found, source.last_seq),
        "last_change": source.last_at,
    }
