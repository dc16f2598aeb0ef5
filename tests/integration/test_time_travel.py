"""An account at an earlier moment: what a ledger that ended there would say, from the rows alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest

from tests.entries import NOW, Row, hours, write
from tests.integration.test_history import account, plan, reading
from tests.pg import LedgerDB
from tokenctl.storage.history import TOP, History
from tokenctl.storage.ledger import Ledger

TICK = timedelta(microseconds=1)


@pytest.fixture
def reads(each_db: LedgerDB) -> Iterator[tuple[History, Ledger]]:
    database = reading(each_db)
    yield History(database), Ledger(database, request_id="r", claimed_by="me")
    database.close()


def moments(rows: list[Row]) -> Iterator[tuple[int, datetime]]:
    """How many entries there were at a moment: just before, at, and after each."""
    for place, row in enumerate(rows):
        yield place, row.at - TICK
        yield place + 1, row.at
    yield len(rows), NOW + timedelta(days=1)


@pytest.mark.parametrize("length", [1, 2, 3, 60])
def test_the_last_entry_of_a_moment_is_found(each_db: LedgerDB, reads: tuple[History, Ledger], length: int) -> None:
    history, ledger = reads
    rows = account(3, length - 1)
    write(each_db, "u1", rows)
    write(each_db, "u2", account(4))
    for count, at in moments(rows):
        assert history.seq_at("u1", at) == count
        found = ledger.balances(["nobody", "u1"], at)
        assert list(found) == ["u1"]
        last = rows[count - 1] if count else None
        assert found["u1"].balance == found["u1"].available == sum(row.amount for row in rows[:count])
        change = found["u1"].last_change
        assert (change and (change.at, change.amount, change.reason)) == (last and (last.at, last.amount, last.reason))


def test_entries_of_one_moment_all_count(each_db: LedgerDB, reads: tuple[History, Ledger]) -> None:
    write(each_db, "u1", [Row(1, at=hours(2)), *[Row(1, at=hours(1))] * 5, Row(1, at=hours(0))])
    assert [reads[0].seq_at("u1", at) for at in (hours(1) - TICK, hours(1), hours(0) - TICK)] == [1, 6, 6]


@pytest.mark.parametrize("seed", range(2))
def test_an_account_is_explained_and_listed_as_if_it_ended_there(
    each_db: LedgerDB, reads: tuple[History, Ledger], seed: int
) -> None:
    history, _ = reads
    rows = account(seed, 25)
    write(each_db, "u1", rows)
    for count in range(len(rows)):
        write(each_db, f"cut{count}", rows[:count])
    for count, at in moments(rows):
        if count == len(rows):
            continue
        cut = history.parts(f"cut{count}", holds=5)
        then = history.parts("u1", holds=5, at=at)
        assert then[0].until == at

        def same(parts: list[object]) -> list[str]:
            return sorted(re.sub(r", until=.*", "", str(part)) for part in parts)

        assert same([*then]) == same([*cut])
        page = history.page("u1", below=count + 1, upto=count, rows=100)
        assert [(e.seq, e.reversed_by) for e in page] == [
            (e.seq, e.reversed_by) for e in history.page(f"cut{count}", below=TOP, rows=100)
        ]


def test_holds_count_as_long_as_they_were_open(each_db: LedgerDB, reads: tuple[History, Ledger]) -> None:
    history, ledger = reads
    write(each_db, "u1", [Row(1000, at=hours(100)), Row(-7, "generation", at=hours(40))])
    holds = [
        ("past", 1, "open", hours(90), hours(80), None, None),
        ("released", 2, "released", hours(85), hours(10), hours(70), None),
        ("paid", 4, "captured", hours(60), hours(50), hours(40), 2),
        ("open", 8, "open", hours(30), NOW + timedelta(days=9000), None, None),
    ]
    with psycopg.connect(each_db.conninfo("postgres"), autocommit=True) as connection:
        for hold in holds:
            connection.execute(
                "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, state, created_at, expires_at, settled_at,"
                " captured_seq, purpose, idempotency_key, operator, claimed_by, request_id)"
                " VALUES ('u1', %s, %s, %s, %s, %s, %s, %s, 'image', %s, 'x', 'x', 'x')",
                (*hold, hold[0]),
            )
    expected = {95: 0, 90: 1, 85: 3, 80: 2, 70: 0, 60: 4, 50: 0, 45: 0, 40: 0, 30: 8, 1: 8}
    for ago, held in expected.items():
        found = ledger.balances(["u1"], hours(ago))["u1"]
        assert (ago, found.held) == (ago, held)
        assert found.available == found.balance - held
        named = [part for part in history.parts("u1", holds=5, at=hours(ago)) if part.part == "hold"]
        assert sum(part.tokens for part in named) == held


def test_the_past_costs_a_few_rows(each_db: LedgerDB) -> None:
    write(each_db, "large", [Row(1, at=hours(30_000 - n)) for n in range(20_000)])
    each_db.rows("ANALYZE tokenctl.token_transactions")
    queries: list[tuple[str, dict[str, object]]] = [
        ("seq_at", {"account": "large"}),
        ("balances_at", {"users": ["large"]}),
    ]
    for name, values in queries:
        drawn = plan(each_db, name, at=hours(29_000), **values)
        assert not [line for line in drawn.splitlines() if "Seq Scan on token_t" in line and "never" not in line]
        found = re.search(r"shared hit=(\d+)", drawn)
        assert found
        assert int(found[1]) < 150
