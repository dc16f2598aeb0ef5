"""Connections that break in the middle of a write: each grant is posted exactly once, whatever is lost."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests import proxy as faults
from tests.integration.embedded_servers import farm
from tests.pg import LedgerDB, post
from tests.proxy import Proxy, proxied
from tests.waiting import until
from tokenctl.errors import BreakerOpen, OutcomeUnknown
from tokenctl.models import Grant, Reversal
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage import local
from tokenctl.storage.database import Database
from tokenctl.storage.ledger import Ledger

RUNS = 50
POINTS = [faults.BEFORE_REQUEST, faults.AFTER_REQUEST, faults.WITHIN_REPLY, faults.AFTER_REPLY]


@contextmanager
def ledger(conninfo: str, seconds: float = 20) -> Iterator[Ledger]:
    database = Database(conninfo, application_name="test", deadline=Deadline(seconds))
    try:
        yield Ledger(database, request_id="r", claimed_by="me@here")
    finally:
        database.close()


@pytest.fixture
def lossy(each_db: LedgerDB) -> Iterator[Proxy]:
    folder = re.search(r"host=(\S+)", each_db.conninfo("support1"))
    assert folder is not None
    with proxied(Path(folder[1]) / ".s.PGSQL.5432", b"post_v1") as between:
        yield between


def through(between: Proxy, db: LedgerDB) -> str:
    return re.sub(r"host=\S+", f"host=127.0.0.1 port={between.port}", re.sub(r"port=\S+", "", db.conninfo("support1")))


def test_each_grant_is_posted_once_wherever_its_connection_breaks(each_db: LedgerDB, lossy: Proxy) -> None:
    seed = random.randrange(10**6)  # noqa: S311
    rng = random.Random(seed)  # noqa: S311
    print("seed", seed)  # noqa: T201 — shown when it fails
    for run in range(RUNS):
        lossy.faults = [rng.choice(POINTS) for _ in range(rng.randint(1, 3))]
        with ledger(through(lossy, each_db)) as writes:
            receipt = writes.grant(Grant(f"u{run % 7}", 5, "test", key=f"k{run}", new_user=True))
        assert receipt.outcome in ("applied", "replayed")
        assert receipt.idempotency_key == f"k{run}"
    assert lossy.befallen >= RUNS
    assert each_db.rows("SELECT count(*), count(DISTINCT idempotency_key) FROM tokenctl.token_transactions") == [
        (RUNS, RUNS)
    ]
    each_db.check()


@pytest.mark.parametrize("point", POINTS)
def test_a_look_writes_nothing_but_a_refusal_wherever_its_connection_breaks(
    each_db: LedgerDB, lossy: Proxy, point: str
) -> None:
    post(each_db.connect("support1"), "u1", 1, key="first")
    with ledger(through(lossy, each_db)) as writes:
        for user, outcome in (("u1", "applied"), ("nobody", "unknown_user")):
            lossy.faults = [point]
            assert writes.preview_grant(Grant(user, 5, "test", key="k"), record=True).outcome == outcome
    assert lossy.befallen == 2
    assert each_db.rows("SELECT idempotency_key FROM tokenctl.token_transactions") == [("first",)]
    assert set(each_db.rows("SELECT outcome, subject FROM tokenctl.audit_log")) == {("unknown_user", "nobody")}


def test_what_cannot_be_told_by_the_deadline_is_unknown_and_the_same_key_tells(each_db: LedgerDB, lossy: Proxy) -> None:
    lossy.faults = [faults.SILENT]
    with ledger(through(lossy, each_db), seconds=0.5) as writes, pytest.raises(OutcomeUnknown) as raised:
        writes.grant(Grant("u1", 5, "test", key="k1", new_user=True))
    assert raised.value.context["key"] == "k1"
    with ledger(through(lossy, each_db)) as writes:
        assert writes.grant(Grant("u1", 5, "test", key="k1", new_user=True)).outcome == "replayed"
    each_db.check()


def test_what_this_run_wrote_is_no_replay_although_the_answer_was_lost(each_db: LedgerDB, lossy: Proxy) -> None:
    grant, entry = Grant("u1", 5, "test", key="k1", new_user=True), Reversal("u1", 1, "mistake")
    with ledger(through(lossy, each_db)) as writes:
        assert writes.preview_grant(grant, record=True).outcome == "applied"
        lossy.faults = [faults.WITHIN_REPLY]
        assert (writes.grant(grant).outcome, lossy.befallen) == ("applied", 1)
        lossy.trigger = b"reverse_v1"
        assert writes.preview_reversal(entry, record=True).outcome == "applied"
        lossy.faults = [faults.WITHIN_REPLY]
        assert (writes.reverse(entry).outcome, lossy.befallen) == ("applied", 2)
    assert each_db.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(2,)]
    each_db.check()


@pytest.mark.parametrize("request_id", ["other", "r"])
def test_what_another_run_wrote_is_a_replay_when_the_answer_is_lost_too(
    each_db: LedgerDB, lossy: Proxy, request_id: str
) -> None:
    """Whoever gives two runs one request id has them told apart by what they saw before."""
    twin = each_db.connect("support1")
    grant = Grant("u1", 5, "bonus", key="k1", new_user=True)
    with ledger(through(lossy, each_db)) as writes:
        if request_id != "r":
            assert writes.preview_grant(grant, record=True).outcome == "applied"
        post(twin, "u1", 5, reason="bonus", key="k1", request_id=request_id)
        lossy.faults = [faults.WITHIN_REPLY]
        assert (writes.grant(grant).outcome, lossy.befallen) == ("replayed", 1)


def test_an_answer_that_is_owed_is_asked_for_through_an_open_breaker(
    each_db: LedgerDB, lossy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        """A breaker that refuses everybody after the first."""

        asked = 0

        def admit(self) -> None:
            self.asked += 1
            if self.asked > 1:
                raise BreakerOpen("open")

        def __getattr__(self, _name: str) -> object:
            return lambda *_: None

    lossy.faults = [faults.AFTER_REPLY]
    database = Database(through(lossy, each_db), application_name="test", deadline=Deadline(20))
    monkeypatch.setattr(database, "_breaker", Closed())
    receipt = Ledger(database, request_id="r", claimed_by="me").grant(Grant("u1", 5, "test", key="k1", new_user=True))
    assert receipt.outcome in ("applied", "replayed")
    database.close()
    each_db.check()


WAITING = b"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%post_v1%'"


def waiting_backend(conninfo: str) -> int:
    """The backend of the write that waits for a lock."""
    with psycopg.connect(conninfo, autocommit=True) as looker:
        until(lambda: bool(looker.execute(WAITING).fetchall()), "the write waits")
        return int(looker.execute(WAITING).fetchall()[0][0])


def test_a_server_that_crashes_under_a_write_is_waited_for() -> None:
    """Kill -9 of a backend takes every session down; the server recovers, and the same key is asked again."""
    with farm() as made:
        server = made.server()
        local.prepare(server)
        for run in range(5):
            owner = psycopg.connect(server.conninfo(), autocommit=True)
            owner.execute("BEGIN; LOCK TABLE tokenctl.token_accounts IN EXCLUSIVE MODE")
            with ThreadPoolExecutor(1) as pool, ledger(local.conninfo(server)) as writes:
                grant = Grant("u1", 5, "test", key=f"k{run}", new_user=True)
                written = pool.submit(writes.grant, grant)
                os.kill(waiting_backend(server.conninfo()), signal.SIGKILL)
                assert written.result(60).outcome == "applied"
            owner.close()
        with psycopg.connect(server.conninfo()) as reader:
            assert reader.execute("SELECT balance, last_seq FROM tokenctl.token_accounts").fetchall() == [(25, 5)]
