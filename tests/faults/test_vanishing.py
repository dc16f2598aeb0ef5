"""Packets that vanish and peers that hang, in the middle of a query and in the middle of a COPY."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import proxy as faults
from tests.cli.running import Cli, CommandLine
from tests.faults.servers import Own
from tests.pg import LedgerDB
from tests.proxy import Proxy, proxied
from tests.waiting import until
from tokenctl.errors import Fault, Unavailable
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage.database import Database
from tokenctl.storage.imports import BatchStore

ROWS = 20_000


@contextmanager
def between(db: LedgerDB, trigger: bytes) -> Iterator[Proxy]:
    folder = re.search(r"host=(\S+)", db.conninfo())
    assert folder is not None
    with proxied(Path(folder[1]) / ".s.PGSQL.5432", trigger) as made:
        yield made


def address(db: LedgerDB, proxy: Proxy, user: str, more: str = "") -> str:
    return re.sub(r"host=\S+|port=\S+", "", db.conninfo(user)) + f" host=127.0.0.1 port={proxy.port} {more}"


def test_a_connection_knows_how_to_notice_a_dead_peer(ledger_db: LedgerDB) -> None:
    """Asked of the socket itself; a longer time that somebody wants in the address stays."""
    with between(ledger_db, b"never") as proxy:
        for more, unanswered_ms in (("", 8000), ("tcp_user_timeout=12000", 12000)):
            database = Database(address(ledger_db, proxy, "reader1", more), application_name="t", deadline=Deadline(20))
            with socket.socket(fileno=database.main.fileno()) as peer:
                assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == unanswered_ms
                assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                assert [peer.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [5, 2, 2]
                peer.detach()
            database.close()


def test_packets_that_vanish_end_a_query_that_has_no_deadline(ledger_db: LedgerDB) -> None:
    with between(ledger_db, b"the trigger") as proxy:
        proxy.faults = [faults.VANISH] * 3
        conninfo = address(ledger_db, proxy, "reader1", "tcp_user_timeout=300")
        database = Database(conninfo, application_name="t", deadline=Deadline(None))
        with pytest.raises(Unavailable) as raised:
            database.run("test", lambda c: c.execute("SELECT 'the trigger'"), {})
        assert raised.value.fault is Fault.LOST
        assert proxy.befallen == 1
        database.close()


@pytest.mark.parametrize("fault", [faults.VANISH, faults.SILENT, faults.BEFORE_REQUEST, faults.WITHIN_REPLY])
def test_an_import_that_breaks_in_its_copy_is_done_by_the_same_command(cli: Cli, fault: str) -> None:
    lines = "".join(f"u{n % 97},1,promo,k{n}\n" for n in range(ROWS))
    Path("grants.csv").write_text(f"user_id,amount,reason,idempotency_key\n{lines}")
    with between(cli.db, b"promo\t") as proxy:
        proxy.faults = [fault]
        cli.patch.setenv("TOKENCTL_DATABASE_URL", address(cli.db, proxy, "batch1"))
        got = cli("batch-import", "grants.csv", "--yes", "--timeout", "2")
        assert proxy.befallen == 1
        assert got.code == (69 if fault in (faults.BEFORE_REQUEST, faults.WITHIN_REPLY) else 75), got
        assert "Traceback" not in got.err
        assert "error ignored" not in got.err
        assert cli.db.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(0,)]
    cli.login("batch1")
    again = cli("batch-import", "grants.csv", "--yes")
    assert again.code == 0, again
    assert cli.db.rows("SELECT count(*), sum(amount) FROM tokenctl.token_transactions") == [(ROWS, ROWS)]
    assert threading.active_count() < 50
    cli.db.check()


def test_a_client_that_vanished_is_let_go_by_the_server(own: Own, line: CommandLine) -> None:
    """Its machine or its network is gone: nothing comes any more, not even an end. Here after two seconds."""
    soon = b"SET LOCAL tcp_keepalives_idle=1; SET LOCAL tcp_keepalives_interval=1; SET LOCAL tcp_keepalives_count=1"
    line.patch.setattr("tokenctl.storage.imports._LET_GO", soon)
    database = Database(own.address("batch1", password="right"), application_name="t", deadline=Deadline(None))  # noqa: S106
    store = BatchStore(database, "aaaaaaaaaaaa", request_id="r", claimed_by="me")
    assert store.lock()
    held = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    assert own.rows(held)
    control = store._control  # noqa: SLF001 — the connection that holds the lock
    assert control is not None
    with socket.socket(fileno=os.dup(control.fileno())) as peer:
        faults.drop_all(peer)
    until(lambda: not own.rows(held), "the server has let go")
    store.close()
    database.close()
