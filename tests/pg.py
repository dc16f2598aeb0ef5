"""Real PostgreSQL for tests: one server a worker, a template with the ledger, a fresh clone a test.

Tests that take `ledger_db` get a database on the embedded server (PostgreSQL 18); those
that take `each_db` run on Debian's 15 as well. Four partitions instead of thirty-two:
cloning then costs 50 ms instead of 280.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.require import missing
from tokenctl.storage import migrations
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer, options

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
LOGINS = {
    "reader1": "tokenctl_reader",
    "support1": "tokenctl_support",
    "support2": "tokenctl_support",
    "batch1": "tokenctl_batch",
    "batch2": "tokenctl_batch",
    "admin1": "tokenctl_admin",
}
# Every clone, connection and drop costs the more the larger this is: 46 ms together with 3 GB, 33 with this.
SHARED_BUFFERS_MB = 128
_names = itertools.count()

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Server:
    """A running server that has a template database `ledger_template`."""

    embedded: EmbeddedServer

    def conninfo(self, user: str, dbname: str) -> str:
        return self.embedded.conninfo(user=user, dbname=dbname)


@dataclass(frozen=True)
class LedgerDB:
    """One test's own database with an empty ledger; connections are closed with it."""

    server: Server
    name: str
    _open: list[Connection]

    def conninfo(self, user: str = "support1") -> str:
        return self.server.conninfo(user, self.name)

    def connect(self, user: str = "postgres") -> Connection:
        connection = psycopg.connect(self.conninfo(user), autocommit=True)
        self._open.append(connection)
        return connection

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement, as the superuser."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def check(self) -> None:
        """The invariants that hold after every test: see CONTRIBUTING.md."""
        check(self.rows)


def check(rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """The same for a ledger elsewhere; `rows` answers a statement there."""
    assert rows(_BROKEN) == []
    assert rows("SELECT sum(balance) FROM tokenctl.token_accounts") == rows(
        "SELECT -sum(balance) FROM tokenctl.token_funds"
    )


_BROKEN = """
SELECT coalesce(a.user_id, t.user_id), a.balance, t.total FROM tokenctl.token_accounts a FULL JOIN (
  SELECT user_id, sum(amount) AS total, count(*) AS n, max(seq) AS last, min(seq) AS first,
    bool_and(balance_after = running) AS sums, bool_and(created_at >= previous) AS times
  FROM (SELECT *, sum(amount) OVER w AS running, coalesce(lag(created_at) OVER w, created_at) AS previous
        FROM tokenctl.token_transactions WINDOW w AS (PARTITION BY user_id ORDER BY seq)) x
  GROUP BY user_id) t USING (user_id)
WHERE a.user_id IS NULL OR a.balance <> coalesce(t.total, 0) OR a.last_seq <> coalesce(t.n, 0)
  OR t.last <> t.n OR t.first <> 1 OR NOT t.sums OR NOT t.times
"""


def _serve(bin_dir: Path | None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tk-pg-", dir=_fast_folder()) as folder:
        server = EmbeddedServer(EmbeddedPaths(Path(folder) / "pg", bin_dir))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(options, "shared_buffers_mb", lambda _memory_bytes: SHARED_BUFFERS_MB)
            server.ensure_running(deadline_s=120)
        try:
            _make_template(server)
            yield Server(server)
        finally:
            server.stop("immediate", deadline_s=60)


def _fast_folder() -> str | None:
    """Memory where there is plenty: no test here cuts the power, and a clone is some three hundred files."""
    shm = Path("/dev/shm")  # noqa: S108 — a private folder is made in it
    roomy = shm.is_dir() and (space := os.statvfs(shm)).f_bavail * space.f_frsize > 4 * 1024**3
    return str(shm) if roomy else None


def _make_template(server: EmbeddedServer) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE ledger_template")
    with psycopg.connect(server.conninfo(dbname="ledger_template"), autocommit=True) as connection:
        migrations.migrate(connection, partitions=4)
        for login, role in LOGINS.items():
            connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}".encode())
        connection.execute("CREATE ROLE stranger LOGIN")


def _clone(server: Server) -> Iterator[LedgerDB]:
    name = f"ledger_{next(_names)}"
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE ledger_template".encode())
        database = LedgerDB(server, name, [])
        try:
            yield database
        finally:
            for opened in database._open:  # noqa: SLF001 — its own list, closed where it was made
                opened.close()
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def server(_clean_session: None) -> Iterator[Server]:
    """PostgreSQL 18, from the wheel."""
    yield from _serve(None)


@pytest.fixture(scope="session")
def server_15(_clean_session: None) -> Iterator[Server]:
    """PostgreSQL 15, Debian's: the oldest that tokenctl supports."""
    if not DEBIAN_15.is_dir():
        missing("PostgreSQL 15 is not installed; on Debian: apt install postgresql-15")
    yield from _serve(DEBIAN_15)


@pytest.fixture
def ledger_db(server: Server) -> Iterator[LedgerDB]:
    """An empty ledger on PostgreSQL 18."""
    yield from _clone(server)


@pytest.fixture(params=["18", "15"])
def each_db(request: pytest.FixtureRequest) -> Iterator[LedgerDB]:
    """An empty ledger on the newest and on the oldest PostgreSQL."""
    yield from _clone(request.getfixturevalue("server" if request.param == "18" else "server_15"))


Post = Callable[..., tuple[Any, ...]]


def post(connection: Connection, user: str = "u1", amount: int = 10, **given: object) -> dict[str, Any]:
    """Call tokenctl.post_v1 and answer the receipt by column name."""
    values = {
        "kind": "bonus", "reason": "test", "note": None, "ticket": None, "campaign": None, "key": None,
        "request_id": "request", "claimed_by": "me@here", "new_user": True, **given, "user": user, "amount": amount,
    }  # fmt: skip
    return call(
        connection,
        "SELECT (r).* FROM tokenctl.post_v1(%(user)s, %(kind)s, %(amount)s, %(reason)s, %(note)s, %(ticket)s,"
        " %(campaign)s, %(key)s, %(request_id)s, %(claimed_by)s, %(new_user)s) AS r",
        values,
    )


def reverse(connection: Connection, user: str, seq: int, **given: object) -> dict[str, Any]:
    """Call tokenctl.reverse_v1 and answer the receipt by column name."""
    values = {
        "reason": "mistake", "note": None, "ticket": None, "key": None, "request_id": "undo", "claimed_by": "me@here",
        **given, "user": user, "seq": seq,
    }  # fmt: skip
    return call(
        connection,
        "SELECT (r).* FROM tokenctl.reverse_v1(%(user)s, %(seq)s, %(reason)s, %(note)s, %(ticket)s, %(key)s,"
        " %(request_id)s, %(claimed_by)s) AS r",
        values,
    )


def call(connection: Connection, statement: str, values: dict[str, object]) -> dict[str, Any]:
    """One row by column name."""
    cursor = connection.execute(statement.encode(), values)
    row = cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    return dict(zip((column.name for column in cursor.description), row, strict=True))


def hold(db: LedgerDB, user: str, amount: int, *, seconds: int = 60, hold_id: str = "h1", state: str = "open") -> None:
    """Put a hold on tokens, as a generation will; negative seconds: past its deadline."""
    db.rows(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, state, expires_at, purpose, idempotency_key,"
        " operator, claimed_by, request_id, settled_at) VALUES (%s, %s, %s, %s,"
        " clock_timestamp() + %s * interval '1 s', 'test', %s, 'x', 'x', 'x',"
        " CASE WHEN %s <> 'open' THEN clock_timestamp() END)",
        user, hold_id, amount, state, seconds, hold_id, state,
    )  # fmt: skip
