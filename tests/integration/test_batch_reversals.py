"""The reversal of a batch, in SQL: each of its entries once, and no more than a user has."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.batch_driver import Client, Row, staged_tables
from tests.pg import LedgerDB, hold, post, reverse
from tests.waiting import until

ROWS = [Row(f"u{n % 10}", 10 + n, f"k{n}", kind="purchase" if n % 3 else "bonus") for n in range(30)]
MEANWHILE = [Row(row.user, row.amount, row.key) for row in ROWS]
TOTAL = sum(row.amount for row in ROWS)
UNDO, REDO = "bbbbbbbbbbbb", "cccccccccccc"
BALANCES = "SELECT user_id, balance FROM tokenctl.token_accounts ORDER BY 1"
FUNDS = "SELECT fund, balance FROM tokenctl.token_funds WHERE balance <> 0 ORDER BY 1"


def with_batch(db: LedgerDB) -> LedgerDB:
    """The ledger with one batch, aaaaaaaaaaaa, and one grant to u0 before it."""
    post(db.connect("support1"), "u0", 1000, key="before")
    client = Client(db, slices=3)
    client.run(ROWS)
    client.die()
    return db


@pytest.fixture
def imported(ledger_db: LedgerDB) -> LedgerDB:
    return with_batch(ledger_db)


def undo(db: LedgerDB, batch: str = UNDO, reverses: str = "aaaaaaaaaaaa", **given: Any) -> dict[str, Any]:
    client = Client(db, batch=batch, **given)
    assert client.open_reversal(reverses) == "open"
    client.seal()
    client.plan()
    client.begin()
    client.apply()
    done = client.close()
    client.die()
    return done


@pytest.mark.parametrize("slices", [1, 12])
def test_every_entry_is_reversed_once(each_db: LedgerDB, slices: int) -> None:
    imported = with_batch(each_db)
    done = undo(imported, slices=slices)
    assert (done["state"], done["applied"], done["applied_tokens"], done["rows_read"]) == ("done", 30, -TOTAL, 30)
    assert imported.rows(BALANCES) == [("u0", 1000), *((f"u{n}", 0) for n in range(1, 10))]
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    unpaired = imported.rows(
        "SELECT t.* FROM tokenctl.token_transactions t LEFT JOIN tokenctl.token_transactions r"
        " ON r.user_id = t.user_id AND r.reverses_seq = t.seq AND r.amount = -t.amount AND r.kind = t.kind"
        " AND r.reason = 'mistake' AND r.ticket = 'T-9' AND r.note = 'a note' AND r.batch_id = %s"
        " WHERE t.batch_id = 'aaaaaaaaaaaa' AND r.seq IS NULL",
        UNDO,
    )
    assert unpaired == []
    assert staged_tables(imported) == []
    imported.check()


def test_a_second_reversal_finds_nothing(imported: LedgerDB) -> None:
    undo(imported)
    client = Client(imported, batch=REDO)
    assert client.open_reversal("aaaaaaaaaaaa") == "open"
    assert client.plan()["staged"] == 0
    client.close(rejected=None)
    client.die()
    assert Client(imported, batch=UNDO).open_reversal("aaaaaaaaaaaa") == "done"


def test_what_is_not_there_or_not_finished_is_not_reversed(each_db: LedgerDB) -> None:
    client = Client(each_db)
    client.stage(ROWS)
    client.begin()
    client.die()
    undoing = Client(each_db, batch=UNDO)
    assert undoing.open_reversal("ffffffffffff") == "unknown_batch"
    assert undoing.open_reversal("aaaaaaaaaaaa") == "not_finished"


@pytest.mark.parametrize("done", [0, 6])
def test_a_cut_reversal_is_finished_once(each_db: LedgerDB, done: int) -> None:
    imported = with_batch(each_db)
    cut = Client(imported, batch=UNDO, slices=3)
    cut.open_reversal("aaaaaaaaaaaa")
    cut.plan()
    cut.begin()
    cut.apply(cut.lanes()[:done])
    posted = imported.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE batch_id = %s", UNDO)[0][0]
    cut.die()
    heir = Client(imported, "batch2", UNDO)
    assert heir.open_reversal("aaaaaaaaaaaa", reason="another") == "resume"
    plan = heir.plan()
    assert (plan["staged"], plan["own"], plan["findings"]) == (30, posted, 0)
    heir.begin()
    heir.apply()
    assert heir.close()["applied"] == 30
    assert imported.rows("SELECT DISTINCT reason FROM tokenctl.token_transactions WHERE batch_id = %s", UNDO) == [
        ("mistake",)
    ]
    imported.check()


@pytest.mark.parametrize("is_planned", [False, True])
def test_what_a_crash_of_the_server_took_before_the_beginning_is_missed(
    imported: LedgerDB, *, is_planned: bool
) -> None:
    undo = Client(imported, batch="bbbbbbbbbbbb")
    assert undo.open_reversal("aaaaaaaaaaaa") == "open"
    if is_planned:  # the lanes are in the log, and may not have come to the disk
        undo.plan()
        imported.rows("DELETE FROM tokenctl.import_lanes WHERE batch_id = %s", undo.batch)
    for part in range(4):  # as a crash leaves unlogged tables
        imported.rows(f"TRUNCATE tokenctl_staging.batch_{undo.batch}_{part}")
    if not is_planned:
        assert undo.plan()["staged"] == 0
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as lost:
        undo.begin()
    assert lost.value.diag.constraint_name == "staging_lost"
    imported.check()


def test_the_reversal_of_a_reversal_grants_again(imported: LedgerDB) -> None:
    before = imported.rows(BALANCES)
    undo(imported)
    assert Client(imported).open_unlocked() == "reversed"
    done = undo(imported, REDO, UNDO)
    assert (done["applied"], done["applied_tokens"]) == (30, TOTAL)
    assert imported.rows(BALANCES) == before
    assert Client(imported).open_unlocked() == "done"
    imported.check()


def test_what_was_reversed_singly_is_left_out(imported: LedgerDB) -> None:
    support = imported.connect("support1")
    assert reverse(support, "u1", 1)["outcome"] == "applied"
    assert reverse(support, "u2", 2, key="own-key")["outcome"] == "applied"
    done = undo(imported)
    assert (done["applied"], done["replayed"]) == (28, 0)
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    imported.check()


def test_what_is_reversed_singly_meanwhile_is_not_reversed_twice(imported: LedgerDB) -> None:
    client = Client(imported, batch=UNDO)
    client.open_reversal("aaaaaaaaaaaa")
    client.plan()
    client.begin()
    support = imported.connect("support1")
    assert reverse(support, "u1", 1)["outcome"] == "applied"
    assert reverse(support, "u2", 2, key="own-key")["outcome"] == "applied"
    client.apply()
    done = client.close()
    assert (done["applied"], done["replayed"], done["conflicting"], done["refused"]) == (28, 2, 0, 0)
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    imported.check()


def test_who_lacks_tokens_is_named_and_nothing_changes(imported: LedgerDB) -> None:
    wanted = sum(row.amount for row in ROWS if row.user == "u3")
    hold(imported, "u3", 30)
    hold(imported, "u4", 30, seconds=-1)
    before = imported.rows(BALANCES)
    client = Client(imported, batch=UNDO)
    client.open_reversal("aaaaaaaaaaaa")
    client.plan()
    assert client.leave_out() == {"u3": ("refused", wanted, wanted - 30, wanted, 1, 33, 0)}
    client.close(rejected=None)
    assert imported.rows(BALANCES) == before
    assert imported.rows("SELECT count(*) FROM tokenctl.import_batches") == [(1,)]
    assert staged_tables(imported) == []


def test_a_hold_made_while_the_reversal_waits_is_respected(each_db: LedgerDB) -> None:
    """A job locks the account, then promises tokens; the reversal has begun to wait for the lock."""
    imported = with_batch(each_db)
    client = Client(imported, batch=UNDO)
    client.open_reversal("aaaaaaaaaaaa")
    client.plan()
    client.begin()
    job = imported.connect("postgres")
    job.autocommit = False
    job.execute("SELECT FROM tokenctl.token_accounts WHERE user_id = 'u3' FOR NO KEY UPDATE")
    part = imported.rows(
        "SELECT right(tableoid::regclass::text, 1)::int FROM tokenctl.token_accounts WHERE user_id = 'u3'"
    )
    other = imported.connect("batch1")
    pid = other.info.backend_pid
    other.pgconn.send_query(f"SELECT tokenctl.import_apply_v1('{UNDO}', {part[0][0]}, 0, 'r-batch1', 'me')".encode())
    waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    until(lambda: imported.rows(waiting, pid), "the reversal waits for the account")
    job.execute(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, expires_at, purpose, idempotency_key, operator,"
        " claimed_by, request_id) VALUES ('u3', 'h', 30, clock_timestamp() + '1 hour', 't', 'h', 'x', 'x', 'x')"
    )
    job.commit()
    lane = "SELECT refused FROM tokenctl.import_lanes WHERE batch_id = %s AND part = %s AND state = 'done'"
    assert until(lambda: imported.rows(lane, UNDO, part[0][0]), "the slice is done") == [(1,)]
    client.apply()
    done = client.close()
    assert (done["applied"], done["refused"]) == (29, 1)
    # 13 + 23 + 33 tokens, 30 of them held: the two smaller entries can be reversed.
    assert imported.rows("SELECT balance FROM tokenctl.token_accounts WHERE user_id = 'u3'") == [(33,)]
    imported.check()


def test_the_rest_is_reversed_when_the_tokens_are_there(imported: LedgerDB) -> None:
    client = Client(imported, batch=UNDO)
    client.open_reversal("aaaaaaaaaaaa")
    client.plan()
    client.begin()
    hold(imported, "u3", 30)
    client.apply()
    assert client.close()["refused"] == 1
    client.die()
    imported.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    assert undo(imported, REDO)["applied"] == 1
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    imported.check()


def test_a_row_whose_entry_was_reversed_meanwhile_is_told_and_no_replay(each_db: LedgerDB) -> None:
    client = Client(each_db)
    client.stage(MEANWHILE)
    support = each_db.connect("support1")
    for row in MEANWHILE[1:3]:
        post(support, row.user, row.amount, key=row.key, reason="promo")
        reverse(support, row.user, 1)
    reverse(support, "u2", 2, request_id="redo")  # so that this grant stands after all
    client.begin()
    client.apply()
    client.die()
    heir = Client(each_db)
    assert heir.stage(MEANWHILE)["findings"] == 0  # told once
    heir.begin()
    done = heir.close(30)
    assert (done["applied"], done["replayed"], done["replayed_tokens"], done["refused"]) == (28, 1, 12, 1)
    told = (
        "SELECT f ->> 'line', f ->> 'problem', f ->> 'seq' FROM tokenctl.import_lanes, jsonb_array_elements(findings) f"
    )
    assert each_db.rows(told) == [("3", "reversed", "1")]
    assert Client(each_db, batch=REDO).stage(MEANWHILE)["findings"] == 1  # another file's plan says the same
    each_db.check()


def test_what_becomes_too_large_after_the_plan_is_told_as_that(each_db: LedgerDB) -> None:
    imported = with_batch(each_db)
    undo(imported)
    client = Client(imported, batch=REDO)
    client.open_reversal(UNDO)
    client.plan()
    assert client.leave_out() == {}
    given = sum(row.amount for row in ROWS if row.user == "u3")
    post(imported.connect("admin1"), "u3", 2**53 - given, key="more")
    client.begin()
    client.apply()
    assert client.close()["refused"] == 3
    told = (
        "SELECT DISTINCT f ->> 'problem', f ->> 'user_id' FROM tokenctl.import_lanes, jsonb_array_elements(findings) f"
    )
    assert imported.rows(told) == [("too_large", "u3")]
    imported.check()


def test_what_the_plan_left_out_stays_left_out(each_db: LedgerDB) -> None:
    """Too large for u3 and spent by u4 when it is planned; both would fit when it is posted."""
    imported = with_batch(each_db)
    undo(imported)
    admin = imported.connect("admin1")
    given = sum(row.amount for row in ROWS if row.user == "u3")
    post(admin, "u3", 2**53 - given, key="more")
    redo = Client(imported, batch=REDO)
    redo.open_reversal(UNDO)
    redo.plan()
    for _ in range(2):  # the answer may be lost
        left = redo.leave_out()
        assert left == {"u3": ("too_large", -given, 2**53 - given, 2**53 - given, 3, 0, given)}
    reverse(admin, "u3", 7)
    redo.begin()
    redo.apply()
    done = redo.close()
    assert (done["applied"], done["refused"], done["rows_read"]) == (27, 3, 30)
    redo.die()
    hold(imported, "u4", 30)
    again = Client(imported, batch="dddddddddddd")
    again.open_reversal(REDO)
    again.plan()
    assert again.leave_out() == {"u4": ("refused", 72, 42, 72, 1, 34, 0)}
    imported.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    again.begin()
    again.apply()
    done = again.close()
    assert (done["applied"], done["refused"], done["rows_read"]) == (26, 1, 27)
    told = (
        "SELECT f ->> 'problem', f ->> 'user_id', f ->> 'seq' FROM tokenctl.import_lanes,"
        " jsonb_array_elements(findings) f ORDER BY 1, 2, 3"
    )
    assert imported.rows(told) == [
        ("refused", "u4", "7"),
        ("too_large", "u3", "4"),
        ("too_large", "u3", "5"),
        ("too_large", "u3", "6"),
    ]
    assert imported.rows("SELECT balance FROM tokenctl.token_accounts WHERE user_id IN ('u3', 'u4')") == [(0,), (34,)]
    imported.check()


def test_a_finished_slice_that_left_something_out_is_judged_again(each_db: LedgerDB) -> None:
    """u3 lacked tokens then and has them now; u4 lacked some, and others have reversed one of two entries."""
    imported = with_batch(each_db)
    cut = Client(imported, batch=UNDO)
    cut.open_reversal("aaaaaaaaaaaa")
    cut.plan()
    cut.begin()
    hold(imported, "u3", 30)
    hold(imported, "u4", 40, hold_id="h2")
    cut.apply()
    done = (
        "SELECT sum(applied), sum(refused), count(*) FROM tokenctl.import_lanes WHERE batch_id = %s AND state = 'done'"
    )
    assert imported.rows(done, UNDO) == [(27, 3, 4)]
    cut.die()
    imported.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    hold(imported, "u4", 24, hold_id="h3")
    assert reverse(imported.connect("support1"), "u4", 3)["outcome"] == "applied"
    heir = Client(imported, "batch2", UNDO)
    assert heir.open_reversal("aaaaaaaaaaaa") == "resume"
    heir.plan()
    assert heir.leave_out() == {"u4": ("refused", 24, 0, 24, 1, 24, 0)}
    assert imported.rows("SELECT rows_read FROM tokenctl.import_batches WHERE batch_id = %s", UNDO) == [(30,)]
    heir.begin()
    heir.apply()
    ended = heir.close()
    assert [ended[name] for name in ("rows_read", "applied", "replayed", "refused")] == [29, 28, 0, 1]
    assert imported.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE batch_id = %s", UNDO) == [(28,)]
    imported.check()


def test_a_clock_that_was_set_back_leaves_nothing_out(imported: LedgerDB) -> None:
    imported.rows("UPDATE tokenctl.import_batches SET started_at = started_at + interval '1 day'")
    assert undo(imported)["applied"] == 30


def test_what_was_given_back_singly_is_reversed_by_its_newest_link(each_db: LedgerDB) -> None:
    imported = with_batch(each_db)
    support = imported.connect("support1")
    reverse(support, "u1", 1)
    reverse(support, "u2", 1, request_id="a")
    reverse(support, "u2", 4, request_id="b")  # gives it back
    assert reverse(support, "u2", 5, request_id="c")["outcome"] == "applied"  # and takes it again
    reverse(support, "u3", 1, request_id="d")
    assert reverse(support, "u3", 4, request_id="e")["outcome"] == "applied"
    done = undo(imported)
    assert (done["applied"], done["refused"], done["conflicting"]) == (28, 0, 0)
    links = "SELECT seq, reverses_seq, amount FROM tokenctl.token_transactions WHERE user_id = 'u3' AND batch_id = %s"
    assert imported.rows(f"{links} ORDER BY seq", UNDO) == [(6, 5, -13), (7, 2, -23), (8, 3, -33)]
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    assert undo(imported, REDO, UNDO)["applied"] == 28
    assert imported.rows("SELECT balance FROM tokenctl.token_accounts WHERE user_id = 'u3'") == [(69,)]
    imported.check()


def test_what_a_batch_gave_back_is_left_to_the_reversal_of_that_batch(each_db: LedgerDB) -> None:
    imported = with_batch(each_db)
    hold(imported, "u3", 69)
    assert undo(imported)["refused"] == 3
    assert undo(imported, REDO, UNDO)["applied"] == 27
    imported.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    again = Client(imported, batch="dddddddddddd")
    assert again.open_reversal("aaaaaaaaaaaa") == "open"
    for part in range(4):  # the answer may be lost
        [(staged, given_back)] = again.connection.execute(
            "SELECT staged, given_back FROM tokenctl.reversal_stage_v1(%s, %s)", (again.batch, part)
        ).fetchall()
        assert (given_back, staged in (0, 3)) == (REDO, True)
    assert again.plan()["staged"] == 3
    again.close(rejected=None)
    again.die()
    assert undo(imported, "eeeeeeeeeeee", REDO)["applied"] == 27
    assert undo(imported, "dddddddddddd")["applied"] == 3
    assert imported.rows(FUNDS) == [("bonus", -1000)]
    imported.check()
