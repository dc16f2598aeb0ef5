"""`explain`: from zero to what can be spent, so that a tired person can follow, and loud when it does not add up."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.running import Cli, environment, on_terminal
from tests.entries import NOW, Row, write
from tests.pg import hold
from tokenctl.output.text import rfc3339

STARTED = datetime.now(UTC)


def hours(ago: float) -> datetime:
    """So many hours before this test, because ages are shown."""
    return STARTED - timedelta(hours=ago)


ROWS = [
    Row(5000, "purchase", "shop", at=hours(960)),
    Row(500, "bonus", "welcome", at=hours(960)),
    Row(1000, "bonus", "goodwill", at=hours(300)),
    *[Row(-40, "generation", "generate", at=hours(100 - n)) for n in range(3)],
    Row(-1000, "bonus", "mistake", reverses=3, at=hours(60)),
    Row(100, "bonus", "goodwill", at=hours(50)),
]


@pytest.fixture
def account(cli: Cli) -> Cli:
    write(cli.db, "u_42", ROWS)
    write(cli.db, "u_43", [Row(7)])
    for seq in (4, 5):
        cli.db.rows(
            "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, state, expires_at, purpose, idempotency_key,"
            " captured_seq, operator, claimed_by, request_id, settled_at)"
            " VALUES ('u_42', %s, 40, 'captured', now(), 'image 2K', %s, %s, 'x', 'x', 'x', now())",
            f"gen_{seq}", f"gen_{seq}", seq,
        )  # fmt: skip
    return cli


def test_json_has_every_source_and_where_it_comes_from(account: Cli) -> None:
    hold(account.db, "u_42", 60, seconds=600, hold_id="gen_9")
    document = account("explain", "u_42", "--json").json
    assert document["schema"] == "tokenctl.explain.v1"
    data = document["data"]
    assert [
        (s["kind"], s["name"], s["entries"], s["tokens"], s["reversals"], s["reversed"], s["net"], s["last_id"])
        for s in data["sources"]
    ] == [
        ("purchase", "shop", 1, 5000, 0, 0, 5000, "u_42:1"),
        ("bonus", "goodwill", 2, 1100, 1, -1000, 100, "u_42:8"),
        ("bonus", "welcome", 1, 500, 0, 0, 500, "u_42:2"),
        ("generation", "image 2K", 2, -80, 0, 0, -80, "u_42:5"),
        ("generation", "generate", 1, -40, 0, 0, -40, "u_42:6"),
    ]
    assert data["sources"][1]["last_change"] == rfc3339(ROWS[-1].at)
    assert (data["balance"], data["held"], data["available"]) == (5480, 60, 5420)
    assert (data["last_id"], data["last_change"]) == ("u_42:8", rfc3339(ROWS[-1].at))
    [held] = data["holds"]
    assert (held["hold_id"], held["purpose"], held["tokens"], data["open_holds"]) == ("gen_9", "test", 60, 1)
    assert re.fullmatch(r"20\d\d-.*Z", held["until"])
    assert data["check"] == {
        "agrees": True,
        "account": {"balance": 5480, "entries": 8},
        "rows": {"sum": 5480, "entries": 8},
        "difference": 0,
    }


def test_it_is_a_waterfall_as_tsv(account: Cli) -> None:
    got = account("explain", "u_42")
    assert got.code == 0
    assert [(line[0], line[1], line[2], line[4], line[5]) for line in got.lines] == [
        ("purchase: shop", "5000", "5000", "1", "u_42:1"),
        ("bonus: goodwill", "1100", "6100", "2", "u_42:8"),
        ("  reversed of it", "-1000", "5100", "1", ""),
        ("bonus: welcome", "500", "5600", "1", "u_42:2"),
        ("generation: image 2K", "-80", "5520", "2", "u_42:5"),
        ("generation: generate", "-40", "5480", "1", "u_42:6"),
        ("= balance", "", "5480", "8", "u_42:8"),
        ("= available", "", "5480", "", ""),
    ]
    assert got.lines[0][3] == rfc3339(ROWS[0].at)
    assert re.fullmatch(r"✓ read 20\d\d-\d\d-\d\d \d\d:\d\d UTC; the account agrees with its 8 entries\n", got.err)
    assert account("explain", "u_42", "-q").err == ""


def test_the_value_is_the_balance(account: Cli) -> None:
    assert account("explain", "u_42", "--format", "value").out == b"5480\n"


WIDE = """\
 WHAT                   TOKENS     SUM    AGE   ENTRIES   LAST
────────────────────────────────────────────────────────────────────
 purchase: shop         +5,000   5,000   # d         1   u_42:1
 bonus: goodwill        +1,100   6,100   # d         2   u_42:8
   reversed of it       -1,000   5,100      ─         1   ─
 bonus: welcome           +500   5,600   # d         1   u_42:2
 generation: image 2K      -80   5,520   # d         2   u_42:5
 generation: generate      -40   5,480   # d         1   u_42:6
 = balance                   ─   5,480   # d         8   u_42:8
 = available                 ─   5,480      ─         ─   ─
"""


def words(text: str) -> list[list[str]]:
    """What stands in the lines, with ages as #."""
    return [re.sub(r"\b\d+ d\b", "# d", line).split() for line in text.splitlines() if not line.startswith("─")]


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(("columns", "headings"), [(100, 6), (60, 6), (59, 5), (50, 4), (40, 3)])
def test_it_can_be_read_on_any_terminal(columns: int, headings: int) -> None:
    got = on_terminal("explain", "u_42", columns=columns, env=environment(TERM="xterm", NO_COLOR="1"))
    assert got.code == 0
    table = got.text.partition("▸")[0].partition("✓")[0]
    assert all(len(line) <= columns for line in table.splitlines())
    assert len(words(table)[0]) == headings
    assert words(table)[2][:4] == ["bonus:", "goodwill", "+1,100", "6,100"]
    assert words(table)[3][:5] == ["reversed", "of", "it", "-1,000", "5,100"]
    assert words(table)[7][:4] == ["=", "balance", "─", "5,480"]
    if headings == 6:
        assert words(table) == words(WIDE)
    else:
        assert "▸ no room here for" in got.text


def test_a_hold_shows_the_time_that_is_left(account: Cli) -> None:
    hold(account.db, "u_42", 60, seconds=7500)
    rows = words(account("explain", "u_42", "--format", "table").text)
    assert ["held:", "test", "-60", "5,420", "2", "h", "left", "─", "h1"] in rows
    assert ["=", "available", "─", "5,420", "─", "─", "─"] in rows


def test_many_holds_are_summed(account: Cli) -> None:
    for n in range(25):
        hold(account.db, "u_42", 10, seconds=600 + n, hold_id=f"h{n:02}")
        account.db.rows("UPDATE tokenctl.token_holds SET idempotency_key = hold_id WHERE state = 'open'")
    lines = account("explain", "u_42").lines
    held = [line for line in lines if line[0].startswith("held:")]
    assert len(held) == 21
    assert held[-1][:3] == ["held: 5 more", "-50", "5230"]
    assert lines[-1][:3] == ["= available", "", "5230"]
    data = account("explain", "u_42", "--json").json["data"]
    assert (len(data["holds"]), data["open_holds"], data["held"]) == (20, 25, 250)


def test_an_empty_account_has_nothing(cli: Cli) -> None:
    write(cli.db, "fresh", [])
    got = cli("explain", "fresh")
    assert (got.code, [line[:3] for line in got.lines]) == (0, [["= balance", "", "0"], ["= available", "", "0"]])
    assert cli("explain", "fresh", "--json").json["data"]["last_id"] is None


@pytest.mark.parametrize("damage", ["balance = balance + 10", "last_seq = last_seq + 1"])
def test_an_account_that_disagrees_with_its_entries_is_told_loudly(account: Cli, damage: str) -> None:
    account.db.rows(f"UPDATE tokenctl.token_accounts SET {damage} WHERE user_id = 'u_42'")  # noqa: S608 — from above
    got = account("explain", "u_42")
    assert got.code == 1
    assert "= balance" in got.text  # shown all the same
    assert "✓" not in got.err
    assert got.err.startswith("tokenctl: THE NUMBERS OF u_42 DO NOT AGREE: the account says 5,4")
    assert "tokenctl verify --user u_42" in got.err
    as_json = account("explain", "u_42", "--json")
    assert as_json.code == 1
    assert as_json.json["data"]["check"]["agrees"] is False
    assert '"type": "urn:tokenctl:problem:ledger-broken"' in as_json.err
    assert account("explain", "u_43").code == 0


def test_a_reversal_of_nothing_is_not_explained(cli: Cli) -> None:
    write(cli.db, "u1", [Row(10), Row(20), Row(-5, reverses=2, at=NOW), Row(-1, reverses=3)])
    cli.db.rows("ALTER TABLE tokenctl.token_transactions DISABLE TRIGGER append_only")
    cli.db.rows("DELETE FROM tokenctl.token_transactions WHERE seq = 2")
    got = cli("explain", "u1")
    assert got.code == 1
    assert ["NOT EXPLAINED", "-6", "4"] in [line[:3] for line in got.lines]


def test_an_unknown_user_is_67_with_the_nearest_id(account: Cli) -> None:
    got = account("explain", "u_24", "--json")
    assert (got.code, got.problem["nearest"]) == (67, ["u_42", "u_43"]) or got.problem["hint"].startswith("did you")


def test_text_of_the_ledger_steers_nothing(cli: Cli) -> None:
    hostile = "[/] \x1b]52;c;eA==\x07\u202e[red]\ntokenctl: forged"
    write(cli.db, "u1", [Row(50, reason="[/]\x1b[31m\n")])
    cli.db.rows(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, expires_at, purpose, idempotency_key, operator,"
        " claimed_by, request_id) VALUES ('u1', %s, 5, now() + interval '1 h', %s, 'k', 'x', 'x', 'x')",
        hostile, hostile,
    )  # fmt: skip
    for form in ("table", "tsv", "json"):
        got = cli("explain", "u1", "--format", form)
        assert got.code == 0
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", got.text + got.err)
        assert "\ntokenctl: forged" not in got.text


def test_a_reader_may_look(account: Cli) -> None:
    before = account.written()
    account.login("reader1")
    assert account("explain", "u_42").code == 0
    assert account.written() == before
