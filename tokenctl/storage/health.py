"""What `health` asks of the database: one connection, and one statement for each question.

One attempt only: neither retries nor the breaker stand between, because whether the
database answers now is the question.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.rows import RowFactory, class_row

from tokenctl import address
from tokenctl.errors import TimedOut
from tokenctl.storage import failures
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.migrations import State
from tokenctl.storage.queries import query
from tokenctl.storage.watchdog import Watchdog

T = TypeVar("T")


@dataclass(frozen=True)
class ServerRow:
    """sql/queries/health_server.sql; `lag_s` is the slowest standby's in seconds, None without one or when hidden."""

    in_recovery: bool
    read_only: bool
    writer: bool
    connections: int
    max_connections: int
    standbys: int
    lag_s: float | None
    lag_hidden: bool
    tls: str | None


@dataclass(frozen=True)
class Server:
    """How the server answered. `tls` is the protocol in use; `local` means that no network is in between."""

    version: str
    connect_s: float
    query_s: float
    local: bool
    tls: str | None
    sslmode: str
    row: ServerRow


@dataclass(frozen=True)
class Jobs:
    """sql/queries/health_jobs.sql; ages in seconds by the database's clock."""

    age_s: float | None
    unfinished: int
    oldest_s: float | None
    orphaned: int


@dataclass(frozen=True)
class Durability:
    """sql/queries/health_durability.sql."""

    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    data_checksums: bool
    synchronous_standby_names: str
    standbys: int


@dataclass(frozen=True)
class BadTrigger:
    """sql/queries/health_triggers.sql: `what` ends the sentence that begins with the trigger's name."""

    table_name: str
    trigger: str
    what: str


@dataclass(frozen=True)
class LooseFunction:
    """sql/queries/health_functions.sql."""

    name: str
    unpinned: bool
    open_to_all: bool


@dataclass(frozen=True)
class Privileges:
    """sql/queries/health_privileges.sql."""

    login: str
    superuser: bool
    owner: bool
    owner_logs_in: bool
    creates: bool
    roles: list[str]
    writable: list[str]


class Probe:
    """One connection, made by the first question. Each question takes at most `timeout_s` seconds."""

    def __init__(self, database: Database, *, timeout_s: float) -> None:
        """Connect to nothing yet."""
        self._database = database
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._connect_s = 0.0
        #: Whether it has given an answer.
        self.answered = False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def server(self) -> Server:
        """Connect, and ask what every role may know."""
        connection = self._connected()
        started = time.perf_counter()
        [row] = self._rows(ServerRow, "health_server")
        query_s = time.perf_counter() - started
        version = connection.info.server_version
        options = {o.keyword: o.val for o in connection.pgconn.info}
        return Server(
            version=f"{version // 10000}.{version % 10000}",
            connect_s=self._connect_s,
            query_s=query_s,
            local=address.is_local(connection.info.host),
            # A pooler in between has an encryption of its own to the server: what counts is ours.
            tls=(row.tls or "TLS") if connection.pgconn.ssl_in_use else None,
            sslmode=(options.get(b"sslmode") or b"").decode(),
            row=row,
        )

    def schema(self) -> State:
        """What has been applied; raises SchemaMismatch where there is no ledger."""
        return self._asked(self._database.schema_state)

    def clock(self) -> datetime:
        """What time it is there."""
        [(now,)] = self._asked(lambda connection: connection.execute("SELECT clock_timestamp()").fetchall())
        assert isinstance(now, datetime)  # noqa: S101 — a timestamptz
        return now

    def jobs(self) -> Jobs:
        """The newest import, and unfinished ones."""
        [row] = self._rows(Jobs, "health_jobs")
        return row

    def durability(self) -> Durability:
        """The server's settings on which durability rests."""
        [row] = self._rows(Durability, "health_durability")
        return row

    def bad_triggers(self) -> list[BadTrigger]:
        """Append-only triggers that don't do their work."""
        return self._rows(BadTrigger, "health_triggers")

    def loose_functions(self) -> list[LooseFunction]:
        """Functions that could be misused."""
        return self._rows(LooseFunction, "health_functions")

    def privileges(self) -> Privileges:
        """What the session's role may do."""
        [row] = self._rows(Privileges, "health_privileges")
        return row

    def _connected(self) -> Connection:
        if self._connection is None:
            started = time.perf_counter()
            self._connection = self._database.bare()
            self._connect_s = time.perf_counter() - started
        return self._connection

    def _rows(self, kind: type[T], name: str) -> list[T]:
        make: RowFactory[T] = class_row(kind)

        def ask(connection: Connection) -> list[T]:
            with connection.cursor(row_factory=make) as cursor:
                return cursor.execute(query(name)).fetchall()

        return self._asked(ask)

    def _asked(self, work: Callable[[psycopg.Connection[tuple[Any, ...]]], T]) -> T:
        """The answer of `work`, in time; a server that hangs is cut off, or abandoned threads would pile up."""
        connection = self._connected()
        dog = Watchdog(connection, self._timeout_s)
        try:
            answer = work(connection)
        except psycopg.Error as error:
            if dog.fired:
                raise TimedOut(f"the database did not answer within {self._timeout_s:g} s") from error
            raise failures.working(error, lost=connection.closed) from error
        finally:
            dog.stop()
        self.answered = True
        return answer
