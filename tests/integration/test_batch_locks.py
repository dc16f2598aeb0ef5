"""A store of a batch: its lock is free when it is closed, whatever became of its connection; its deadline holds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.pg import LedgerDB
from tests.waiting import until
from tokenctl.errors import TimedOut
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage import imports
from tokenctl.storage.database import Database
from tokenctl.storage.imports import BatchStore

LOCKS = (
    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
)


@contextmanager
def locked(db: LedgerDB, seconds: float | None = 20.0) -> Iterator[tuple[BatchStore, int]]:
    """A store that has its batch's lock, and the process of the server that holds it."""
    database = Database(db.conninfo("batch1"), application_name="test", deadline=Deadline(seconds))
    store = BatchStore(database, "aaaaaaaaaaaa", request_id="r", claimed_by="me")
    try:
        assert store.lock()
        [(pid,)] = db.rows(LOCKS)
        yield store, pid
    finally:
        store.close()
        database.close()


def test_it_is_free_at_once_for_the_next(ledger_db: LedgerDB) -> None:
    """However slow the server is to see that somebody has hung up."""
    with locked(ledger_db) as (store, pid):
        os.kill(pid, signal.SIGSTOP)
        going_on = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
        going_on.start()
        store.close()
        assert ledger_db.rows(LOCKS) == []
        going_on.join()


def test_it_is_free_when_somebody_else_had_a_name_of_it(ledger_db: LedgerDB) -> None:
    with locked(ledger_db):
        database = Database(ledger_db.conninfo("batch1"), application_name="test", deadline=Deadline(20))
        second = BatchStore(database, "bbbbbbbbbbbb", request_id="r", claimed_by="me")
        assert not second.lock("aaaaaaaaaaaa")
        second.close()
        assert len(ledger_db.rows(LOCKS)) == 1
        database.close()


def test_a_lost_connection_is_no_error(ledger_db: LedgerDB) -> None:
    with locked(ledger_db) as (store, pid):
        ledger_db.rows("SELECT pg_terminate_backend(%s)", pid)
        until(lambda: ledger_db.rows(LOCKS) == [], "the lock is free")
        store.close()


@pytest.mark.parametrize("seconds", [None, 20.0])
def test_a_server_that_says_nothing_is_not_waited_for(
    ledger_db: LedgerDB, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    monkeypatch.setattr(imports, "FREE_S", 0.1)
    with locked(ledger_db, seconds) as (store, pid):
        os.kill(pid, signal.SIGSTOP)
        try:
            store.close()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_rows_that_go_through_do_not_put_off_a_deadline_for_everything(ledger_db: LedgerDB) -> None:
    now = [0.0]
    deadline = Deadline(0.5, clock=lambda: now[0])
    database = Database(ledger_db.conninfo("batch1"), application_name="test", deadline=deadline)
    store = BatchStore(database, "aaaaaaaaaaaa", request_id="r", claimed_by="me")
    assert store.lock()
    assert store.open_import(file_name="f.csv", sha256="0" * 64, size=1, options={}, rows=1) == "open"

    def blocks() -> Iterator[bytes]:
        """As many as go through in five seconds, of which all but the first come too late."""
        now[0] = 1.0
        begun = time.monotonic()
        while time.monotonic() < begun + 5:
            yield b"1\tu1\t5\tx\tk\n" * 1000
        went_through.append(True)

    went_through: list[bool] = []
    with pytest.raises(TimedOut):
        store.copy(("line", "user_id", "amount", "reason", "idempotency_key"), blocks())
    assert went_through == []
    store.close()
    database.close()
