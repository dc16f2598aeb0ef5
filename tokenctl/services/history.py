"""The statement of one account: its entries, the newest first, page by page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tokenctl.errors import UsageError
from tokenctl.models import Entry
from tokenctl.services.balances import demand_past, not_found
from tokenctl.storage.history import TOP, History
from tokenctl.storage.ledger import Ledger

#: Rows that are read in one statement.
PAGE_ROWS = 2_000


@dataclass(frozen=True)
class Wanted:
    """Which entries: from `since` on, before `until`, of one `kind`; at most `limit` from `cursor` on.

    `as_of` is a look at the account as it was at that moment.
    """

    user_id: str
    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
    limit: int = 50
    cursor: str | None = None
    as_of: datetime | None = None


class Statement:
    """The entries asked for, read while one goes through them; `next_cursor` is known after the last."""

    def __init__(self, history: History, wanted: Wanted) -> None:
        """Read the first page; raises UsageError for a cursor of another list."""
        self._history = history
        self._wanted = wanted
        below = TOP if wanted.cursor is None else _below(wanted)
        self._upto = TOP if wanted.as_of is None else history.seq_at(wanted.user_id, wanted.as_of)
        self._first = self._page(min(below, self._upto + 1), wanted.limit + 1)
        self.next_cursor: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no entry is like this."""
        return not self._first[0]

    @property
    def as_of(self) -> datetime | None:
        """The moment of this look; None for now."""
        return self._wanted.as_of

    def __iter__(self) -> Iterator[Entry]:
        """The entries, the newest first."""
        left, seq = self._wanted.limit, TOP
        page, is_last = self._first
        while True:
            for entry in page[:left]:
                seq = entry.seq
                yield entry
            if len(page) > left:
                self.next_cursor = f"{seq}-{_digest(self._wanted, seq)}"
            if is_last or len(page) > left:
                return
            left -= len(page)
            page, is_last = self._page(seq, left + 1)

    def _page(self, below: int, rows: int) -> tuple[list[Entry], bool]:
        """The entries below a seq, as many as one statement reads, and whether no more follow."""
        wanted, rows = self._wanted, min(rows, PAGE_ROWS)
        read = self._history.page(
            wanted.user_id, below=below, upto=self._upto, until=wanted.until, kind=wanted.kind, rows=rows
        )
        # Time never runs against seq, so what follows the first entry that is too old need not be read.
        page = [entry for entry in read if wanted.since is None or entry.created_at >= wanted.since]
        return page, len(page) < rows


def read(history: History, ledger: Ledger, wanted: Wanted, *, ledger_name: str) -> Statement:
    """The entries asked for. Raises UserNotFound, and UsageError for what contradicts itself."""
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise UsageError("--since is not before --until", hint="both are in UTC; a date means the whole day")
    if wanted.as_of is not None:
        demand_past(history.clock(), wanted.as_of)
    statement = Statement(history, wanted)
    if statement.is_empty and wanted.user_id not in ledger.balances([wanted.user_id]):
        raise not_found(ledger, [wanted.user_id], ledger_name=ledger_name)
    return statement


def _below(wanted: Wanted) -> int:
    """The seq in a cursor; raises UsageError when it is none of ours, or another list's."""
    found = re.fullmatch(r"([1-9][0-9]{0,17})-([0-9a-f]{8})", wanted.cursor or "")
    if found is None or found[2] != _digest(wanted, int(found[1])):
        raise UsageError(
            "--cursor: this is no cursor of this list",
            hint="copy the whole command from the line 'more:'; other filters need a list from the beginning",
        )
    return int(found[1])


def _digest(wanted: Wanted, seq: int) -> str:
    parts = [wanted.user_id, wanted.since, wanted.until, wanted.kind, wanted.as_of, seq]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:8]
