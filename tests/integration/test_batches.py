"""An import's steps in SQL: every row once, whoever is cut off, repeats or meddles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.batch_driver import Client, Row, staged_tables
from tests.pg import LedgerDB, post
from tests.waiting import until

BIGGEST = 2**53 - 1
# Ten users over four partitions, three rows each, interleaved as files are.
ROWS = [Row(f"u{n % 10}", 10 + n, f"k{n}") for n in range(30)]
ENTRIES = "SELECT user_id, seq, amount, balance_after, idempotency_key FROM tokenctl.token_transactions ORDER BY 1, 2"
COUNTS = ("rows_read", "rejected", "duplicate", "applied", "replayed", "conflicting", "refused")


def entries_of(rows: list[Row]) -> list[tuple[str, int, int, int, str]]:
    """What a ledger that was empty holds after these rows, one after the other."""
    made: list[tuple[str, int, int, int, str]] = []
    for user in sorted({row.user for row in rows}):
        balance = 0
        for seq, row in enumerate((row for row in rows if row.user == user), start=1):
            balance += row.amount
            made.append((user, seq, row.amount, balance, row.key))
    return made


def neighbours(db: LedgerDB) -> list[str]:
    """Two users of one partition, in order."""
    names = [f"n{n}" for n in range(9)]
    found = db.rows(
        "SELECT array_agg(u ORDER BY u) FROM unnest(%s::text[]) u"
        " GROUP BY (SELECT min(p) FROM generate_series(0, 3) p WHERE satisfies_hash_partition("
        "'tokenctl.token_accounts'::regclass, 4, p, u COLLATE \"C\")) HAVING count(*) > 1",
        names,
    )
    return list(found[0][0][:2])


def counts(batch: dict[str, object]) -> dict[str, object]:
    return {name: batch[name] for name in COUNTS if batch[name]}


@pytest.mark.parametrize("slices", [1, 12])
def test_a_clean_file_is_posted_in_its_order(each_db: LedgerDB, slices: int) -> None:
    client = Client(each_db, slices=slices)
    plan = client.stage(ROWS)
    assert (plan["staged"], plan["users"], plan["new_users"]) == (30, 10, 10)
    batch = client.finish(30)
    assert counts(batch) == {"rows_read": 30, "applied": 30}
    assert (batch["state"], batch["applied_tokens"], batch["operator"]) == (
        "done",
        sum(r.amount for r in ROWS),
        "batch1",
    )
    assert each_db.rows(ENTRIES) == entries_of(ROWS)
    assert staged_tables(each_db) == []
    each_db.check()


def test_no_staged_row_needs_a_table_beside_its_own(each_db: LedgerDB) -> None:
    Client(each_db).stage(ROWS)
    assert each_db.rows(
        "SELECT count(*), count(nullif(reltoastrelid, 0)) FROM pg_class"
        " WHERE relnamespace = 'tokenctl_staging'::regnamespace AND relispartition"
    ) == [(4, 0)]


def test_an_import_goes_on_where_the_accounts_are(ledger_db: LedgerDB) -> None:
    support = ledger_db.connect("support1")
    post(support, "u1", 500)
    post(support, "u1", 5, key="x")
    Client(ledger_db).run([Row("u1", 10, "a"), Row("u2", 20, "b"), Row("u1", 30, "c")])
    assert [row[:4] for row in ledger_db.rows(ENTRIES)] == [
        ("u1", 1, 500, 500), ("u1", 2, 5, 505), ("u1", 3, 10, 515), ("u1", 4, 30, 545), ("u2", 1, 20, 20),
    ]  # fmt: skip
    ledger_db.check()


def test_an_entry_says_all_that_the_row_said(ledger_db: LedgerDB) -> None:
    Client(ledger_db, campaign="spring").run([Row("u1", 10, "k", "outage", "purchase", "sorry \\N", "T-1")])
    assert ledger_db.rows(
        "SELECT kind, reason, note, ticket, campaign, operator, claimed_by, request_id, batch_id, reverses_seq"
        " FROM tokenctl.token_transactions"
    ) == [("purchase", "outage", "sorry \\N", "T-1", "spring", "batch1", "me", "r-batch1", "aaaaaaaaaaaa", None)]


def test_a_campaign_is_one_claim_by_hand_and_by_file(each_db: LedgerDB) -> None:
    post(each_db.connect("support1"), "u1", 10, reason="promo", campaign="spring")
    client = Client(each_db, campaign="spring")
    plan = client.stage([Row("u1", 10, "bonus:spring"), Row("u2", 10, "bonus:spring")])
    assert (plan["replayed"], plan["findings"]) == (1, 0)
    assert counts(client.finish(2)) == {"rows_read": 2, "applied": 1, "replayed": 1}
    got = post(each_db.connect("support1"), "u2", 10, reason="promo", campaign="spring")
    assert got["outcome"] == "replayed"
    each_db.check()


def test_equal_rows_count_once(ledger_db: LedgerDB) -> None:
    rows = [Row("u1", 10, "a"), Row("u2", 5, "b"), Row("u1", 10, "a", note="only another note"), Row("u1", 10, "a")]
    client = Client(ledger_db)
    plan = client.stage(rows)
    assert (plan["staged"], plan["duplicate"], plan["findings"]) == (2, 2, 0)
    client.begin()
    client.apply()
    client.close(4, 0, 2)
    assert ledger_db.rows(ENTRIES) == [("u1", 1, 10, 10, "a"), ("u2", 1, 5, 5, "b")]


def test_equal_rows_that_the_ledger_has_are_counted_once_too(ledger_db: LedgerDB) -> None:
    Client(ledger_db).run([Row("u1", 10, "a")])
    plan = Client(ledger_db, batch="bbbbbbbbbbbb").stage([Row("u1", 10, "a"), Row("u1", 10, "a"), Row("u1", 7, "b")])
    assert {name: plan[name] for name in ("staged", "duplicate", "replayed", "replayed_tokens", "tokens")} == {
        "staged": 2, "duplicate": 1, "replayed": 1, "replayed_tokens": 10, "tokens": 17,
    }  # fmt: skip


OTHER = [{"amount": 11}, {"reason": "other"}, {"kind": "purchase"}, {"ticket": "T"}]


@pytest.mark.parametrize("other", OTHER)
def test_unequal_rows_of_one_key_are_all_bad(ledger_db: LedgerDB, other: dict[str, str]) -> None:
    rows = [Row("u1", 10, "a"), Row("u2", 5, "a"), Row("u1", **({"amount": 10, "key": "a"} | other))]  # type: ignore[arg-type]  # keywords by name
    client = Client(ledger_db)
    assert client.stage(rows)["findings"] == 2
    assert client.findings() == [(2, "repeated"), (4, "repeated")]
    assert client.plan(drop=[2, 4])["staged"] == 1
    client.finish(3, 2)
    assert ledger_db.rows(ENTRIES) == [("u2", 1, 5, 5, "a")]


@pytest.mark.parametrize("other", OTHER)
def test_a_key_that_the_ledger_has_with_other_content_is_bad(ledger_db: LedgerDB, other: dict[str, str]) -> None:
    Client(ledger_db).run([Row("u1", 10, "a")])
    client = Client(ledger_db, batch="bbbbbbbbbbbb")
    row = Row("u1", **({"amount": 10, "key": "a"} | other))  # type: ignore[arg-type]  # keywords by name
    plan = client.stage([row, row, Row("u2", 1, "b")])
    assert (plan["findings"], plan["duplicate"]) == (1, 1)
    assert client.findings() == [(2, "conflict")]
    client.plan(drop=[2])
    client.begin()
    client.apply()
    assert counts(client.close(3, 1, 1)) == {"rows_read": 3, "applied": 1, "rejected": 1, "duplicate": 1}
    ledger_db.check()


def test_unknown_users_are_bad_when_asked_for(ledger_db: LedgerDB) -> None:
    post(ledger_db.connect("support1"), "u1")
    client = Client(ledger_db)
    client.stage([Row("u1", 10, "a"), Row("nobody", 10, "b")])
    assert client.plan(known_only=True)["findings"] == 1
    assert client.findings(known_only=True) == [(3, "unknown_user")]
    assert client.plan(known_only=True, drop=[3])["new_users"] == 0
    client.finish(2, 1)
    assert ledger_db.rows("SELECT user_id FROM tokenctl.token_accounts") == [("u1",)]


def test_another_file_with_the_same_rows_replays_them(ledger_db: LedgerDB) -> None:
    Client(ledger_db).run(ROWS)
    batch = Client(ledger_db, "batch2", "bbbbbbbbbbbb").run([*ROWS, Row("new", 1, "new")])
    assert counts(batch) == {"rows_read": 31, "applied": 1, "replayed": 30}
    assert batch["replayed_tokens"] == sum(row.amount for row in ROWS)
    ledger_db.check()


def test_the_same_batch_again_is_done(ledger_db: LedgerDB) -> None:
    first = Client(ledger_db)
    first.run(ROWS)
    assert first.open_unlocked() == "done"
    assert Client(ledger_db, "batch2").open_unlocked() == "done"
    assert staged_tables(ledger_db) == []


@pytest.mark.parametrize("done", [0, 5, 12])
def test_a_cut_import_is_finished_with_the_counts_of_a_whole_one(each_db: LedgerDB, done: int) -> None:
    cut = Client(each_db, slices=3)
    cut.stage([*ROWS, ROWS[0]])
    cut.begin()
    posted = cut.lanes()[:done]
    cut.apply(posted)
    cut.die()
    heir = Client(each_db, "batch2", slices=7)  # another size, another operator: the slices stay
    plan = heir.stage([*ROWS, ROWS[0]])
    assert plan["staged"] == 30
    assert plan["own"] == each_db.rows("SELECT count(*) FROM tokenctl.token_transactions")[0][0]
    assert heir.lanes("done") == posted
    heir.begin()
    heir.apply()
    assert counts(heir.close(31, 0, plan["duplicate"])) == {"rows_read": 31, "applied": 30, "duplicate": 1}
    assert each_db.rows(ENTRIES) == entries_of(ROWS)
    assert staged_tables(each_db) == []
    each_db.check()


def test_a_slice_is_neighbours_and_no_slice_is_much_larger_than_its_share(each_db: LedgerDB) -> None:
    client = Client(each_db, slices=5)
    client.stage([Row(f"u{n % 400:03d}", 1, f"k{n}") for n in range(2000)])
    for part in range(4):
        lanes = each_db.rows(
            "SELECT slice, from_user, staged, staged_users FROM tokenctl.import_lanes WHERE part = %s ORDER BY slice",
            part,
        )
        users = sorted({row[0] for row in each_db.rows(f"TABLE tokenctl_staging.batch_{client.batch}_{part}")})
        assert [lane[0] for lane in lanes] == [0, 1, 2, 3, 4]
        first = 0
        for _, from_user, staged, count in lanes:
            assert from_user == (users[first] if first else "")  # the first slice is whoever comes first
            assert staged == 5 * count
            assert abs(staged - len(users)) <= 5
            first += count
        assert first == len(users)
    assert counts(client.finish(2000)) == {"rows_read": 2000, "applied": 2000}
    each_db.check()


def test_a_batch_that_was_cut_off_before_slices_had_a_first_user_is_finished(each_db: LedgerDB) -> None:
    cut = Client(each_db, slices=3)
    cut.stage(ROWS)
    cut.begin()
    posted = cut.lanes()[:4]
    cut.apply(posted)
    cut.die()
    each_db.rows("UPDATE tokenctl.import_lanes SET from_user = NULL")
    heir = Client(each_db)
    assert heir.stage(ROWS)["own"] > 0
    assert counts(heir.finish(30)) == {"rows_read": 30, "applied": 30}
    assert each_db.rows(ENTRIES) == entries_of(ROWS)
    each_db.check()


def test_a_batch_that_gave_up_half_way_is_neither_done_nor_forgotten(ledger_db: LedgerDB) -> None:
    cut = Client(ledger_db)
    cut.stage(ROWS)
    cut.begin()
    cut.apply()
    cut.die()
    heir = Client(ledger_db)
    heir.stage(ROWS)
    assert heir.close(rejected=None)["state"] == "applying"  # a dry run, say
    assert heir.stage(ROWS)["own"] == 30
    assert counts(heir.finish(30)) == {"rows_read": 30, "applied": 30}


def test_two_sessions_that_post_the_same_lanes_post_once(each_db: LedgerDB) -> None:
    client = Client(each_db, slices=5)
    client.stage(ROWS)
    client.begin()
    lanes = client.lanes()
    connections = [each_db.connect("batch1") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda connection: client.apply(lanes, connection), connections))
    done = each_db.rows("TABLE tokenctl.import_lanes ORDER BY part, slice")
    client.apply(lanes)
    assert each_db.rows("TABLE tokenctl.import_lanes ORDER BY part, slice") == done  # nor looked at again
    assert counts(client.close(30)) == {"rows_read": 30, "applied": 30}
    assert each_db.rows(ENTRIES) == entries_of(ROWS)
    each_db.check()


def test_what_was_granted_between_plan_and_apply_is_sorted_out(each_db: LedgerDB) -> None:
    client = Client(each_db)
    client.stage(ROWS)
    support = each_db.connect("support1")
    post(support, "u1", ROWS[1].amount, reason="promo", key="k1")
    post(support, "u2", 999, reason="promo", key="k2")
    batch = client.finish(30)
    assert counts(batch) == {"rows_read": 30, "applied": 28, "replayed": 1, "conflicting": 1}
    assert (batch["replayed_tokens"], batch["applied_tokens"]) == (11, sum(r.amount for r in ROWS) - 11 - 12)
    assert each_db.rows(
        "SELECT f ->> 'line', f ->> 'problem', f ->> 'user_id', f ->> 'seq'"
        " FROM tokenctl.import_lanes, jsonb_array_elements(findings) f"
    ) == [("4", "conflict", "u2", "1")]
    each_db.check()


def test_a_conflict_that_a_cut_run_met_is_told_once(ledger_db: LedgerDB) -> None:
    cut = Client(ledger_db, slices=4)
    cut.stage(ROWS)
    post(ledger_db.connect("support1"), "u2", 999, key="k2")
    cut.begin()
    cut.apply()
    cut.die()
    heir = Client(ledger_db)
    assert heir.stage(ROWS)["findings"] == 0
    assert counts(heir.finish(30)) == {"rows_read": 30, "applied": 29, "conflicting": 1}


def test_a_user_whose_balance_would_overflow_is_left_out_whole(ledger_db: LedgerDB) -> None:
    post(ledger_db.connect("support1"), "rich", BIGGEST - 10)
    rows = [Row("rich", 5, "a"), Row("poor", 7, "b"), Row("rich", 6, "c"), Row("rich", 1, "d")]
    batch = Client(ledger_db).run(rows)
    assert counts(batch) == {"rows_read": 4, "applied": 1, "refused": 3}
    assert batch["applied_tokens"] == 7
    assert ledger_db.rows("SELECT balance FROM tokenctl.token_accounts ORDER BY user_id") == [(7,), (BIGGEST - 10,)]
    ledger_db.check()


def test_a_new_user_none_of_whose_rows_is_posted_does_not_come_into_being(each_db: LedgerDB) -> None:
    rows = [Row("new", BIGGEST, "a"), Row("poor", 7, "b"), Row("new", 1, "c")]
    assert counts(Client(each_db).run(rows)) == {"rows_read": 3, "applied": 1, "refused": 2}
    assert each_db.rows("SELECT user_id, balance, last_seq FROM tokenctl.token_accounts") == [("poor", 7, 1)]
    assert counts(Client(each_db, batch="bbbbbbbbbbbb").run(rows[:1])) == {"rows_read": 1, "applied": 1}
    each_db.check()


def test_a_user_who_comes_into_being_while_a_slice_is_sorted_is_judged_as_he_then_is(each_db: LedgerDB) -> None:
    """The slice locked whom it knew, and waits for a grant that makes a user whom it does not."""
    first, second = neighbours(each_db)
    post(each_db.connect("support1"), first, BIGGEST)
    client = Client(each_db)
    client.stage([Row(first, 1, "a"), Row(second, 10, "b"), Row(second, 20, "c")])
    client.begin()
    support = each_db.connect("support1")
    support.autocommit = False
    post(support, second, 10, reason="promo", key="b")
    pid = client.connection.info.backend_pid
    with ThreadPoolExecutor(1) as pool:
        applied = pool.submit(client.apply)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        until(lambda: each_db.rows(waiting, pid), "the slice waits for the account")
        support.commit()
        applied.result()
    assert counts(client.close(3)) == {"rows_read": 3, "applied": 1, "replayed": 1, "refused": 1}
    assert [row[:4] for row in each_db.rows(ENTRIES) if row[0] == second] == [(second, 1, 10, 10), (second, 2, 20, 30)]
    each_db.check()


def test_rows_that_a_crash_of_the_server_took_are_missed_and_staged_again(each_db: LedgerDB) -> None:
    client = Client(each_db, slices=3)
    client.stage(ROWS)
    client.begin()
    client.apply(client.lanes()[:2])
    for part in range(4):  # as a crash leaves unlogged tables
        each_db.rows(f"TRUNCATE tokenctl_staging.batch_{client.batch}_{part}")
    for lane in client.lanes():
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as lost:
            client.apply([lane])
        assert lost.value.diag.constraint_name == "staging_lost"
    assert counts(Client(each_db, batch="bbbbbbbbbbbb").run([Row("x", 1, "x")])) == {"rows_read": 1, "applied": 1}
    assert client.stage(ROWS)["own"] > 0
    assert counts(client.finish(30)) == {"rows_read": 30, "applied": 30}
    assert [row for row in each_db.rows(ENTRIES) if row[0] != "x"] == entries_of(ROWS)
    each_db.check()


def test_rows_that_came_or_went_after_the_plan_are_not_posted(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.stage(ROWS)
    client.begin()
    ledger_db.rows("DELETE FROM tokenctl_staging.batch_aaaaaaaaaaaa WHERE line = 2")
    ledger_db.rows(
        "INSERT INTO tokenctl_staging.batch_aaaaaaaaaaaa (line, user_id, amount, kind, reason, idempotency_key)"
        " VALUES (99, 'u1', 5, 'bonus', 'promo', 'late')"
    )
    changed = ledger_db.rows("SELECT count(*) FROM tokenctl_staging.batch_aaaaaaaaaaaa WHERE user_id IN ('u0', 'u1')")
    assert changed == [(6,)]  # 3 and 3, less one, and one more
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        client.apply()
    assert ledger_db.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE idempotency_key = 'late'") == [(0,)]
    ledger_db.check()


def test_staging_that_was_dropped_under_a_client_is_told_as_lost(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.stage(ROWS)
    client.begin()
    ledger_db.rows(f"DROP TABLE tokenctl_staging.batch_{client.batch}")
    with pytest.raises(psycopg.Error) as lost:
        client.apply()
    assert lost.value.diag.constraint_name == "staging_lost"


def test_closing_again_and_again_changes_nothing(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.run(ROWS)
    before = ledger_db.rows("SELECT * FROM tokenctl.import_batches")
    for _ in range(100):
        with pytest.raises(errors.InsufficientPrivilege):
            client.close(0, 99, 99)
    assert ledger_db.rows("SELECT * FROM tokenctl.import_batches") == before


def test_what_was_not_begun_is_forgotten_by_its_close(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.stage(ROWS)
    client.close(rejected=None)
    assert ledger_db.rows("SELECT count(*) FROM tokenctl.import_batches") == [(0,)]
    assert ledger_db.rows("SELECT count(*) FROM tokenctl.import_lanes") == [(0,)]
    assert staged_tables(ledger_db) == []
