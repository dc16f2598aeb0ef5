"""How a balance came about: from zero, source by source, to what can be spent now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from tokenctl import commandline
from tokenctl.errors import LedgerBroken
from tokenctl.services.balances import demand_past, not_found
from tokenctl.storage.history import History, Part
from tokenctl.storage.ledger import Ledger
from tokenctl.wording import counted

#: Open holds that are named; the others are counted.
HOLDS = 20
#: Sources of one kind that are named; the others are summed.
SOURCES = 12
#: Where tokens come from and go to, in the order of a waterfall.
KINDS = ("purchase", "bonus", "adjustment", "generation")


@dataclass(frozen=True)
class Source:
    """Where tokens came from or went to: what was posted, and what reversals took out of it; in tokens."""

    kind: str
    name: str | None
    entries: int
    tokens: int
    reversals: int
    reversed: int
    last_seq: int | None
    last_at: datetime | None

    @property
    def net(self) -> int:
        """What is left of it today."""
        return self.tokens + self.reversed


@dataclass(frozen=True)
class Held:
    """Tokens promised to a running job until its deadline."""

    hold_id: str
    purpose: str
    tokens: int
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Explanation:
    """A balance and what it is made of, at the moment `as_of` by the database's clock; in tokens.

    `balance` and `last_seq` are what the account says, `total` and `entries` what its rows do. Of
    a moment that is `past` the account is not kept: there it is its last entry of then.
    """

    user_id: str
    balance: int
    last_seq: int
    as_of: datetime
    last_at: datetime | None
    entries: int
    total: int
    sources: tuple[Source, ...]
    holds: tuple[Held, ...]
    open_holds: int
    held: int
    past: bool = False

    @property
    def available(self) -> int:
        """What can be spent now."""
        return max(self.balance - self.held, 0)

    @property
    def difference(self) -> int:
        """How much the account says more than its rows; 0 in a sound ledger."""
        return self.balance - self.total

    def trouble(self) -> LedgerBroken | None:
        """The error to end with when account and rows disagree."""
        if not self.difference and self.entries == self.last_seq:
            return None
        return LedgerBroken(
            f"THE NUMBERS OF {self.user_id} DO NOT AGREE: the {'last entry' if self.past else 'account'} says"
            f" {counted(self.balance, 'token')} after {counted(self.last_seq, 'entry', 'entries')},"
            f" its {counted(self.entries, 'entry sums', 'entries sum')} to {self.total:,}",
            hint="promise and change nothing for this user;"
            f" {commandline.line('verify', '--user', self.user_id)} says what is wrong",
            difference=self.difference,
        )


def explain(
    history: History, ledger: Ledger, user_id: str, *, ledger_name: str, at: datetime | None = None
) -> Explanation:
    """What the user's balance is, or was `at` a moment, made of; raises UserNotFound, and UsageError for the future."""
    if at is not None:
        demand_past(history.clock(), at)
    parts = history.parts(user_id, holds=HOLDS, at=at)
    if not parts:
        raise not_found(ledger, [user_id], ledger_name=ledger_name)
    by_part = {name: [part for part in parts if part.part == name] for name in ("account", "entries", "source", "hold")}
    [account], [rows], holds = by_part["account"], by_part["entries"], by_part["hold"]
    assert account.until is not None  # noqa: S101 — the statement's clock
    return Explanation(
        user_id=user_id,
        balance=account.tokens,
        last_seq=account.entries,
        as_of=account.until,
        last_at=rows.at,
        entries=rows.entries,
        total=rows.tokens,
        sources=tuple(_sources(by_part["source"], rows)),
        holds=tuple(Held(h.kind or "", h.name or "", h.tokens, h.at, h.until) for h in holds if h.at and h.until),
        open_holds=holds[0].entries if holds else 0,
        held=holds[0].reversed if holds else 0,
        past=at is not None,
    )


def _sources(parts: Iterable[Part], rows: Part) -> list[Source]:
    """The sources in the order of a waterfall, the largest of a kind first, and what none of them accounts for."""
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    every = [
        Source(p.kind or "", p.name, p.entries, p.tokens, p.reversals, p.reversed, p.last_seq, p.at) for p in parts
    ]
    every.sort(key=lambda s: (kinds.get(s.kind, len(kinds)), -abs(s.tokens), s.name or ""))
    shown = [source for kind, group in groupby(every, key=lambda s: s.kind) for source in _folded(kind, list(group))]
    rest = rows.tokens - sum(source.net for source in shown)
    if rest:  # a reversal of a row that is gone
        shown.append(Source("unexplained", None, 0, rest, 0, 0, None, None))
    return shown


def _folded(kind: str, sources: list[Source]) -> list[Source]:
    """At most SOURCES sources; the smallest are summed as one without a name."""
    if len(sources) <= SOURCES:
        return sources
    rest = sources[SOURCES - 1 :]
    newest = max(rest, key=lambda s: s.last_seq or 0)
    entries, tokens = sum(s.entries for s in rest), sum(s.tokens for s in rest)
    reversals, taken = sum(s.reversals for s in rest), sum(s.reversed for s in rest)
    folded = Source(kind, None, entries, tokens, reversals, taken, newest.last_seq, newest.last_at)
    return [*sources[: SOURCES - 1], folded]
