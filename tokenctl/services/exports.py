"""Export: every entry of the ledger, or those asked for, as one snapshot has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tokenctl.errors import UsageError
from tokenctl.models import Entry
from tokenctl.services.balances import not_found
from tokenctl.storage.exports import Export, Opening
from tokenctl.storage.ledger import Ledger


@dataclass(frozen=True)
class Wanted:
    """Which entries: one user's or all, from `since` on, before `until`."""

    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Books:
    """What was asked for, read while one goes through it; how much it was is known after the last entry."""

    def __init__(self, export: Export, wanted: Wanted, as_of: datetime) -> None:
        """Entries as `export` has them at `as_of`."""
        self._export = export
        self.wanted = wanted
        self.as_of = as_of
        self.entries = 0
        self.users = 0
        self.tokens = 0

    def openings(self) -> Iterator[Opening]:
        """What users had before `since`, fund by fund; nothing without one."""
        if self.wanted.since is not None:
            yield from self._export.openings(self.wanted.user_id, self.wanted.since)

    def __iter__(self) -> Iterator[Entry]:
        """The entries in the order of users, each user's oldest first."""
        wanted, user = self.wanted, None
        for entry in self._export.entries(wanted.user_id, wanted.since, wanted.until):
            self.entries += 1
            self.tokens += entry.amount
            if entry.user_id != user:
                user = entry.user_id
                self.users += 1
            yield entry


def read(export: Export, ledger: Ledger, wanted: Wanted, *, ledger_name: str) -> Books:
    """The books as they are now. Raises UserNotFound, and UsageError for times that contradict each other."""
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise UsageError("--since is not before --until", hint="both are in UTC; a date means the whole day")
    if wanted.user_id is not None and wanted.user_id not in ledger.balances([wanted.user_id]):
        raise not_found(ledger, [wanted.user_id], ledger_name=ledger_name)
    return Books(export, wanted, export.open())
