"""The whole ledger out of the database, in one snapshot and a block of rows at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from psycopg.rows import class_row

from tokenctl.errors import TokenctlError
from tokenctl.models import Entry
from tokenctl.resilience.retry import ONCE
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.queries import query

#: Rows that are in memory at once.
BLOCK_ROWS = 5_000

# Whoever reads our output may be slow, which is no reason to end the transaction.
_SETTINGS = """
SET LOCAL timezone = 'UTC';
SET LOCAL jit = off;
SET LOCAL idle_in_transaction_session_timeout = 0;
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Opening:
    """What a user had of one fund before a moment; in tokens."""

    user_id: str
    kind: str
    tokens: int


class Export:
    """One snapshot of the entries; sees nothing that is committed after `open`."""

    def __init__(self, database: Database) -> None:
        """Connect to nothing yet."""
        self._database = database
        self._connection: Connection | None = None

    def close(self) -> None:
        """Let go of the snapshot."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def open(self) -> datetime:
        """Take the snapshot; its moment, by the database's clock."""
        self._connection = self._database.run("connect", lambda c: c, ONCE, connection=self._database.connect)
        with self._database.timed("snapshot"), self._database.watched(self._connection) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(_SETTINGS)
            [(at,)] = connection.execute("SELECT clock_timestamp()").fetchall()
        return at  # type: ignore[no-any-return]  # the driver's rows are untyped

    def openings(self, user_id: str | None, before: datetime) -> Iterator[Opening]:
        """What each user had before a moment, fund by fund, in the order of users."""
        return self._each("export_openings", Opening, {"account": user_id, "before": before})

    def entries(self, user_id: str | None, since: datetime | None, until: datetime | None) -> Iterator[Entry]:
        """Entries from `since` on and before `until` in the order of users, each user's oldest first.

        `reversed_by` is left empty: `reverses_seq` says it from the other side.
        """
        return self._each("export_entries", Entry, {"account": user_id, "since": since, "until": until})

    def _each(self, name: str, kind: type[T], values: Mapping[str, Any]) -> Iterator[T]:
        assert self._connection is not None, "open comes first"  # noqa: S101 — a mistake of ours
        cursor = self._connection.cursor(name, row_factory=class_row(kind))
        try:
            with self._database.timed(name), self._database.watched(self._connection):
                cursor.execute(query(name), values)
                rows = cursor.fetchmany(BLOCK_ROWS)
            while rows:
                yield from rows
                # Not while somebody reads what we gave out.
                with self._database.timed(name), self._database.watched(self._connection):
                    rows = cursor.fetchmany(BLOCK_ROWS)
        finally:
            with contextlib.suppress(TokenctlError), self._database.watched(self._connection):
                cursor.close()
