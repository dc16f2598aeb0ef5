"""`--as-of`: balance, history and explain as they were, from the rows and never from the cache."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.running import Cli
from tests.entries import NOW, Row, hours, write
from tests.pg import hold

ROWS = [
    Row(100, "purchase", "shop", at=hours(50)),
    Row(40, "bonus", "welcome", at=hours(30)),
    Row(-40, "bonus", "mistake", reverses=2, at=hours(10)),
]
THEN = "2026-11-22T18:00:00Z"  # after the bonus, before its reversal


@pytest.fixture
def past(cli: Cli) -> Cli:
    write(cli.db, "u1", ROWS)
    return cli


def test_a_balance_of_then(past: Cli) -> None:
    got = past("balance", "u1", "--as-of", THEN, "--json").json
    assert (got["data"]["balance"], got["data"]["last_change"]["reason"]) == (140, "welcome")
    assert (got["meta"]["as_of"], got["meta"]["cached"]) == ("2026-11-22T18:00:00.000000Z", False)
    assert past("balance", "u1", "--json").json["meta"]["as_of"] is None
    table = past("balance", "u1", "--as-of", THEN, "--format", "table")
    assert "as of 2026-11-22 18:00 UTC; held is as far as the rows of holds tell" in table.err
    assert past("balance", "u1", "--as-of", "2026-11-23 18:04:10", "--format", "value").out == b"100\n"


def test_the_cache_is_neither_asked_nor_filled(past: Cli) -> None:
    assert past("balance", "u1", "--format", "value").out == b"100\n"
    assert past("balance", "u1", "--as-of", THEN, "--format", "value").out == b"140\n"
    again = past("balance", "u1", "--json").json
    assert (again["data"]["balance"], again["meta"]["cached"]) == (100, True)
    got = past("balance", "u1", "--as-of", THEN, "--allow-stale")
    assert (got.code, "leave out --allow-stale" in got.err) == (2, True)
    assert past("balance", "u1", "--as-of", THEN, "--fresh").code == 0


@pytest.mark.parametrize("command", ["balance", "history", "explain"])
def test_a_time_to_come_is_refused(past: Cli, command: str) -> None:
    got = past(command, "u1", "--as-of", "2199-01-01", "--json")
    assert (got.code, got.problem["type"], got.out) == (2, "urn:tokenctl:problem:usage", b"")
    assert "--as-of 2199-01-01 23:59:59 UTC has not come: to the database it is 20" in got.problem["detail"]
    assert past(command, "u1", "--as-of", "tomorrow").code == 2


def test_before_the_first_entry_there_is_nothing_and_that_is_no_error(past: Cli) -> None:
    early = ("--as-of", "2020-01-01")
    got = past("balance", "u1", *early, "--json").json["data"]
    assert (got["balance"], got["held"], got["available"], got["last_change"]) == (0, 0, 0, None)
    assert past("history", "u1", *early, "--json").json["data"] == []
    explained = past("explain", "u1", *early, "--json").json["data"]
    assert (explained["balance"], explained["sources"], explained["check"]["agrees"]) == (0, [], True)
    for command in ("balance", "history", "explain"):
        assert past(command, "nobody", *early).code == 67


def test_a_date_is_its_end(past: Cli) -> None:
    values = [past("balance", "u1", "--as-of", f"2026-11-{day}", "--format", "value").out for day in (20, 21, 22, 23)]
    assert values == [b"0\n", b"100\n", b"140\n", b"100\n"]


def test_history_of_then_shows_no_later_reversal(past: Cli) -> None:
    document = past("history", "u1", "--as-of", THEN, "--json").json
    assert [(row["id"], row["reversed_by"]) for row in document["data"]] == [("u1:2", None), ("u1:1", None)]
    assert document["meta"]["as_of"] == "2026-11-22T18:00:00.000000Z"
    assert past("history", "u1", "--json").json["data"][1]["reversed_by"] == "u1:3"
    first = past("history", "u1", "--as-of", THEN, "--limit", "1")
    more = next(line for line in first.err.splitlines() if line.startswith("more: ")).removeprefix("more: ")
    assert [line[0] for line in past(*shlex.split(more)[1:]).lines] == ["u1:1"]
    cursor = shlex.split(more)[-1]
    assert past("history", "u1", "--limit", "1", "--cursor", cursor).code == 2
    assert "as of 2026-11-22 18:00 UTC" in past("history", "u1", "--as-of", THEN, "--format", "table").err


def test_explain_of_then_is_the_waterfall_of_then(past: Cli) -> None:
    data = past("explain", "u1", "--as-of", THEN, "--json").json["data"]
    assert (data["as_of"], data["past"], data["balance"]) == ("2026-11-22T18:00:00.000000Z", True, 140)
    assert [(s["name"], s["net"], s["reversals"]) for s in data["sources"]] == [("shop", 100, 0), ("welcome", 40, 0)]
    got = past("explain", "u1", "--as-of", THEN, "--format", "table")
    assert "as of 2026-11-22 18:00 UTC; holds as far as their rows tell" in got.err
    assert "the last entry of then agrees with its 2 entries" in got.err
    assert past("explain", "u1", "--json").json["data"]["past"] is False
    before = past("explain", "u1", "--as-of", "2020-01-01")
    assert (before.code, before.err.splitlines()[-1]) == (0, "✓ there were no entries then")


def test_a_running_balance_that_was_edited_is_told(past: Cli) -> None:
    past.db.rows("ALTER TABLE tokenctl.token_transactions DISABLE TRIGGER append_only")
    past.db.rows("UPDATE tokenctl.token_transactions SET balance_after = 141 WHERE user_id = 'u1' AND seq = 2")
    got = past("explain", "u1", "--as-of", THEN)
    assert (got.code, "the last entry says 141 tokens after 2 entries, its 2 entries sum to 140" in got.err) == (
        1,
        True,
    )


def test_a_hold_counts_then_by_its_own_times(past: Cli) -> None:
    hold(past.db, "u1", 30)
    past.db.rows("UPDATE tokenctl.token_holds SET created_at = %s", NOW)
    assert past("balance", "u1", "--as-of", THEN, "--json").json["data"]["held"] == 0
    after = past("balance", "u1", "--as-of", "2026-11-24", "--json").json["data"]
    assert (after["held"], after["available"]) == (30, 70)
