"""Reading imports and reversals; storage/imports.py is where they are made."""

from __future__ import annotations

from psycopg.rows import class_row

from tokenctl.models import BatchStanding, Finding
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.queries import query


class Batches:
    """Imports and reversals as they stand now."""

    def __init__(self, database: Database) -> None:
        """Read from `database` when asked."""
        self._database = database

    def newest(self, *, rows: int, standing: str | None = None) -> list[BatchStanding]:
        """At most `rows` batches, the newest first, all of one `standing` if it is given."""
        return self._read(batch=None, standing=standing, rows=rows)

    def one(self, batch_id: str) -> BatchStanding | None:
        """The batch of that id, or None."""
        found = self._read(batch=batch_id, standing=None, rows=1)
        return found[0] if found else None

    def findings(self, batch_id: str) -> list[Finding]:
        """Rows that the ledger did not take when they were posted, by line; at most a hundred."""

        def rows(connection: Connection) -> list[Finding]:
            with connection.cursor(row_factory=class_row(Finding)) as cursor:
                return cursor.execute(query("lane_findings"), {"batch": batch_id}).fetchall()

        return self._database.run("lane_findings", rows)

    def _read(self, **values: str | int | None) -> list[BatchStanding]:
        def rows(connection: Connection) -> list[BatchStanding]:
            with connection.cursor(row_factory=class_row(BatchStanding)) as cursor:
                return cursor.execute(query("batches"), values).fetchall()

        return self._database.run("batches", rows)
