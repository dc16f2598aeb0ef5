"""Whole commands through PgBouncer in transaction mode, where each transaction may meet another backend."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import TOKENCTL, CommandLine, environment, run
from tests.faults.servers import Own, free_port
from tests.pg import LOGINS
from tests.require import tool
from tests.waiting import until
from tokenctl.storage.embedded import binaries

NEW = ("--new-user", "--yes")


@dataclass
class Pooler:
    """A PgBouncer in front of a server, and where it listens."""

    server: Own
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: object) -> None:
        """Serve, with few connections to the server unless `settings` say otherwise."""
        given: dict[str, object] = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "pool_mode": "transaction",
            "auth_type": "trust", "auth_file": self.folder / "users", "default_pool_size": 4,
            "server_login_retry": 1, "logfile": self.folder / "log", **settings,
        }  # fmt: skip
        if os.geteuid() == 0:
            given["user"] = "nobody"
        (self.folder / "users").write_text("".join(f'"{login}" "right"\n' for login in LOGINS))
        (self.folder / "log").touch()
        (self.folder / "log").chmod(0o666)
        where = f"* = host=127.0.0.1 port={self.server.port}"
        file = self.folder / "pgbouncer.ini"
        file.write_text("\n".join(["[databases]", where, "[pgbouncer]", *(f"{k} = {v}" for k, v in given.items()), ""]))
        self.process = subprocess.Popen([tool("pgbouncer"), "-q", str(file)], stderr=subprocess.DEVNULL)
        until(self.listens, "PgBouncer listens")

    def listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0

    def address(self, user: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={user} dbname=tokenctl"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def pooler(own: Own) -> Iterator[Pooler]:
    with tempfile.TemporaryDirectory(prefix="tk-pool-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        made = Pooler(own, Path(folder))
        try:
            yield made
        finally:
            made.stop()


def as_login(line: CommandLine, pooler: Pooler, user: str) -> CommandLine:
    line.patch.setenv("TOKENCTL_DATABASE_URL", pooler.address(user))
    return line


def write_file(rows: int = 600) -> None:
    lines = (f"u{n % 50},{1 + n % 9},promo,k{n}\n" for n in range(rows))
    Path("grants.csv").write_text("user_id,amount,reason,idempotency_key\n" + "".join(lines))


def test_whole_commands_through_it(
    own: Own, line: CommandLine, pooler: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them several times, so that they meet backends that others have used before."""
    monkeypatch.setattr("tokenctl.storage.imports.SLICE_ROWS", 16)
    pooler.start()
    write_file()
    total = sum(1 + n % 9 for n in range(600))
    names = set()
    for round_ in range(3):
        support = as_login(line, pooler, "support1")
        assert support("grant-bonus", "u1", "--amount", "5", "--reason", "x", "--ticket", f"t{round_}", *NEW).code == 0
        assert support("balance", "u1", "--fresh", "--format", "value").code == 0
        assert support("verify").code == 0
        batch = as_login(line, pooler, "batch1")
        got = batch("batch-import", "grants.csv", "--yes", "--json")
        assert got.code == 0, got
        names.add(got.json["data"]["batch_id"])
    (name,) = names
    assert own.rows("SELECT sum(balance) FROM tokenctl.token_accounts") == [(total + 15,)]
    assert line("reverse", "--batch", name, "--reason", "mistake", "--yes").code == 0
    assert line("reverse", "u1:1", "--reason", "mistake", "--yes").code in (0, 1)
    assert line("health").code in (0, 1)
    assert line("verify").code == 0
    own.check()
    # Nothing that one session sets may be seen by the next.
    with psycopg.connect(pooler.address("support1"), autocommit=True, prepare_threshold=None) as other:
        for name in (
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "default_transaction_isolation",
        ):
            shown = other.execute("SELECT setting, reset_val FROM pg_settings WHERE name = %s", (name,)).fetchone()
            assert shown is not None
            assert shown[0] == shown[1], name
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_a_killed_import_frees_its_lock_through_it(own: Own, line: CommandLine, pooler: Pooler) -> None:
    """PgBouncer ends the backend's transaction when the client is gone, and the lock goes with it."""
    pooler.start()
    write_file()
    holder = psycopg.connect(own.conninfo(), autocommit=True)
    holder.execute("BEGIN; LOCK TABLE tokenctl.import_lanes IN SHARE MODE")
    command = [*TOKENCTL, "batch-import", "grants.csv", "--yes"]
    with subprocess.Popen(command, env=environment(TOKENCTL_DATABASE_URL=pooler.address("batch1"))) as victim:
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'batch1'"
        until(lambda: own.rows(waits), "the import waits")
        victim.kill()
    holder.close()
    batch = as_login(line, pooler, "batch1")
    until(lambda: batch("batch-import", "grants.csv", "--yes").code == 0, "the lock is free")
    assert own.rows("SELECT count(*), count(DISTINCT (user_id, idempotency_key)) FROM tokenctl.token_transactions") == [
        (600, 600)
    ]
    own.check()


def test_a_full_pool_is_waited_for_and_then_told(own: Own, line: CommandLine, pooler: Pooler) -> None:
    pooler.start(default_pool_size=1, query_wait_timeout=1)
    support = as_login(line, pooler, "support1")
    with psycopg.connect(pooler.address("support1")) as other:
        other.execute("SELECT 1")  # its transaction keeps the only backend
        got = support("balance", "u1", "--fresh", "--timeout", "2", "--json")
        assert (got.code, got.problem["type"]) == (69, "urn:tokenctl:problem:unavailable")
        assert "no connection free" in got.problem["detail"]
    assert support("grant-bonus", "u1", "--amount", "5", "--reason", "x", *NEW, "--ignore-breaker").code == 0
    own.check()


def test_a_server_that_is_down_behind_it_is_unavailable(own: Own, line: CommandLine, pooler: Pooler) -> None:
    pooler.start()
    support = as_login(line, pooler, "support1")
    port, own.port = own.port, 1
    try:
        pooler.stop()
        pooler.start()
        got = support("balance", "u1", "--fresh", "--timeout", "2")
        assert (got.code, "Traceback" in got.err) == (69, False), got
    finally:
        own.port = port


def test_psql_finds_the_tables_through_it(line: CommandLine, pooler: Pooler) -> None:
    pooler.start()
    as_login(line, pooler, "support1")
    count = ("db", "psql", "--", "-Atc", "SELECT count(*) FROM token_accounts")
    got = run(*count, env=environment(PATH=f"{binaries.programs_dir(None)}:/usr/bin:/bin"))
    assert (got.code, got.text, got.err) == (0, "0\n", "")
