"""What is read of one account: the same as a plain walk through its rows tells, and on one partition."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import psycopg
import pytest

from tests.entries import NOW, Row, hours, write
from tests.pg import LedgerDB, hold
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage.database import Database
from tokenctl.storage.history import History, Part
from tokenctl.storage.queries import query

TOP = 2**63 - 1


@pytest.fixture
def history(each_db: LedgerDB) -> Iterator[History]:
    database = reading(each_db)
    yield History(database)
    database.close()


def reading(db: LedgerDB) -> Database:
    """As the role that may only read."""
    return Database(db.conninfo("reader1"), application_name="test", deadline=Deadline(60))


def account(seed: int, entries: int = 60) -> list[Row]:
    """An account with purchases, bonuses, generations, and reversals of all of them, of reversals too."""
    rng = random.Random(seed)  # noqa: S311 — made up, no secret
    rows = [Row(10_000, "purchase", "shop", at=hours(1000))]
    for n in range(entries):
        at = hours(999 - n * 3 - rng.random())
        open_ = [seq for seq in range(2, len(rows) + 1) if all(row.reverses != seq for row in rows)]
        if open_ and rng.random() < 0.3:
            seq = rng.choice(open_)
            old = rows[seq - 1]
            if sum(row.amount for row in rows) >= old.amount:
                rows.append(Row(-old.amount, old.kind, "mistake", reverses=seq, at=at))
                continue
        kind, sign = rng.choice([("bonus", 1), ("generation", -1), ("purchase", 1), ("adjustment", 1)])
        rows.append(Row(sign * rng.randint(1, 50), kind, rng.choice(["goodwill", "welcome"]), at=at))
    return rows


def bottom(rows: list[Row], seq: int) -> int:
    """The entry at the bottom of a chain of reversals."""
    reverses = rows[seq - 1].reverses
    return seq if reverses is None else bottom(rows, reverses)


@pytest.mark.parametrize("seed", range(3))
def test_pages_are_the_rows_backwards(each_db: LedgerDB, history: History, seed: int) -> None:
    rows = account(seed)
    write(each_db, "u1", rows)
    write(each_db, "u2", account(seed + 100))
    for kind, until in [(None, None), ("bonus", None), (None, rows[30].at), ("generation", rows[40].at)]:
        wanted = [
            seq
            for seq, row in reversed(list(enumerate(rows, 1)))
            if kind in (None, row.kind) and (until is None or row.at < until)
        ]
        found, below = [], TOP
        while page := history.page("u1", below=below, until=until, kind=kind, rows=7):
            assert len(page) <= 7
            found += page
            below = page[-1].seq
        assert [entry.seq for entry in found] == wanted
        for entry in found:
            row = rows[entry.seq - 1]
            assert (entry.user_id, entry.amount, entry.kind, entry.reason) == ("u1", row.amount, row.kind, row.reason)
            assert (entry.created_at, entry.reverses_seq) == (row.at, row.reverses)
            reversed_by = [seq for seq, other in enumerate(rows, 1) if other.reverses == entry.seq]
            assert entry.reversed_by == (reversed_by[0] if reversed_by else None)


def test_a_chain_goes_from_an_entry_to_its_last_reversal(each_db: LedgerDB, history: History) -> None:
    rows = account(7)
    write(each_db, "u1", rows)
    longest = 0
    for seq in range(1, len(rows) + 1):
        expected = [seq]
        while above := [other for other, row in enumerate(rows, 1) if row.reverses == expected[-1]]:
            expected += above
        chain = history.chain("u1", seq)
        assert [entry.seq for entry in chain] == expected
        assert [entry.reversed_by for entry in chain] == [*expected[1:], None]
        longest = max(longest, len(chain))
    assert longest > 2
    assert history.chain("u1", len(rows) + 1) == history.chain("nobody", 1) == []


@pytest.mark.parametrize("seed", range(3))
def test_parts_net_each_reversal_against_the_entry_at_the_bottom_of_its_chain(
    each_db: LedgerDB, history: History, seed: int
) -> None:
    rows = account(seed)
    write(each_db, "u1", rows)
    write(each_db, "u2", account(seed + 100))
    parts = history.parts("u1", holds=5)
    total = sum(row.amount for row in rows)
    [one], [all_] = ([part for part in parts if part.part == name] for name in ("account", "entries"))
    assert (one.tokens, one.entries, one.at) == (total, len(rows), rows[-1].at)
    assert (all_.tokens, all_.entries, all_.last_seq) == (total, len(rows), len(rows))

    def group(seq: int) -> tuple[str, str]:
        root = rows[bottom(rows, seq) - 1]
        return root.kind, root.reason

    expected = {}
    for key, seqs in groupby(sorted(range(1, len(rows) + 1), key=group), key=group):
        every = list(seqs)
        own = [seq for seq in every if rows[seq - 1].reverses is None]
        undone = [seq for seq in every if rows[seq - 1].reverses is not None]
        expected[key] = (
            len(own), sum(rows[s - 1].amount for s in own), len(undone), sum(rows[s - 1].amount for s in undone),
            max(every), rows[max(every) - 1].at,
        )  # fmt: skip
    sources = {(p.kind, p.name): p for p in parts if p.part == "source"}
    assert {key: flat(part) for key, part in sources.items()} == expected
    assert sum(part.tokens + part.reversed for part in sources.values()) == total


def flat(part: Part) -> tuple[Any, ...]:
    return part.entries, part.tokens, part.reversals, part.reversed, part.last_seq, part.at


def test_a_generation_is_named_by_the_purpose_of_its_hold(each_db: LedgerDB, history: History) -> None:
    write(each_db, "u1", [Row(100), Row(-40, "generation", "generate"), Row(-1, "generation", "generate")])
    each_db.rows(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, state, expires_at, purpose, idempotency_key,"
        " captured_seq, operator, claimed_by, request_id, settled_at)"
        " VALUES ('u1', 'g1', 40, 'captured', now(), 'image 2K', 'g1', 2, 'x', 'x', 'x', now())"
    )
    names = {(part.kind, part.name): part.tokens for part in history.parts("u1", holds=5) if part.part == "source"}
    assert names == {("bonus", "test"): 100, ("generation", "image 2K"): -40, ("generation", "generate"): -1}


def test_holds_are_those_that_are_open_before_their_deadline_the_nearest_first(
    each_db: LedgerDB, history: History
) -> None:
    write(each_db, "u1", [Row(1000)])
    for name, amount, seconds, state in [
        ("late", 1, 600, "open"), ("soon", 2, 60, "open"), ("over", 4, -1, "open"), ("mid", 8, 300, "open"),
        ("free", 16, 60, "released"),
    ]:  # fmt: skip
        hold(each_db, "u1", amount, seconds=seconds, hold_id=name, state=state)
        each_db.rows("UPDATE tokenctl.token_holds SET idempotency_key = hold_id")
    holds = [part for part in history.parts("u1", holds=2) if part.part == "hold"]
    assert [(part.kind, part.tokens) for part in holds] == [("soon", 2), ("mid", 8)]
    assert {(part.entries, part.reversed) for part in holds} == {(3, 11)}  # of all, not only of those named


def test_an_account_without_entries_has_parts_and_nobody_has_none(each_db: LedgerDB, history: History) -> None:
    write(each_db, "fresh", [])
    one, all_ = history.parts("fresh", holds=5)
    assert (one.part, one.tokens, one.entries, one.at) == ("account", 0, 0, None)
    assert (all_.part, all_.tokens, all_.entries, all_.last_seq) == ("entries", 0, 0, None)
    assert history.parts("nobody", holds=5) == []
    assert history.page("fresh", below=TOP, rows=5) == history.page("nobody", below=TOP, rows=5) == []


@pytest.fixture
def grown(each_db: LedgerDB) -> LedgerDB:
    """Statistics of many small accounts, and one large account that they know nothing of."""
    each_db.rows(
        "INSERT INTO tokenctl.token_accounts (user_id, balance, last_seq) SELECT 'g' || n, 300, 30"
        " FROM generate_series(1, 3000) AS n"
    )
    each_db.rows(
        "INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at, kind, reason,"
        " operator, claimed_by, request_id, idempotency_key) SELECT 'g' || n, s, 10, s * 10, now(), 'bonus', 'promo',"
        " 'x', 'x', 'x', 'k' || s FROM generate_series(1, 3000) AS n, generate_series(1, 30) AS s"
    )
    for table in ("token_accounts", "token_transactions", "token_holds"):
        each_db.rows(f"ALTER TABLE tokenctl.{table}_0 SET (autovacuum_enabled = off)")
        each_db.rows(f"ANALYZE tokenctl.{table}")
    write(each_db, "large", [Row(1, "bonus", "promo", at=NOW)] * 20_000)
    return each_db


def plan(db: LedgerDB, name: str, **values: object) -> str:
    """How the query is run, with the pages that it touches."""
    with psycopg.connect(db.conninfo("reader1"), autocommit=True) as connection:
        statement = b"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) " + query(name)
        return "\n".join(row[0] for row in connection.execute(statement, values))


def pages_touched(drawn: str) -> int:
    found = re.search(r"shared hit=(\d+)(?: read=(\d+))?", drawn)  # the first line of numbers is that of the whole
    assert found
    return int(found[1]) + int(found[2] or 0)


@pytest.mark.parametrize("user", ["g77", "large"])
def test_a_page_costs_its_rows_and_not_the_ledger(grown: LedgerDB, user: str) -> None:
    values = {"account": user, "below": TOP, "upto": TOP, "until": None, "kind": None}
    for more in ({}, {"below": 31}, {"until": NOW.replace(year=2999)}, {"kind": "bonus"}):
        drawn = plan(grown, "history", **{**values, **more}, rows=51)
        assert len(set(re.findall(r" on (token_transactions_\d+)", drawn))) == 1
        assert re.search(r"Index Scan Backward using token_transactions_\d+_pkey", drawn)
        assert "Seq Scan" not in drawn
        assert "Sort" not in drawn
        assert pages_touched(drawn) < 51 * 6


def test_the_other_reads_stay_on_the_partition_of_their_user(grown: LedgerDB) -> None:
    queries: list[tuple[str, dict[str, object]]] = [
        ("reversal_chain", {"seq": 3}),
        ("account_parts", {"holds": 20, "at": None, "upto": TOP}),
    ]
    for name, values in queries:
        drawn = plan(grown, name, account="g77", **values)
        assert len(set(re.findall(r" on (token_transactions_\d+)", drawn))) == 1
        assert not re.search(r"Seq Scan on token_(transactions|accounts)", drawn)
        assert pages_touched(drawn) < 200
