"""The statement of an account for a month: what it had, what happened, what it has at the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tokenctl import commandline
from tokenctl.errors import LedgerBroken, UsageError
from tokenctl.models import Entry
from tokenctl.services import history as histories
from tokenctl.storage.history import TOP, History
from tokenctl.storage.ledger import Ledger

#: Entries that a statement holds at most; they are in memory together.
MOST_ENTRIES = 100_000


@dataclass(frozen=True)
class Month:
    """An account from `since` on and before `until`, the oldest entry first, as it was at `as_of`; in tokens."""

    user_id: str
    since: datetime
    until: datetime
    as_of: datetime
    opening: int
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """The month, such as 2026-11."""
        return f"{self.since:%Y-%m}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen in it."""
        return self.until <= self.as_of

    @property
    def added(self) -> int:
        """Tokens that came."""
        return sum(entry.amount for entry in self.entries if entry.amount > 0)

    @property
    def taken(self) -> int:
        """Tokens that went, as a number below zero."""
        return sum(entry.amount for entry in self.entries if entry.amount < 0)

    @property
    def closing(self) -> int:
        """The balance at its end, or so far."""
        return self.opening + self.added + self.taken

    def adds_up(self) -> bool:
        """Whether every entry follows from the one before it."""
        balance = self.opening
        for entry in self.entries:
            balance += entry.amount
            if entry.balance_after != balance:
                return False
        return True


def read(history: History, ledger: Ledger, user_id: str, since: datetime, *, ledger_name: str) -> Month:
    """The month that begins at `since`.

    Raises UserNotFound, UsageError for a month that has not begun or has more than
    MOST_ENTRIES, and LedgerBroken when its entries do not add up.
    """
    as_of = history.clock()
    if since > as_of:
        raise UsageError(f"{since:%Y-%m} has not begun", hint=f"it is {as_of:%Y-%m-%d} in the database, in UTC")
    until = (since + timedelta(days=31)).replace(day=1)
    wanted = histories.Wanted(user_id, since, until, limit=MOST_ENTRIES)
    # The newest first: what is posted meanwhile comes before the first page and is not seen.
    found = histories.read(history, ledger, wanted, ledger_name=ledger_name)
    entries = tuple(reversed(list(found)))
    if found.next_cursor is not None:
        raise UsageError(
            f"{user_id} has more than {MOST_ENTRIES:,} entries in {since:%Y-%m}; a statement holds no more",
            hint=f"{commandline.line('export', '--user', user_id, '--since', f'{since:%Y-%m-%d}', '--format', 'csv')}"
            " has all of them",
        )
    month = Month(user_id, since, until, as_of, _opening(history, user_id, since, entries), entries)
    if not month.adds_up():
        raise LedgerBroken(
            f"the entries of {user_id} in {month.name} do not add up, so there is no statement",
            hint=f"{commandline.line('verify', '--user', user_id)} says where",
        )
    return month


def _opening(history: History, user_id: str, since: datetime, entries: tuple[Entry, ...]) -> int:
    """What the account had before the month."""
    before = entries[0].seq if entries else TOP
    last = history.page(user_id, below=before, until=since, rows=1)
    return last[0].balance_after if last else 0
