"""Verify finds each rule of the ledger broken, names the place, and finds nothing where nothing is."""

from __future__ import annotations

import re
import threading

import pytest

from tests.batch_driver import Client, Row
from tests.integration.broken_ledgers import BROKEN, DEEP
from tests.pg import Connection, LedgerDB, hold, post
from tests.vandal import ENTRIES, USERS, fill, inspecting, look, named, told, vandalize
from tests.waiting import until
from tokenctl.errors import LockHeld, NotAllowed, Unavailable, UserNotFound
from tokenctl.storage import queries
from tokenctl.storage.database import Database
from tokenctl.storage.sidebyside import WORKERS


@pytest.fixture
def db(each_db: LedgerDB) -> LedgerDB:
    """A ledger with everything in it, on each server."""
    fill(each_db)
    return each_db


def without_total(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(rule, name) for rule, name in found if rule != "trial-balance"}


def test_nothing_is_found_where_nothing_is(db: LedgerDB) -> None:
    report = look(db, deep=True)
    assert (named(report), report.counts) == (set(), {})
    assert (report.users, report.entries) == (USERS, ENTRIES)
    assert report.balances == -sum(report.funds.values()) == 274
    assert report.funds == {"bonus": -299, "generation": 25}


def test_an_empty_ledger_is_fine(each_db: LedgerDB) -> None:
    report = look(each_db, deep=True)
    assert (report.total, report.users, report.entries, report.balances, report.funds) == (0, 0, 0, 0, {})


def test_an_account_without_entries_and_tokens_is_fine(each_db: LedgerDB) -> None:
    vandalize(each_db, "INSERT INTO @A (user_id) VALUES ('new')")
    assert (look(each_db, deep=True).total, look(each_db, user="new").users) == (0, 1)


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_named(db: LedgerDB, what: str) -> None:
    done, expected = BROKEN[what]
    vandalize(db, *done)
    report = look(db)
    found = named(report)
    assert without_total(found) == expected
    assert len(report.flaws) == report.total == sum(report.counts.values())
    assert all(flaw.what and flaw.hint for flaw in report.flaws)
    whole = db.rows(told("SELECT (SELECT sum(balance) FROM @A) - (SELECT sum(amount) FROM @T)"))[0][0]
    assert (("trial-balance", "all users") in found) == (whole != 0)
    # One user alone is found guilty of the same, apart from what is about batches and all users.
    for user in {name.partition(":")[0] for _, name in expected if " " not in name}:
        mine = {(rule, name) for rule, name in expected if name.partition(":")[0] == user}
        assert named(look(db, user=user)) == mine


@pytest.mark.parametrize("what", DEEP)
def test_what_has_not_its_form_is_found_by_looking_deep(db: LedgerDB, what: str) -> None:
    done, expected = DEEP[what]
    vandalize(db, *done)
    assert named(look(db, deep=True)) == expected
    assert {rule for rule, _ in named(look(db))} <= {rule for rule, _ in expected} - {"form", "key-twice"}


def test_every_rule_is_broken_here(db: LedgerDB) -> None:
    assert look(db).total == 0
    tried = {rule for _, expected in (BROKEN | DEEP).values() for rule, _ in expected}
    texts = [path.read_text() for path in (queries.sql_root() / "queries").glob("verify_*.sql")]
    rules = {rule for text in texts for rule in re.findall(r"'([a-z]+(?:-[a-z]+)+)'", text)}
    assert rules - tried == {"sealed-cut", "sealed-rows"}, "test_seals.py breaks those"


@pytest.mark.parametrize("mode", ["DISABLE", "ENABLE"])
def test_a_trigger_that_does_not_always_fire_is_found(db: LedgerDB, mode: str) -> None:
    db.rows(f"ALTER TABLE tokenctl.token_transactions_2 {mode} TRIGGER append_only")
    assert look(db).total == 0
    report = look(db, deep=True)
    assert named(report) == {("trigger", "token_transactions_2")}
    assert "not enabled always" in report.flaws[0].what


def test_triggers_of_the_seals_are_looked_at(db: LedgerDB) -> None:
    db.rows("ALTER TABLE tokenctl.seals DISABLE TRIGGER append_only")
    db.rows("DROP TRIGGER never_truncated ON tokenctl.sealed_ranges_1")
    assert named(look(db, deep=True)) == {("trigger", "seals"), ("trigger", "sealed_ranges_1")}


def test_a_partition_that_was_taken_away_is_found(db: LedgerDB) -> None:
    for table in ("token_transactions", "token_accounts"):
        db.rows(f"ALTER TABLE tokenctl.{table} DETACH PARTITION tokenctl.{table}_1")
    found = named(look(db))
    assert {("partition-missing", "token_transactions_1"), ("partition-missing", "token_accounts_1")} <= found


def test_a_view_in_the_place_of_the_entries_is_no_table(db: LedgerDB) -> None:
    db.rows("ALTER TABLE tokenctl.token_holds RENAME TO real_holds")
    db.rows("CREATE VIEW tokenctl.token_holds AS SELECT * FROM tokenctl.real_holds WHERE false")
    assert ("partition-missing", "token_holds") in named(look(db))


def test_rows_hidden_by_a_policy_are_not_overlooked(db: LedgerDB) -> None:
    db.rows("ALTER TABLE tokenctl.token_transactions_0 ENABLE ROW LEVEL SECURITY")
    with pytest.raises(NotAllowed):
        look(db)


def test_functions_of_the_ledger_are_not_believed(db: LedgerDB) -> None:
    """Whoever can rewrite rows can also make functions that count differently, and have them found first."""
    vandalize(db, "UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3")
    for name in ("abs", "length"):
        db.rows(f"CREATE FUNCTION tokenctl.{name}(text) RETURNS integer LANGUAGE sql AS 'SELECT 0'")
    db.rows("CREATE FUNCTION tokenctl.same(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false'")
    db.rows("CREATE OPERATOR tokenctl.<> (FUNCTION = tokenctl.same, LEFTARG = bigint, RIGHTARG = bigint)")
    db.rows(f"ALTER DATABASE {db.name} SET search_path = tokenctl, pg_catalog")
    assert without_total(named(look(db))) == {("running-sum", "u1:3"), ("balance", "u1")}


def test_a_hundred_findings_are_shown_and_all_are_counted(each_db: LedgerDB) -> None:
    support = each_db.connect("support1")
    for n in range(150):
        post(support, f"u{n:03}", 5)
    vandalize(each_db, "UPDATE @A SET balance = 6")
    report = look(each_db)
    assert report.counts == {"balance": 150, "trial-balance": 1}
    assert (report.total, len(report.flaws)) == (151, 100)
    assert [flaw.name for flaw in report.flaws[:3]] == ["all users", "u000", "u001"]


def test_one_user_s_findings_are_that_user_s(db: LedgerDB) -> None:
    vandalize(db, "UPDATE @A SET balance = balance + 1")
    report = look(db, user="u3", deep=True)
    assert (named(report), report.users, report.entries) == ({("balance", "u3")}, 1, 1)


def test_nobody_of_that_name_is_told_with_near_names(db: LedgerDB) -> None:
    with pytest.raises(UserNotFound) as raised:
        look(db, user="u33")
    assert "u3" in raised.value.hint


@pytest.mark.parametrize("login", ["reader1", "support1", "batch1", "admin1"])
def test_every_role_may_verify(db: LedgerDB, login: str) -> None:
    assert look(db, login=login, deep=True).total == 0


def test_a_stranger_may_not(db: LedgerDB) -> None:
    with pytest.raises(NotAllowed):
        look(db, login="stranger")


def test_verify_writes_nothing(db: LedgerDB) -> None:
    before = db.rows("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables")
    written = db.rows("SELECT count(*) FROM tokenctl.audit_log")
    look(db, deep=True)
    assert db.rows("SELECT count(*) FROM tokenctl.audit_log") == written
    assert db.rows("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables") == before


def test_connections_are_few_and_all_see_one_moment(db: LedgerDB) -> None:
    """What is written between the first partition and the last is not seen by half."""
    support, one_by_one = db.connect("support1"), threading.Lock()
    seen: list[int] = []

    def heard(_done: int) -> None:
        with one_by_one:
            for user in ("u1", "u2", "u3", "u4", "v1", "v2", "v3", f"new{len(seen)}"):
                post(support, user, 5, key=f"while-{len(seen)}")
            [(count,)] = db.rows("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'verify'")
            seen.append(count)

    report = look(db, deep=True, heard=heard)
    assert (report.total, report.entries, report.users) == (0, ENTRIES, USERS)
    assert max(seen) <= WORKERS + 1
    assert look(db).entries == ENTRIES + 8 * len(seen)


CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'verify' AND {}"


def test_a_lost_connection_is_replaced_in_the_same_snapshot(db: LedgerDB) -> None:
    cut: list[int] = []

    def heard(_done: int) -> None:
        if not cut:
            post(db.connect("support1"), "u1", 5, key="later")
            # The first connection, which holds the snapshot, asks something else.
            cut.append(db.rows(CUT.format("query LIKE '-- Every rule%'"))[0][0])

    report = look(db, heard=heard)
    assert sum(cut) >= 1  # both workers may be heard of at once: then one of them cuts off both
    assert (report.total, report.entries) == (0, ENTRIES)


def test_without_the_first_connection_there_is_no_snapshot_and_no_finding(db: LedgerDB) -> None:
    def heard(_done: int) -> None:
        db.rows(CUT.format("true"))

    with pytest.raises(Unavailable):
        look(db, heard=heard)


def test_a_snapshot_that_is_gone_by_the_time_it_is_taken_is_a_loss_and_no_wrong_schema(
    db: LedgerDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Database.connect

    def cutting(self: Database) -> Connection:
        control = "application_name = 'verify' AND state = 'idle in transaction'"
        db.rows(CUT.format(control))
        until(lambda: not db.rows(f"SELECT FROM pg_stat_activity WHERE {control}"), "the first connection is gone")
        return connect(self)

    monkeypatch.setattr(Database, "connect", cutting)
    with pytest.raises(Unavailable, match="lost"):
        look(db)


def test_an_import_half_way_is_no_finding(db: LedgerDB) -> None:
    client = Client(db, batch="cccccccccccc", login="batch2", slices=2)
    client.stage([Row(f"w{n}", n + 1, "i2") for n in range(20)])
    assert look(db, deep=True).total == 0
    client.begin()
    for lane in client.lanes():
        client.apply([lane])
        assert look(db).total == 0
    client.die()
    assert look(db, deep=True).total == 0


def test_a_second_sealer_is_refused(db: LedgerDB) -> None:
    with inspecting(db, "admin1") as (first, _):
        first.open(sealing=True)
        with pytest.raises(LockHeld):
            look(db, seal=True)
    assert look(db, seal=True).sealed


def test_a_hold_that_ends_while_its_tokens_are_spent_is_no_finding(db: LedgerDB) -> None:
    post(db.connect("support1"), "u5", 5)
    hold(db, "u5", 5, seconds=-1, hold_id="over")
    hold(db, "u5", 5, seconds=3600, hold_id="mine")
    assert look(db).total == 0
