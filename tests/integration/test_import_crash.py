"""Imports and batch reversals that are killed, cut off and crowded: every row still counts once.

The moments are made, not hoped for: another session holds a lock that the next step needs,
and the axe falls when the process waits for it. Its servers' backends go on after a kill -9,
as they do in life, and finish what they wait for beside the next run.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.batch_driver import staged_tables
from tests.cli.running import environment
from tests.integration.embedded_servers import farm
from tests.pg import Connection, LedgerDB, post
from tests.waiting import until
from tokenctl.storage import migrations

# 2,000 rows of 400 users in 4 partitions. An import takes the number of slices from the
# file's lines, the header included, a reversal from the rows.
USERS, ROWS = 400, 2000
SLICES, REVERSAL_SLICES = 32, 32
SMALL_SLICES = "import tokenctl.storage.imports as i; i.SLICE_ROWS = 16; from tokenctl.__main__ import run; run()"
TOTAL = sum(1 + n % 90 for n in range(ROWS))
COUNTED = (
    "SELECT state, rows_read, applied, applied_tokens, replayed, conflicting, refused, rejected, duplicate"
    " FROM tokenctl.import_batches WHERE batch_id = %s"
)
WHOLE = ("done", ROWS, ROWS, TOTAL, 0, 0, 0, 0, 0)


def write(folder: Path, name: str = "grants.csv", prefix: str = "k") -> Path:
    file = folder / name
    lines = (f"u{n % USERS},{1 + n % 90},promo,{prefix}{n}\n" for n in range(ROWS))
    file.write_text("user_id,amount,reason,idempotency_key\n" + "".join(lines))
    return file


class Job:
    """A tokenctl of its own process."""

    def __init__(self, conninfo: str, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SMALL_SLICES, *argv, "--yes", "--json"],
            env=environment(TOKENCTL_DATABASE_URL=conninfo),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)

    def end(self) -> tuple[int, Any, str]:
        """Exit code, JSON document and standard error."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(out)["data"] if out else None, err


@contextmanager
def job(conninfo: str, *argv: str) -> Iterator[Job]:
    started = Job(conninfo, *argv)
    try:
        yield started
    finally:
        if started.running():
            started.kill()


def stuck(db: LedgerDB, waiting: int = 1) -> bool:
    """Whether so many of the batch clients' backends wait for a lock."""
    found = db.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'batch1'"
        " AND datname = current_database()"
    )
    return bool(found[0][0] >= waiting)


def hindered(db: LedgerDB, statement: str) -> Connection:
    """A session that holds what `statement` locks."""
    session = db.connect()
    session.execute("BEGIN")
    session.execute(statement.encode())
    return session


def milestones(db: LedgerDB, slices: int = SLICES) -> list[str]:
    """Users of one partition, of every fourth slice in the order in which slices are posted.

    Two workers are stopped by one of them: one at the user's account, one at the partition's lock
    in a later slice.
    """
    found = db.rows(
        "SELECT (array_agg(user_id ORDER BY user_id))[1 + count(*) / 2] FROM ("
        "  SELECT user_id, ntile(%s) OVER (ORDER BY user_id) AS slice FROM tokenctl.token_accounts_0) placed"
        " GROUP BY slice ORDER BY slice",
        slices,
    )
    return [row[0] for row in found][:-1:4]


def make_accounts(db: LedgerDB) -> None:
    """Accounts without tokens, so that there is something to lock."""
    support = db.connect("support1")
    for n in range(USERS):
        post(support, f"u{n}", 1, key="opening")


LOCK_ACCOUNT = "SELECT FROM tokenctl.token_accounts WHERE user_id = '{}' FOR NO KEY UPDATE"
LOCK_BATCH = "SELECT FROM tokenctl.import_batches WHERE state = '{}' FOR UPDATE"


def kill_when_stuck(db: LedgerDB, statement: str, *argv: str, waiting: int = 2) -> None:
    """Run tokenctl until it waits for what `statement` locks, kill it, and let its backends go on."""
    holder = hindered(db, statement)
    with job(db.conninfo("batch1"), *argv) as victim:
        until(lambda: stuck(db, waiting) or not victim.running(), f"it is stuck: {statement}")
        assert victim.running(), victim.end()
        victim.kill()
    holder.execute("ROLLBACK")
    holder.close()


def kill_once(db: LedgerDB, question: str, *argv: str, then_lock: str = "") -> None:
    """Kill tokenctl once a query has rows; or lock something then, and kill it when it waits for that."""
    with job(db.conninfo("batch1"), *argv) as victim:
        until(lambda: db.rows(question) or not victim.running(), question, every_s=0.002)
        holder = hindered(db, then_lock or "SELECT 1")
        if then_lock:
            until(lambda: stuck(db) or not victim.running(), f"it is stuck: {then_lock}")
        assert victim.running(), victim.end()
        victim.kill()
    holder.execute("ROLLBACK")
    holder.close()


def entries(db: LedgerDB, batch: str) -> int:
    return int(db.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE batch_id = %s", batch)[0][0])


def test_an_import_killed_at_every_step_counts_every_row_once(ledger_db: LedgerDB, tmp_path: Path) -> None:
    db, argv = ledger_db, ("batch-import", str(write(tmp_path)))
    make_accounts(db)
    kill_when_stuck(db, "LOCK TABLE tokenctl.import_batches IN SHARE MODE", *argv, waiting=1)  # while it opens
    kill_once(db, "SELECT 1 FROM pg_class WHERE relname LIKE 'batch\\_%%\\_3' LIMIT 1", *argv)  # while it copies
    kill_when_stuck(db, "LOCK TABLE tokenctl.token_transactions IN ACCESS EXCLUSIVE MODE", *argv)  # while it plans
    staged = "SELECT 1 FROM tokenctl.import_batches WHERE state = 'staging'"
    kill_once(db, staged, *argv, then_lock=LOCK_BATCH.format("staging"))  # when it begins
    seen = []
    for user in milestones(db):  # further and further into the slices
        kill_when_stuck(db, LOCK_ACCOUNT.format(user), *argv)
        seen.append(db.rows("SELECT count(*) FROM tokenctl.import_lanes WHERE state = 'done'")[0][0])
    assert seen == sorted(seen)
    assert (len(seen), 0 < seen[0] < seen[-1] < 4 * SLICES) == (8, True)
    assert db.rows("SELECT slices FROM tokenctl.import_batches") == [(SLICES,)]
    db.check()
    with job(db.conninfo("batch1"), *argv) as last:
        code, data, err = last.end()
    assert code == 0, err
    assert db.rows(COUNTED, data["batch_id"]) == [WHOLE]
    assert (entries(db, data["batch_id"]), staged_tables(db)) == (ROWS, [])
    assert db.rows("SELECT sum(balance) FROM tokenctl.token_accounts") == [(TOTAL + USERS,)]
    db.check()


def test_an_import_killed_while_it_closes_is_done_or_is_finished(ledger_db: LedgerDB, tmp_path: Path) -> None:
    argv = ("batch-import", str(write(tmp_path)))
    begun = "SELECT 1 FROM tokenctl.import_batches WHERE state = 'applying'"
    kill_once(ledger_db, begun, *argv, then_lock=LOCK_BATCH.format("applying"))
    with job(ledger_db.conninfo("batch1"), *argv) as again:
        code, data, err = again.end()
    assert (code, data["outcome"] in ("already", "resumed")) == (0, True), err
    batch = data["batch_id"]
    # The backend that nobody listened to may have closed the batch itself: by then with all counts.
    assert ledger_db.rows(COUNTED, batch) == [WHOLE]
    assert (entries(ledger_db, batch), staged_tables(ledger_db)) == (ROWS, [])
    ledger_db.check()


@pytest.mark.parametrize("whom", ["worker", "lock holder", "all"])
def test_an_import_whose_backends_are_terminated_is_finished(ledger_db: LedgerDB, tmp_path: Path, whom: str) -> None:
    db, argv = ledger_db, ("batch-import", str(write(tmp_path)))
    make_accounts(db)
    holder = hindered(db, LOCK_ACCOUNT.format(milestones(db)[3]))
    which = {"worker": "wait_event_type = 'Lock'", "lock holder": "state LIKE 'idle in%%'", "all": "true"}[whom]
    with job(db.conninfo("batch1"), *argv) as victim:
        until(lambda: stuck(db, 2) or not victim.running(), "it is stuck at an account")
        ended = db.rows(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'batch1' AND {which}")  # noqa: S608
        assert ended
        holder.execute("ROLLBACK")
        code, _, err = victim.end()
    assert code == (69 if whom == "all" else 0), err
    assert "Traceback" not in err
    with job(db.conninfo("batch1"), *argv) as again:
        code, data, err = again.end()
    assert code == 0, err
    assert db.rows(COUNTED, data["batch_id"]) == [WHOLE]
    assert (entries(db, data["batch_id"]), staged_tables(db)) == (ROWS, [])
    db.check()


def test_an_import_whose_lock_is_lost_may_be_run_again_and_is_not_forbidden(
    ledger_db: LedgerDB, tmp_path: Path
) -> None:
    """The batch's lock goes with its connection, here before anything is staged."""
    argv = ("batch-import", str(write(tmp_path)))
    holder = hindered(ledger_db, "LOCK TABLE tokenctl.import_batches IN ACCESS EXCLUSIVE MODE")
    with job(ledger_db.conninfo("batch1"), *argv) as victim:
        until(lambda: stuck(ledger_db) or not victim.running(), "it opens the batch")
        ended = ledger_db.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND usename = 'batch1'"
        )
        assert ended
        holder.execute("ROLLBACK")
        code, _, err = victim.end()
    assert (code, "lock was lost" in err) == (75, True), err
    with job(ledger_db.conninfo("batch1"), *argv) as again:
        assert again.end()[0] == 0
    ledger_db.check()


def test_an_atomic_import_that_is_killed_has_posted_nothing(ledger_db: LedgerDB, tmp_path: Path) -> None:
    db, argv = ledger_db, ("batch-import", str(write(tmp_path)), "--atomic")
    make_accounts(db)
    holder = hindered(db, LOCK_ACCOUNT.format(milestones(db)[-1]))
    with job(db.conninfo("batch1"), *argv) as victim:
        until(lambda: stuck(db) or not victim.running(), "it is stuck at an account")
        victim.kill()
    db.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'batch1'")
    holder.execute("ROLLBACK")
    assert db.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE batch_id IS NOT NULL") == [(0,)]
    with job(db.conninfo("batch1"), *argv) as again:
        code, data, err = again.end()
    assert code == 0, err
    assert db.rows(COUNTED, data["batch_id"]) == [WHOLE]
    db.check()


def test_a_batch_reversal_killed_at_every_step_reverses_every_row_once(ledger_db: LedgerDB, tmp_path: Path) -> None:
    db = ledger_db
    with job(db.conninfo("batch1"), "batch-import", str(write(tmp_path))) as first:
        batch = first.end()[1]["batch_id"]
    argv = ("reverse", "--batch", batch, "--reason", "mistake")
    kill_when_stuck(db, "LOCK TABLE tokenctl.import_lanes IN SHARE MODE", *argv)
    staged = "SELECT 1 FROM tokenctl.import_batches WHERE state = 'staging'"
    kill_once(db, staged, *argv, then_lock=LOCK_BATCH.format("staging"))
    for user in milestones(db, REVERSAL_SLICES)[::4]:
        kill_when_stuck(db, LOCK_ACCOUNT.format(user), *argv)
        db.check()
    with job(db.conninfo("batch1"), *argv) as last:
        code, data, err = last.end()
    assert code == 0, err
    assert db.rows(COUNTED, data["batch_id"]) == [("done", ROWS, ROWS, -TOTAL, 0, 0, 0, 0, 0)]
    assert (entries(db, data["batch_id"]), staged_tables(db)) == (ROWS, [])
    assert db.rows("SELECT sum(balance), max(balance) FROM tokenctl.token_accounts") == [(0, 0)]
    with job(db.conninfo("batch1"), *argv) as again:
        assert again.end()[0] == 1
    db.check()


def test_a_reversal_of_an_operator_that_is_killed_reverses_every_row_once(ledger_db: LedgerDB, tmp_path: Path) -> None:
    db = ledger_db
    with job(db.conninfo("batch1"), "batch-import", str(write(tmp_path))) as first:
        assert first.end()[0] == 0
    chosen = ("--operator", "batch1", "--since", "2026-01-01")
    argv = ("reverse", *chosen, "--reason", "mistake", "--expect-total", str(TOTAL))
    staged = "SELECT 1 FROM tokenctl.import_batches WHERE state = 'staging'"
    kill_once(db, staged, *argv, then_lock=LOCK_BATCH.format("staging"))
    for user in milestones(db, REVERSAL_SLICES)[1::4]:
        kill_when_stuck(db, LOCK_ACCOUNT.format(user), *argv)
    # What the operator does meanwhile is not of this reversal.
    post(db.connect("batch1"), "u0", 7, key="late")
    with job(db.conninfo("batch1"), *argv) as last:
        code, data, err = last.end()
    assert code == 0, err
    assert db.rows(COUNTED, data["batch_id"]) == [("done", ROWS, ROWS, -TOTAL, 0, 0, 0, 0, 0)]
    assert db.rows("SELECT sum(balance), max(balance) FROM tokenctl.token_accounts") == [(7, 7)]
    assert staged_tables(db) == []
    db.check()


def test_a_server_that_stops_at_once_loses_staging_and_no_row(tmp_path: Path) -> None:
    """Unlogged tables are empty after a crash; what was posted stays posted."""
    with farm() as servers:
        server = servers.server()
        server.ensure_running(deadline_s=120)
        opened: list[Connection] = []
        setup = LedgerDB(_Own(server.conninfo), "tokenctl", opened)  # type: ignore[arg-type]  # it asks for an address only
        with setup.connect() as connection:
            migrations.migrate(connection, partitions=4)
            connection.execute("CREATE ROLE batch1 LOGIN IN ROLE tokenctl_batch")
            connection.execute("CREATE ROLE support1 LOGIN IN ROLE tokenctl_support")
        make_accounts(setup)
        argv = ("batch-import", str(write(tmp_path)))
        hindered(setup, LOCK_ACCOUNT.format(milestones(setup)[4]))
        with job(setup.conninfo("batch1"), *argv) as victim:
            until(lambda: stuck(setup, 2) or not victim.running(), "it is stuck at an account")
            # A slice's commit does not wait for the disk; put what is posted there, so that some of it stays.
            setup.rows("CHECKPOINT")
            server.stop("immediate", deadline_s=60)
            code, _, err = victim.end()
        for connection in opened:
            connection.close()
        assert code == 69, err
        server.ensure_running(deadline_s=120)
        assert 0 < setup.rows("SELECT count(*) FROM tokenctl.import_lanes WHERE state = 'done'")[0][0] < 4 * SLICES
        with job(setup.conninfo("batch1"), *argv) as again:
            code, data, err = again.end()
        assert (code, data["outcome"]) == (0, "resumed"), err
        assert setup.rows(COUNTED, data["batch_id"]) == [WHOLE]
        assert staged_tables(setup) == []
        setup.check()


class _Own:
    """An address for LedgerDB: a server of the test's own, its database and its logins."""

    def __init__(self, conninfo: Any) -> None:
        self._conninfo = conninfo

    def conninfo(self, user: str, dbname: str) -> str:
        return str(self._conninfo(user=user, dbname=dbname))


def test_imports_and_grants_side_by_side_neither_lose_nor_lock_up(ledger_db: LedgerDB, tmp_path: Path) -> None:
    db = ledger_db
    granted: list[int] = []
    over = threading.Event()

    def grant(number: int) -> None:
        connection, mine = db.connect("support1"), 0
        while not over.is_set():
            got = post(connection, f"u{(mine * 7 + number) % USERS}", 3, key=f"g{number}-{mine}")
            assert got["outcome"] == "applied"
            mine += 1
        granted.append(mine)

    threads = [threading.Thread(target=grant, args=(number,)) for number in range(4)]
    files = [str(write(tmp_path, "a.csv", "a")), str(write(tmp_path, "b.csv", "b"))]
    for thread in threads:
        thread.start()
    try:
        with job(db.conninfo("batch1"), "batch-import", files[0]) as one:  # noqa: SIM117 — the second overlaps the first
            with job(db.conninfo("batch2"), "batch-import", files[1]) as two:
                ends = [one.end(), two.end()]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [end[0] for end in ends] == [0, 0], ends
    assert len(granted) == 4
    assert sum(granted) > 0
    assert db.rows("SELECT sum(balance) FROM tokenctl.token_accounts") == [(2 * TOTAL + 3 * sum(granted),)]
    assert db.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    db.check()
