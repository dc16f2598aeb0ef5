"""Seals: whoever kept a head finds whatever was done to what it stands for, by the owner of the tables too."""

from __future__ import annotations

import hashlib
import threading

import psycopg
import pytest

from tests.integration.tampered_seals import (
    COLUMNS,
    SEAL,
    head_of,
    later,
    row_hash,
)  # fmt: skip
from tests.pg import LedgerDB, Server, call, post
from tests.vandal import ENTRIES, USERS, fill, look, named, seal, told, vandalize
from tokenctl.errors import LockHeld, NotAllowed

ALL_ROWS = told(f"SELECT {COLUMNS} FROM @T ORDER BY user_id, seq")  # noqa: S608
INSERTED = told(f"INSERT INTO @T ({COLUMNS}) VALUES ({', '.join(['%s'] * 16)})")  # noqa: S608


@pytest.fixture
def db(each_db: LedgerDB) -> LedgerDB:
    """A ledger with everything in it, on each server."""
    fill(each_db)
    return each_db


def test_a_seal_is_what_is_written_down(db: LedgerDB) -> None:
    """Anybody can make it anew, without tokenctl and without PostgreSQL."""
    heads = [seal(db)]
    later(db)
    heads.append(seal(db))
    hashes = [(row[0], row[1], row_hash(row)) for row in db.rows(ALL_ROWS)]
    previous, sealed = None, dict[str, int]()
    for number, head in enumerate(heads, 1):
        [kept] = db.rows(
            "SELECT users, entries, tokens, sealed_at, operator, claimed_by, request_id, content FROM tokenctl.seals"
            " WHERE seal_no = %s", number,
        )  # fmt: skip
        ends = dict(
            db.rows("SELECT user_id, max(last_seq) FROM tokenctl.sealed_ranges WHERE seal_no = %s GROUP BY 1", number)
        )
        ranges = [
            hashlib.sha256(
                b"".join(h for u, seq, h in hashes if u == user and sealed.get(user, 0) < seq <= end)
            ).digest()
            for user, end in sorted(ends.items())
        ]
        content = hashlib.sha256(hashlib.sha256(b"".join(ranges)).digest()).hexdigest()
        assert kept[7] == content
        users, entries, tokens, at, *who = kept[:7]
        assert head == head_of(previous, number, content, users, entries, int(tokens), at, *who)
        previous, sealed = head, sealed | ends
    assert [r[0] for r in db.rows("SELECT entries FROM tokenctl.seals ORDER BY 1 DESC")] == [ENTRIES, 3]


#: Nothing of these may reach a hash.
ODD_SETTINGS = {
    "timezone": "Asia/Kathmandu",
    "datestyle": "German",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "search_path": "tokenctl_staging",
}
COPIED = told("INSERT INTO @A (user_id, balance, last_seq) SELECT user_id, sum(amount), max(seq) FROM @T GROUP BY 1")
HASHES = "SELECT head, content FROM tokenctl.seal_v1('r1', 'me@here')"
RANGES = "SELECT user_id, first_seq, last_seq, tokens, rows_sha256 FROM tokenctl.sealed_ranges ORDER BY 1"


def sealed_copy(server: Server, name: str, rows: list[tuple[object, ...]], settings: dict[str, str]) -> list[object]:
    """The ranges and the content of the seal of these very rows on another server."""
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as maintenance:
        maintenance.execute(f"CREATE DATABASE {name} TEMPLATE ledger_template".encode())
        try:
            db = LedgerDB(server, name, [])
            for row in rows:
                db.rows(INSERTED, *row)
            db.rows(COPIED)
            for setting, value in settings.items():
                maintenance.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
            with psycopg.connect(db.conninfo("admin1"), autocommit=True) as admin, admin.transaction():
                admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                sealed = call(admin, HASHES, {})
            # The copy has the entries of an import and of a payment, not the import and the hold.
            rules = {rule for rule, _ in named(look(db, head=sealed["head"], deep=True))}
            assert rules == {"batch-unknown", "paid-without-hold"}
            for setting in settings:
                maintenance.execute(f"ALTER DATABASE {name} RESET {setting}".encode())
            return [*db.rows(RANGES), sealed["content"]]
        finally:
            maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_both_majors_and_any_setting_make_the_same_hash(server: Server, server_15: Server, ledger_db: LedgerDB) -> None:
    fill(ledger_db)
    rows = ledger_db.rows(ALL_ROWS)
    found = [
        sealed_copy(server, "same_18", rows, {}),
        sealed_copy(server, "odd_18", rows, ODD_SETTINGS),
        sealed_copy(server_15, "odd_15", rows, ODD_SETTINGS),
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == USERS + 1


# --- sealing -------------------------------------------------------------------


def test_a_seal_holds_what_is_new_and_the_chain_goes_on(db: LedgerDB) -> None:
    first = look(db, seal=True).seal
    later(db)
    second = look(db, seal=True).seal
    assert first is not None
    assert second is not None
    assert (first.seal_no, first.entries, first.users, int(first.tokens)) == (1, ENTRIES, USERS, 274)
    assert first.operator == "admin1"
    assert (second.seal_no, second.entries, second.users, int(second.tokens)) == (2, 3, 3, 10)
    assert db.rows("SELECT previous, head, claimed_by, request_id FROM tokenctl.seals ORDER BY seal_no") == [
        (None, first.head, "me@here", "r1"), (first.head, second.head, "me@here", "r1"),
    ]  # fmt: skip
    assert db.rows("SELECT user_id, first_seq, last_seq FROM tokenctl.sealed_ranges WHERE seal_no = 2 ORDER BY 1") == [
        ("u1", 7, 7), ("u3", 2, 2), ("w1", 1, 1),
    ]  # fmt: skip
    assert db.rows("SELECT action, outcome, subject, operator FROM tokenctl.audit_log ORDER BY audit_id") == [
        ("seal", "sealed", "1", "admin1"), ("seal", "sealed", "2", "admin1"),
    ]  # fmt: skip
    for head in (first.head, second.head):
        assert look(db, head=head).total == 0
    assert look(db, deep=True).seals_checked == 2
    assert look(db, head=first.head).seals_checked == 1


def test_without_news_the_last_seal_stands(db: LedgerDB) -> None:
    head = seal(db)
    report = look(db, seal=True)
    assert report.seal is not None
    assert (report.sealed, report.seal.head) == (False, head)
    assert db.rows("SELECT count(*) FROM tokenctl.seals") == [(1,)]


def test_an_empty_ledger_has_nothing_to_seal(each_db: LedgerDB) -> None:
    report = look(each_db, seal=True)
    assert (report.sealed, report.seal, report.total) == (False, None, 0)


def test_with_a_finding_nothing_is_sealed(db: LedgerDB) -> None:
    vandalize(db, "UPDATE @A SET balance = 6 WHERE user_id = 'u3'")
    report = look(db, seal=True)
    assert (report.sealed, report.total) == (False, 2)
    assert db.rows("SELECT count(*) FROM tokenctl.seals") == [(0,)]


def test_what_is_committed_meanwhile_is_in_the_next_seal(db: LedgerDB) -> None:
    support, once = db.connect("support1"), threading.Lock()

    def heard(_done: int) -> None:
        if once.acquire(blocking=False):
            post(support, "u1", 5, key="meanwhile")
            post(support, "new", 5, key="meanwhile")

    first = look(db, seal=True, heard=heard).seal
    second = look(db, seal=True).seal
    assert first is not None
    assert second is not None
    assert (first.entries, second.entries, second.users) == (ENTRIES, 2, 2)
    assert look(db, head=second.head, deep=True).total == 0


def test_more_than_a_million_entries_of_a_user_are_several_ranges(ledger_db: LedgerDB) -> None:
    """Ranges end at whole millions, so that no hash has to be made of more than a value can hold."""
    db = ledger_db
    post(db.connect("support1"), "u1", 1)
    vandalize(
        db,
        # As if the first 999,998 were sealed long ago; their rows are not asked for.
        "UPDATE @T SET seq = 999999", "UPDATE @A SET last_seq = 999999",
        "INSERT INTO tokenctl.sealed_ranges VALUES ('u1', 1, 999998, 0, 0, sha256(''))",
    )  # fmt: skip
    for n in range(4):
        post(db.connect("support1"), "u1", 1, key=f"k{n}")
    with psycopg.connect(db.conninfo("admin1"), autocommit=True) as admin, admin.transaction():
        admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        sealed = call(admin, SEAL, {})
    assert (sealed["entries"], sealed["users"], sealed["tokens"]) == (5, 1, 5)
    assert db.rows("SELECT first_seq, last_seq FROM tokenctl.sealed_ranges WHERE seal_no = 1 ORDER BY 1") == [
        (999999, 1000000), (1000001, 1000003),
    ]  # fmt: skip


@pytest.mark.parametrize("login", ["reader1", "support1", "batch1", "stranger"])
def test_only_an_admin_may_seal(db: LedgerDB, login: str) -> None:
    with pytest.raises(NotAllowed):
        look(db, seal=True, login=login)
    connection = db.connect(login)
    for statement in (
        "SELECT tokenctl.seal_v1('r', 'me')", "SELECT tokenctl.seal_lock_v1()",
        "SELECT tokenctl.seal_ranges(NULL::tokenctl.seals)",
        "INSERT INTO tokenctl.seals SELECT * FROM tokenctl.seals", "DELETE FROM tokenctl.seals",
        "UPDATE tokenctl.sealed_ranges SET last_seq = 1", "TRUNCATE tokenctl.sealed_ranges_0",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_an_admin_writes_seals_by_the_function_alone(db: LedgerDB) -> None:
    seal(db)
    admin = db.connect("admin1")
    for statement in ("UPDATE tokenctl.seals SET head = head", "DELETE FROM tokenctl.sealed_ranges",
                      "SELECT tokenctl.seal_ranges(NULL::tokenctl.seals)"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute(statement.encode())
    for statement in ("UPDATE tokenctl.seals SET head = head", "DELETE FROM tokenctl.sealed_ranges",
                      "TRUNCATE tokenctl.sealed_ranges_0", "TRUNCATE tokenctl.seals"):  # fmt: skip
        with pytest.raises(psycopg.errors.RestrictViolation):
            db.rows(statement)


def test_a_seal_needs_one_snapshot(db: LedgerDB) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.connect("admin1").execute(SEAL)


def test_who_saw_the_ledger_before_another_sealed_it_cannot_seal(db: LedgerDB) -> None:
    """The snapshot is older than the other seal, which its lock did not keep away."""
    slow = db.connect("admin1")
    slow.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    slow.execute("SELECT count(*) FROM tokenctl.seals")
    head = seal(db)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        slow.execute(SEAL)
    slow.execute("ROLLBACK")
    assert db.rows("SELECT head FROM tokenctl.seals") == [(head,)]
    assert look(db, head=head, deep=True).total == 0


def test_sealers_at_once_leave_one_chain(db: LedgerDB) -> None:
    outcomes: list[bool | None] = []

    def work() -> None:
        try:
            outcomes.append(look(db, seal=True).sealed)
        except LockHeld:
            outcomes.append(None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1
    assert db.rows("SELECT count(*) FROM tokenctl.seals") == [(1,)]
    assert look(db, deep=True).total == 0


# --- since the last seal ----------------------------------------------------------


def test_since_the_last_seal_looks_at_users_who_changed(db: LedgerDB) -> None:
    everything = look(db, since_last=True)
    assert (everything.users, everything.entries, everything.seal) == (USERS, ENTRIES, None)
    seal(db)
    assert look(db, since_last=True).users == 0
    later(db)
    report = look(db, since_last=True)
    # u1, u3 and w1, whole
    assert (report.users, report.entries, report.total) == (3, 7 + 2 + 1, 0)


def test_since_the_last_seal_finds_in_them_what_is_wrong(db: LedgerDB) -> None:
    seal(db)
    later(db)
    vandalize(
        db,
        "UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3",
        "UPDATE @A SET balance = 1 WHERE user_id = 'u2'",
    )
    assert named(look(db, since_last=True)) == {("running-sum", "u1:3"), ("balance", "u1")}, "u2 has no new entry"


def test_since_the_last_seal_then_sealed_is_all_that_a_night_needs(db: LedgerDB) -> None:
    for night in range(3):
        post(db.connect("support1"), f"n{night}", 5, key="x")
        report = look(db, since_last=True, seal=True)
        assert report.sealed
        assert report.users == (USERS + 1 if night == 0 else 1)
    assert look(db, deep=True).seals_checked == 3
