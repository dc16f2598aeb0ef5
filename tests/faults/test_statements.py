"""What goes wrong in the middle of the work: deadlocks, conflicts, full and damaged disks, servers that recover."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import Cli, CommandLine
from tests.faults.servers import Own
from tests.pg import Connection, LedgerDB, post
from tests.require import missing
from tests.waiting import until
from tokenctl.errors import Unavailable
from tokenctl.models import Grant
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.events import Event, Retried
from tokenctl.storage.database import Database
from tokenctl.storage.ledger import Ledger

NEW = ("--reason", "goodwill", "--new-user", "--yes")


def write_file(name: str, rows: int, *, users: int = 50, prefix: str = "k") -> None:
    lines = (f"u{n % users},1,promo,{prefix}{n}\n" for n in range(rows))
    Path(name).write_text("user_id,amount,reason,idempotency_key\n" + "".join(lines))


def waiting(db: LedgerDB, login: str) -> bool:
    return bool(
        db.rows(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = %s"
            " AND datname = current_database()",
            login,
        )
    )


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Somebody else does `work` beside what stands here, which ends when both have."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(work)
        yield
        doing.result()


def test_a_deadlock_with_a_stranger_is_tried_again_and_counts_once(cli: Cli) -> None:
    """A session of somebody else's takes two accounts the other way round; ours is the one that is ended."""
    support = cli.db.connect("support1")
    for n in range(12):
        post(support, f"u{n}", 1, key="opening")
    users = [row[0] for row in cli.db.rows("SELECT user_id FROM tokenctl.token_accounts_0 ORDER BY user_id LIMIT 2")]
    lines = "".join(f"{user},1,promo,k\n" for user in users)
    Path("grants.csv").write_text(f"user_id,amount,reason,idempotency_key\n{lines}")
    holder = cli.db.connect()
    holder.execute("SET deadlock_timeout = '60s'")  # so that it is not the one to end
    first, then = locked_in_order(cli.db, users)
    holder.execute("BEGIN")
    lock(holder, then)

    def meddle() -> None:
        until(lambda: waiting(cli.db, "batch1"), "the slice waits for the second account")
        lock(holder, first)  # comes back when the slice was ended
        holder.execute("COMMIT")

    cli.login("batch1")
    with meanwhile(meddle):
        got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 0, got
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database() AND deadlocks > 0"
    assert until(lambda: cli.db.rows(counted), "the server counted it") == [(1,)]
    assert cli.db.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE batch_id IS NOT NULL") == [(2,)]
    cli.db.check()


def locked_in_order(db: LedgerDB, users: list[str]) -> list[str]:
    """Two accounts of partition 0 in the order in which an import takes them: new versions of rows stand in it."""
    tried = db.connect()
    tried.execute("BEGIN")
    tried.execute(
        "UPDATE tokenctl.token_accounts_0 a SET balance = a.balance"
        " FROM (SELECT user_id FROM unnest(%s::text[]) u (user_id) ORDER BY user_id) u WHERE a.user_id = u.user_id",
        (users,),
    )
    ordered = "SELECT user_id FROM tokenctl.token_accounts_0 WHERE user_id = ANY (%s) ORDER BY ctid"
    found = [row[0] for row in tried.execute(ordered, (users,)).fetchall()]
    tried.execute("ROLLBACK")
    return found


def lock(connection: Connection, user: str) -> None:
    connection.execute("SELECT FROM tokenctl.token_accounts WHERE user_id = %s FOR UPDATE", (user,))


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_serialization_failure_is_tried_again_with_the_same_key(each_db: LedgerDB, level: str) -> None:
    """As on a server whose owner made these levels the default: a row that changed meanwhile is an error there."""
    post(each_db.connect("support1"), "u1", 100, key="opening")
    seen: list[Event] = []
    escaped = level.replace(" ", r"\\ ")
    options = f" options='-c default_transaction_isolation={escaped}'"
    database = Database(
        each_db.conninfo("support2") + options, application_name="test", deadline=Deadline(20), emit=seen.append
    )
    holder = each_db.connect("support1")
    holder.execute("BEGIN")
    post(holder, "u1", 7, key="other")

    def let_go() -> None:
        until(lambda: waiting(each_db, "support2"), "the grant waits")
        holder.execute("COMMIT")

    with meanwhile(let_go):
        receipt = Ledger(database, request_id="r", claimed_by="me").grant(Grant("u1", 5, "test", key="k1"))
    database.close()
    assert (receipt.outcome, receipt.balance_before, receipt.balance_after) == ("applied", 107, 112)
    assert [event.fault for event in seen if isinstance(event, Retried)] == ["conflict"]
    each_db.check()


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_user_who_comes_into_being_while_a_slice_is_posted_stops_no_import(cli: Cli, level: str) -> None:
    cli.db.rows(f"ALTER DATABASE {cli.db.name} SET default_transaction_isolation = '{level}'")
    write_file("grants.csv", 50)
    holder = cli.db.connect("support1")
    holder.execute("BEGIN")
    post(holder, "u7", 7, key="other")
    cli.login("batch1")

    def let_go() -> None:
        until(lambda: waiting(cli.db, "batch1"), "the slice waits for that user")
        holder.execute("COMMIT")

    with meanwhile(let_go):
        got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 0, got
    assert cli.db.rows("SELECT count(*), sum(balance) FROM tokenctl.token_accounts") == [(50, 57)]
    cli.db.check()


# --- disks ---------------------------------------------------------------------


@pytest.fixture
def small_disk(own: Own) -> Iterator[Path]:
    """A file system of 3 MB on which the entries lie."""
    folder = own.data.parent / "small"
    folder.mkdir()
    owner = own.data.stat()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=3m,uid={owner.st_uid},gid={owner.st_gid},mode=0700", "small", folder],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        missing("a small file system cannot be mounted here; root may")
    try:
        yield folder
    finally:
        own.stop()  # it has files open there
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
        own.start()


def test_a_full_disk_is_told_and_the_same_command_goes_on_when_there_is_room(
    own: Own, line: CommandLine, small_disk: Path
) -> None:
    own.rows(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    for part in range(4):
        own.rows(f"ALTER TABLE tokenctl.token_transactions_{part} SET TABLESPACE small")
    write_file("grants.csv", 20_000)
    line.patch.setattr("tokenctl.storage.imports.SLICE_ROWS", 200)
    line.patch.setenv("TOKENCTL_DATABASE_URL", own.conninfo("batch1"))
    got = line("batch-import", "grants.csv", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (69, "urn:tokenctl:problem:unavailable"), got
    assert "53100" in got.problem["detail"]
    assert "disk full" in got.problem["hint"]
    posted = own.rows("SELECT count(*), count(DISTINCT (user_id, idempotency_key)) FROM tokenctl.token_transactions")
    assert 0 < posted[0][0] == posted[0][1] < 20_000
    own.check()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    done = line("batch-import", "grants.csv", "--yes", "--json", "--ignore-breaker")
    assert (done.code, done.json["data"]["outcome"]) == (0, "resumed"), done
    assert own.rows("SELECT sum(balance), count(*) FROM tokenctl.token_accounts") == [(20_000, 50)]
    own.check()
    own.rows("DROP SCHEMA tokenctl_staging, tokenctl CASCADE")
    own.rows("DROP TABLESPACE small")


def test_a_damaged_page_is_an_alarm_and_nothing_is_made_of_it(own: Own, line: CommandLine) -> None:
    line.patch.setenv("TOKENCTL_DATABASE_URL", own.conninfo("support1"))
    assert line("grant-bonus", "u1", "--amount", "5", *NEW).code == 0
    (where,) = own.rows("SELECT pg_relation_filepath(tableoid) FROM tokenctl.token_accounts WHERE user_id = 'u1'")[0]
    own.rows("CHECKPOINT")
    own.stop()
    with (own.data / str(where)).open("r+b") as file:
        file.seek(8000)
        file.write(b"not what was there")
    own.start()
    for argv in (
        ("balance", "u1", "--fresh"),
        ("grant-bonus", "u1", "--amount", "7", *NEW),
        ("reverse", "u1:1", "--reason", "mistake", "--yes"),
        ("verify",),
    ):
        got = line(*argv, "--json")
        assert (got.code, got.problem["type"]) == (70, "urn:tokenctl:problem:corrupted"), got
        assert "call its administrator" in got.problem["hint"]
    assert own.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(1,)]


def test_a_server_that_takes_nobody_in_while_it_recovers_is_waited_for(own: Own, line: CommandLine) -> None:
    """It answers, so nothing is marked as down; and it is well again within the time of the second command."""
    line.patch.setenv("TOKENCTL_DATABASE_URL", own.conninfo("support1"))
    assert line("grant-bonus", "u1", "--amount", "5", *NEW).code == 0
    own.stop()
    (own.data / "standby.signal").touch()
    own.settings["hot_standby"] = "off"
    try:
        with pytest.raises(Unavailable):
            own.start(deadline_s=1.0)  # it runs, and lets nobody in
        got = line("balance", "u1", "--fresh", "--timeout", "1")
        assert (got.code, "is starting or stopping" in got.err) == (69, True), got
        assert line("breaker", "list", "--json").json["data"] == []
    finally:
        own.stop()
        (own.data / "standby.signal").unlink()
        del own.settings["hot_standby"]
        own.start()
    assert line("balance", "u1", "--fresh", "--format", "value").out == b"5\n"
    own.check()
