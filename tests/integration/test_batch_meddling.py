"""What a client of the batch role can't do: to another's batch, and with rows of its own."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors

from tests.batch_driver import Client, Row, staged_tables
from tests.pg import LedgerDB, post, reverse
from tests.waiting import until
from tokenctl.errors import Fault
from tokenctl.storage import failures

ROWS = [Row(f"u{n % 10}", 10 + n, f"k{n}") for n in range(30)]
STEPS: dict[str, Callable[[Client], object]] = {
    "copy": lambda client: client.copy([Row("forged", 5, "f")]),
    "seal": Client.seal,
    "plan": Client.plan,
    "findings": Client.findings,
    "leave out": Client.leave_out,
    "begin": Client.begin,
    "apply": lambda client: client.apply([(0, 0)]),
    "close": Client.close,
    "open": Client.open_unlocked,
}


@pytest.mark.parametrize("begun", [False, True])
def test_nobody_takes_a_step_in_the_batch_of_another(
    ledger_db: LedgerDB, begun: bool, subtests: pytest.Subtests
) -> None:
    owner = Client(ledger_db)
    owner.open()
    owner.copy(ROWS)
    if begun:
        owner.seal()
        owner.plan()
        owner.begin()
    for login in ("batch2", "support1", "admin1", "reader1"):
        for name, step in STEPS.items():
            if (login, name) == ("support1", "open"):
                continue  # answered, not raised: see below
            with subtests.test(f"{login} {name}"), pytest.raises(errors.InsufficientPrivilege):
                step(Client(ledger_db, login))
    assert Client(ledger_db, "batch2").lock() is False
    owner.seal()
    owner.plan()
    assert owner.finish(30)["applied"] == 30
    ledger_db.check()


def test_support_is_refused_with_an_audit_row(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db, "support1")
    assert client.open() == "not_allowed"
    assert client.open_reversal("bbbbbbbbbbbb") == "not_allowed"
    assert ledger_db.rows("SELECT operator, action, outcome FROM tokenctl.audit_log ORDER BY 1, 2") == [
        ("support1", "import", "not_allowed"),
        ("support1", "reverse-many", "not_allowed"),
    ]
    assert staged_tables(ledger_db) == []


def test_no_row_enters_after_the_seal(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.open()
    client.copy(ROWS)
    client.seal()
    with pytest.raises(errors.InsufficientPrivilege):
        client.copy([Row("late", 5, "late")])


def test_a_copy_that_was_open_before_the_seal_is_not_posted(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.open()
    client.copy(ROWS)
    late = ledger_db.connect("batch1")
    late.autocommit = False
    statement = "INSERT INTO tokenctl_staging.batch_aaaaaaaaaaaa (line, user_id, amount, kind, reason, idempotency_key)"
    late.execute(f"{statement} VALUES (99, 'u1', 5, 'bonus', 'promo', 'late')".encode())
    client.seal()
    client.plan()
    client.begin()
    late.commit()
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        client.apply()
    assert ledger_db.rows("SELECT * FROM tokenctl.token_transactions WHERE idempotency_key = 'late'") == []


FORGED = {
    "an adjustment": ("kind", "'adjustment'"),
    "a use": ("kind", "'generation'"),
    "no known kind": ("kind", "'gift'"),
    "a negative amount": ("amount", "-5"),
    "nothing": ("amount", "0"),
    "a campaign": ("campaign", "'spring'"),
    "a reversal": ("reverses_seq", "1"),
    "a line before the first": ("line", "-1"),
    "a line that no file has": ("line", "1099511627776"),
    **{f"no {name}": (name, "NULL") for name in ("line", "user_id", "amount", "kind", "reason", "idempotency_key")},
}


def test_no_client_stages_what_no_file_can_say(each_db: LedgerDB, subtests: pytest.Subtests) -> None:
    post(each_db.connect("support1"), "u1", 100)
    client = Client(each_db)
    client.open()
    for what, (column, value) in FORGED.items():
        row = {
            "line": "9",
            "user_id": "'u1'",
            "amount": "5",
            "kind": "'bonus'",
            "reason": "'x'",
            "idempotency_key": "'f'",
        }
        row[column] = value
        statement = f"({', '.join(row)}) VALUES ({', '.join(row.values())})"
        with subtests.test(what), pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)):
            client.connection.execute(f"INSERT INTO tokenctl_staging.batch_aaaaaaaaaaaa {statement}".encode())
        with subtests.test(f"{what}, straight into a partition"), pytest.raises(errors.InsufficientPrivilege):
            client.connection.execute(f"INSERT INTO tokenctl_staging.batch_aaaaaaaaaaaa_0 {statement}".encode())
    client.seal()
    assert client.plan()["staged"] == 0


def test_no_client_reads_changes_or_drops_what_is_staged(ledger_db: LedgerDB, subtests: pytest.Subtests) -> None:
    client = Client(ledger_db)
    client.open()
    client.copy(ROWS)
    table = "tokenctl_staging.batch_aaaaaaaaaaaa"
    for statement in (
        f"SELECT * FROM {table}",  # noqa: S608 — a constant
        f"UPDATE {table} SET amount = 1",  # noqa: S608 — a constant
        f"DELETE FROM {table}",  # noqa: S608 — a constant
        f"TRUNCATE {table}",
        f"DROP TABLE {table}",
        f"CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ):
        with subtests.test(statement), pytest.raises(errors.InsufficientPrivilege):
            client.connection.execute(statement.encode())


def post_all(client: Client) -> None:
    client.plan()
    client.begin()
    client.apply()


@pytest.mark.parametrize(
    "row",
    [Row("u1", 5, "a", reason="Not a code"), Row("-u1", 5, "a"), Row("u1", 5, "a" * 129), Row("u1", 5, "a", reason="")],
)
def test_a_row_that_breaks_a_rule_of_the_ledger_is_not_posted(ledger_db: LedgerDB, row: Row) -> None:
    client = Client(ledger_db)
    client.open()
    client.copy([row, Row("u1", 1, "b")])
    client.seal()
    with pytest.raises(errors.CheckViolation):
        post_all(client)
    ledger_db.check()
    assert ledger_db.rows("SELECT * FROM tokenctl.token_transactions WHERE idempotency_key <> 'b'") == []


def test_a_reason_that_comes_late_in_the_file_is_held_to_its_form(ledger_db: LedgerDB) -> None:
    rows = [Row("u1", 5, f"k{n}") for n in range(2000)]
    good, bad = Client(ledger_db), Client(ledger_db, batch="bbbbbbbbbbbb")
    good.open()
    good.copy([*rows, Row("u1", 5, "last", reason="another")])
    good.seal()
    assert good.plan()["staged"] == 2001
    bad.open()
    bad.copy([*rows, Row("u1", 5, "last", reason="Not a code")])
    bad.seal()
    with pytest.raises(errors.CheckViolation, match="a reason has not its form"):
        bad.plan()


def test_an_id_belongs_to_one_piece_of_work(ledger_db: LedgerDB) -> None:
    done = Client(ledger_db)
    done.run(ROWS)
    other = Client(ledger_db, batch="bbbbbbbbbbbb")
    other.run([Row("u1", 7, "other")])
    done.die()
    other.die()
    undo = Client(ledger_db, batch="cccccccccccc")
    undo.open_reversal(done.batch)
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        undo.open_unlocked()  # an import over a reversal
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        undo.open_reversal(other.batch)  # another reversal over it
    undo.die()
    third = Client(ledger_db, batch="dddddddddddd")
    third.open()
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        third.open_reversal(other.batch)  # a reversal over an import
    third.campaign = "spring"
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        third.open_unlocked()  # other options


def wait_until_free(db: LedgerDB, batch: str) -> None:
    watcher = Client(db, batch=batch)
    until(watcher.lock, "the dead client's lock is free")
    watcher.die()


def test_only_what_dead_clients_staged_is_reaped(each_db: LedgerDB) -> None:
    alive = Client(each_db, batch="aaaaaaaaaaaa")
    alive.stage(ROWS)
    dead = Client(each_db, batch="bbbbbbbbbbbb")
    dead.stage([Row("u1", 1, "dead")])
    begun = Client(each_db, batch="cccccccccccc")
    begun.stage([Row("u1", 1, "begun")])
    begun.begin()
    dead.die()
    begun.die()
    for gone in (dead, begun):
        wait_until_free(each_db, gone.batch)
    last = Client(each_db, "batch2", "dddddddddddd")
    until(lambda: [last.open(), len(staged_tables(each_db)) == 12][1], "two are staged, the living and the new")
    assert {name.split("_")[1] for name in staged_tables(each_db)} == {"aaaaaaaaaaaa", "dddddddddddd"}
    batches = "SELECT batch_id, state FROM tokenctl.import_batches ORDER BY 1"
    assert each_db.rows(batches) == [
        ("aaaaaaaaaaaa", "staging"),
        ("cccccccccccc", "applying"),
        ("dddddddddddd", "staging"),
    ]
    assert alive.finish(30)["applied"] == 30
    each_db.check()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("step", ["copy", "seal", "plan", "findings", "apply"])
def test_a_client_whose_lock_and_staging_went_may_come_again(each_db: LedgerDB, begun: bool, step: str) -> None:
    """Its connections live on but for the one with the lock: it is told to try again, not that the schema is wrong."""
    client = Client(each_db)
    client.open()
    if begun:
        client.copy(ROWS)
        client.seal()
        client.plan()
        client.begin()
    assert client.control is not None
    client.control.close()
    wait_until_free(each_db, client.batch)
    Client(each_db, "batch2", "dddddddddddd").open()
    with pytest.raises(psycopg.Error) as raised:
        STEPS[step](client)
    told = failures.working(raised.value, lost=False)
    assert (told.exit_code, told.fault, told.hint) == (75, Fault.REFUSED, "run the same command again")


def test_a_run_that_lost_its_batch_posts_nothing_once_another_of_its_login_has_opened_it(each_db: LedgerDB) -> None:
    first, second = Client(each_db), Client(each_db, request="r-second")
    first.stage(ROWS)
    first.begin()
    assert first.control is not None
    first.control.close()
    assert second.open() == "resume"
    with pytest.raises(errors.InsufficientPrivilege, match="opened anew"):
        first.apply()
    second.copy(ROWS)
    second.seal()
    second.plan()
    assert second.finish(len(ROWS))["applied"] == len(ROWS)
    each_db.check()


def test_the_reaper_forgets_nothing_that_was_finished_meanwhile(ledger_db: LedgerDB) -> None:
    """It has read its list when it waits for a dead client's tables; a batch of the list is finished then."""
    blocker, quick = Client(ledger_db, batch="000000000000"), Client(ledger_db, batch="aaaaaaaaaaaa")
    blocker.stage([Row("u1", 1, "x")])
    quick.stage(ROWS)
    tail = ledger_db.connect("postgres")
    tail.execute("BEGIN")
    tail.execute("LOCK TABLE tokenctl_staging.batch_000000000000 IN ACCESS SHARE MODE")
    blocker.die()
    wait_until_free(ledger_db, blocker.batch)
    reaper = Client(ledger_db, batch="ffffffffffff")
    reaper.lock()
    pid = reaper.connection.info.backend_pid
    reaper.connection.pgconn.send_query(
        b"SELECT tokenctl.import_open_v1('ffffffffffff', 'f', repeat('a', 64), 1, '{}', 1, 'r', 'me')"
    )
    waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    until(lambda: ledger_db.rows(waiting, pid), "the reaper waits for the table")
    assert quick.finish(30)["state"] == "done"
    quick.die()
    wait_until_free(ledger_db, quick.batch)
    tail.execute("COMMIT")
    until(lambda: ledger_db.rows("SELECT 1 FROM tokenctl.import_batches WHERE batch_id = 'ffffffffffff'"), "it is open")
    assert ledger_db.rows("SELECT state FROM tokenctl.import_batches WHERE batch_id = 'aaaaaaaaaaaa'") == [("done",)]


def test_a_lock_is_needed_and_is_free_when_its_holder_died(each_db: LedgerDB) -> None:
    client = Client(each_db)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="does not hold the lock"):
        client.open_unlocked()
    client.open()
    assert Client(each_db).lock() is False
    client.die()
    until(Client(each_db).lock, "the dead client's lock is free")


def test_entries_that_are_staged_anew_after_the_plan_change_an_account_by_what_they_are(each_db: LedgerDB) -> None:
    """A slice's accounts are changed by sums that the plan made: of other rows they would make or lose tokens."""
    first = Client(each_db)
    first.run([Row("u1", 5, "a"), Row("u1", 7, "b")])
    first.die()
    desk = each_db.connect("support1")
    post(desk, "u1", 100, key="more")
    reverse(desk, "u1", 1)
    client = Client(each_db, batch="cccccccccccc")
    assert client.open_reversal("aaaaaaaaaaaa") == "open"  # of -7
    client.plan()
    client.begin()
    reverse(desk, "u1", 4)
    reverse(desk, "u1", 2)
    assert client.stage_reversal() == 1  # of -5
    client.apply()
    assert client.close()["applied"] == 1
    assert each_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(100,)]
    each_db.check()


def test_nobody_changes_the_rows_of_a_slice_while_it_is_posted(ledger_db: LedgerDB) -> None:
    post(ledger_db.connect("support1"), "u1", 1, key="first")
    client = Client(ledger_db)
    client.stage([Row("u1", 5, "a")])
    client.begin()
    job = ledger_db.connect("postgres")
    job.autocommit = False
    job.execute("SELECT FROM tokenctl.token_accounts WHERE user_id = 'u1' FOR UPDATE")
    [(part, slice_)] = client.lanes()
    statement = f"SELECT tokenctl.import_apply_v1('{client.batch}', {part}, {slice_}, 'r-batch1', 'me')"
    client.connection.pgconn.send_query(statement.encode())
    pid = client.connection.info.backend_pid
    waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    until(lambda: ledger_db.rows(waiting, pid), "the slice waits for the account")
    table = f"tokenctl_staging.batch_{client.batch}_{part}"
    other = ledger_db.connect("postgres")
    with pytest.raises(errors.LockNotAvailable), other.transaction():
        other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE NOWAIT".encode())
    job.rollback()
