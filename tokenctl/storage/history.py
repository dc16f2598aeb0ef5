"""What the ledger says of one user: entries, their reversals, and what a balance is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg.rows import class_row

from tokenctl.models import Entry
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.queries import query

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One row of sql/queries/account_parts.sql, where its columns are explained; tokens as whole numbers."""

    part: str
    kind: str | None
    name: str | None
    entries: int
    tokens: int
    reversals: int
    reversed: int
    last_seq: int | None
    at: datetime | None
    until: datetime | None


#: Above every seq.
TOP = 2**63 - 1


class History:
    """Reads of one user's rows; each is one statement on one partition."""

    def __init__(self, database: Database) -> None:
        """Read from `database` when asked."""
        self._database = database

    def clock(self) -> datetime:
        """The database's time, in UTC."""

        def now(connection: Connection) -> datetime:
            [(at,)] = connection.execute("SELECT clock_timestamp()").fetchall()
            return at.astimezone(UTC)  # type: ignore[no-any-return]  # the driver's rows are untyped

        return self._database.run("clock", now)

    def seq_at(self, user_id: str, at: datetime) -> int:
        """The seq of the user's last entry at a moment; 0 when there was none."""
        values = {"account": user_id, "at": at}
        row = self._database.run("seq_at", lambda c: c.execute(query("seq_at"), values).fetchone())
        return int(row[0]) if row else 0

    def page(
        self,
        user_id: str,
        *,
        below: int,
        upto: int = TOP,
        until: datetime | None = None,
        kind: str | None = None,
        rows: int,
    ) -> list[Entry]:
        """At most `rows` entries with a seq under `below`, the newest first; made before `until`, of one `kind`.

        Reversals above the seq `upto` are not told.
        """
        values = {"account": user_id, "below": below, "upto": upto, "until": until, "kind": kind, "rows": rows}
        return self._all("history", Entry, "history", values)

    def chain(self, user_id: str, seq: int) -> list[Entry]:
        """The entry, what reversed it, what reversed that, and so on; empty when there is none."""
        return self._all("show", Entry, "reversal_chain", {"account": user_id, "seq": seq})

    def parts(self, user_id: str, *, holds: int, at: datetime | None = None) -> list[Part]:
        """What the balance is, or was `at` a moment, made of; empty for an unknown user.

        At most `holds` open holds are named.
        """
        upto = TOP if at is None else self.seq_at(user_id, at)
        values = {"account": user_id, "holds": holds, "at": at, "upto": upto}
        found = self._all("explain", Part, "account_parts", values)
        return found if any(part.part == "account" for part in found) else []

    def _all(self, operation: str, kind: type[T], name: str, values: Mapping[str, Any]) -> list[T]:
        def rows(connection: Connection) -> list[T]:
            with connection.cursor(row_factory=class_row(kind)) as cursor:
                return cursor.execute(query(name), values).fetchall()

        return self._database.run(operation, rows)
