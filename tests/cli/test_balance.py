"""`balance`: one user, many users, standard input."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.running import Cli, environment, on_terminal, run, shell
from tests.pg import hold, post

MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_one_user_is_one_tab_separated_line_with_raw_numbers(cli: Cli) -> None:
    cli.grant("u1", 1500)
    hold(cli.db, "u1", 300)
    got = cli("balance", "u1")
    assert got.code == 0
    assert got.err == ""
    [[user, balance, held, available, at, amount, reason]] = got.lines
    assert (user, balance, held, available, amount, reason) == ("u1", "1500", "300", "1200", "1500", "goodwill")
    assert MOMENT.fullmatch(at)


@pytest.mark.parametrize(("state", "seconds", "held"), [("open", 60, 300), ("open", -60, 0), ("released", 60, 0)])
def test_only_open_holds_before_their_deadline_count(cli: Cli, state: str, seconds: int, held: int) -> None:
    cli.grant("u1", 1000)
    hold(cli.db, "u1", 300, seconds=seconds, state=state)
    data = cli("balance", "u1", "--json").json["data"]
    assert (data["balance"], data["held"], data["available"]) == (1000, held, 1000 - held)


def test_available_never_goes_below_zero(cli: Cli) -> None:
    cli.grant("u1", 100)
    hold(cli.db, "u1", 300)
    data = cli("balance", "u1", "--json").json["data"]
    assert (data["held"], data["available"]) == (300, 0)


def test_json_of_one_user_is_an_object_in_the_envelope(cli: Cli) -> None:
    cli.grant("u1", 500)
    document = cli("balance", "u1", "--json").json
    assert sorted(document) == ["data", "meta", "schema"]
    assert document["schema"] == "tokenctl.balance.v1"
    at = document["data"]["last_change"].pop("at")
    assert MOMENT.fullmatch(at)
    assert document["data"] == {
        "user_id": "u1",
        "balance": 500,
        "held": 0,
        "available": 500,
        "last_change": {"amount": 500, "reason": "goodwill"},
        "age_s": None,
    }
    meta = document["meta"]
    assert re.fullmatch(r"[0-9a-f]{32}", meta["request_id"])
    assert (meta["profile"], meta["dry_run"], meta["replayed"], meta["warnings"]) == ("env", False, False, [])
    assert isinstance(meta["took_ms"], int)


@pytest.mark.parametrize("asked", [("u2", "u1"), ("-",)])
def test_json_of_several_users_is_a_list(cli: Cli, asked: tuple[str, ...]) -> None:
    cli.grant("u1", 1)
    cli.grant("u2", 2)
    document = cli("balance", *asked, "--json", stdin=b"u2\nu1\n").json
    assert document["schema"] == "tokenctl.balances.v1"
    assert [item["user_id"] for item in document["data"]] == ["u2", "u1"]


def test_one_user_from_standard_input_is_still_a_list(cli: Cli) -> None:
    cli.grant("u1", 1)
    assert [item["balance"] for item in cli("balance", "-", "--json", stdin=b"u1\n").json["data"]] == [1]


def test_jsonl_is_one_object_a_line_and_a_summary(cli: Cli) -> None:
    cli.grant("u1", 1)
    cli.grant("u2", 2)
    got = cli("balance", "u2", "u1", "u2", "--format", "jsonl")
    *rows, summary = map(json.loads, got.text.splitlines())
    assert [(row["schema"], row["user_id"]) for row in rows] == [
        ("tokenctl.balances_row.v1", user) for user in ("u2", "u1", "u2")
    ]
    assert (summary["schema"], summary["rows"], summary["cached"]) == ("tokenctl.balances_summary.v1", 3, False)


def test_value_is_the_bare_number(cli: Cli) -> None:
    cli.grant("u1", 1500)
    cli.grant("u2", 7)
    assert cli("balance", "u1", "--format", "value").out == b"1500\n"
    assert cli("balance", "u2", "u1", "--format", "value").out == b"7\n1500\n"


def test_the_order_asked_for_is_kept_and_a_name_given_twice_answers_twice(cli: Cli) -> None:
    for number, user in enumerate(("a", "b", "c"), 1):
        cli.grant(user, number)
    asked = ("c", "a", "b", "a")
    assert [line[0] for line in cli("balance", *asked).lines] == list(asked)
    assert [line[0] for line in cli("balance", "-", stdin="\n".join(asked).encode()).lines] == list(asked)


def test_known_users_are_shown_beside_unknown_ones_and_the_exit_code_says_so(cli: Cli) -> None:
    cli.grant("u1", 1)
    cli.grant("u3", 3)
    got = cli("balance", "u3", "nobody", "u1")
    assert got.code == 67
    assert [line[0] for line in got.lines] == ["u3", "u1"]
    assert got.err.startswith("tokenctl: no user 'nobody' in ledger env")


def test_unknown_users_are_named(cli: Cli) -> None:
    cli.grant("u1", 1)
    got = cli("balance", *(f"x{n}" for n in range(12)), "u1")
    assert got.code == 67
    assert "12 users are not in ledger env: x0, x1, x2" in got.err
    assert "and 2 more" in got.err
    assert [line[0] for line in got.lines] == ["u1"]


@pytest.mark.parametrize("wrong", ["user_24", "user_4", "user_422", "uesr_42", "user_4x"])
def test_an_unknown_user_is_67_with_the_nearest_id(cli: Cli, wrong: str) -> None:
    cli.grant("user_42", 1)
    cli.grant("somebody", 1)
    got = cli("balance", wrong, "--json")
    assert got.code == 67
    assert got.problem["nearest"] == ["user_42"]
    assert got.problem["hint"] == "did you mean user_42?"


def test_reading_makes_no_user_and_no_audit_row(cli: Cli) -> None:
    got = cli("balance", "nobody")
    assert (got.code, "compared letter by letter" in got.err, "grant-bonus" in got.err) == (67, True, False)
    assert cli.written() == (0, 0, 0)


def test_a_user_without_tokens_is_a_row(cli: Cli) -> None:
    cli.grant("u1", 5)
    cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    cli.db.rows("INSERT INTO tokenctl.token_accounts (user_id) VALUES ('fresh')")
    spent, fresh = cli("balance", "u1", "fresh").lines
    assert (spent[1], spent[5]) == ("0", "-5")
    assert fresh == ["fresh", "0", "0", "0", "", "", ""]
    assert cli("balance", "fresh", "--json").json["data"]["last_change"] is None


def test_standard_input_may_have_blank_lines_windows_ends_and_no_last_newline(cli: Cli) -> None:
    cli.grant("u1", 1)
    cli.grant("u2", 2)
    got = cli("balance", "-", stdin=b"u2\r\n\n  u1  \nu2")
    assert [line[0] for line in got.lines] == ["u2", "u1", "u2"]


def test_empty_standard_input_is_an_empty_list_and_no_failure(cli: Cli) -> None:
    assert cli("balance", "-").out == b""
    assert cli("balance", "-", "--format", "jsonl").json["rows"] == 0
    got = cli("balance", "-", "--json")
    assert (got.code, got.json["data"]) == (0, [])


@pytest.mark.parametrize(
    "line", [b"-x", b"two words", b"caf\xc3\xa9", b"caf\xe9", b"\x1b[31mred", b"a" * 129, b"a\x00b"]
)
def test_a_bad_id_on_standard_input_is_named_by_its_line(cli: Cli, line: bytes) -> None:
    cli.grant("u1", 1)
    got = cli("balance", "-", stdin=b"u1\n\n" + line + b"\nu1\n")
    assert got.code == 65
    assert got.out == b""
    assert got.err.startswith("tokenctl: <stdin>:3: ")
    assert "\x1b" not in got.err


@pytest.mark.parametrize("user", ["-", "two words", "a" * 129, "naïve", "u1\n", "a\x1bb", "\udcff"])
def test_a_bad_id_as_an_argument_is_a_usage_error(cli: Cli, user: str) -> None:
    got = cli("balance", "u1", user)
    assert (got.code, got.out) == (2, b"")
    assert got.err.startswith("tokenctl: USER: ")
    assert "\x1b" not in got.err


def test_an_empty_id_is_refused(cli: Cli) -> None:
    got = cli("balance", "")
    assert got.code == 2
    assert "empty" in got.err
    assert cli("balance").code == 2


def test_many_users_are_read_in_one_command(cli: Cli) -> None:
    connection = cli.db.connect("support1")
    names = [f"user_{n}" for n in range(300)]
    for number, name in enumerate(names, 1):
        post(connection, name, number)
    got = cli("balance", "-", stdin="\n".join(reversed(names)).encode())
    assert [(line[0], line[1]) for line in got.lines] == [(f"user_{n}", str(n + 1)) for n in reversed(range(300))]


def test_a_terminal_shows_a_table_with_grouped_numbers_and_the_zone(cli: Cli) -> None:
    cli.grant("user_42", 1500)
    got = on_terminal("balance", "user_42")
    assert got.code == 0
    heading, _line, row = got.text.splitlines()
    words = ["USER", "BALANCE", "HELD", "AVAILABLE", "LAST", "CHANGE", "AMOUNT", "REASON"]
    assert re.sub(r"\x1b\[[0-9;]*m", "", heading).split() == words
    assert re.search(r"user_42 +1,500 +0 +1,500 +20\d\d-\d\d-\d\d \d\d:\d\d UTC +\+1,500 +goodwill", row)


def test_a_dash_on_a_terminal_says_so_instead_of_waiting(cli: Cli) -> None:
    got = on_terminal("balance", "-")
    assert got.code == 66
    assert "terminal" in got.text
    assert cli.written() == (0, 0, 0)


def test_closed_standard_input_is_no_input(cli: Cli) -> None:
    cli.grant("u1", 1)
    assert shell("tokenctl balance - <&-").code == 66
    assert shell("tokenctl balance u1 --format value <&-").out == b"1\n"


def test_a_pipe_between_commands(cli: Cli) -> None:
    cli.grant("u1", 1)
    cli.grant("u2", 200)
    line = "printf 'u1\\nu2\\n' | tokenctl balance - | awk -F'\\t' '$4 < 100 {print $1}'"
    assert shell(line).out == b"u1\n"


def test_a_process_answers_as_the_function_does(cli: Cli) -> None:
    cli.grant("u1", 1500)
    assert run("balance", "u1", "--format", "value").out == b"1500\n"


def test_addresses_of_people_are_a_table_on_a_usual_terminal(cli: Cli) -> None:
    users = ["anna.maria@example.org", "bartholomew@example.org"]
    for user in users:
        cli.grant(user, 1500)
    got = on_terminal("balance", *users, columns=80, env=environment(TERM="xterm", NO_COLOR="1"))
    heading, _, *rows, left_out = got.text.splitlines()
    assert heading.split() == ["USER", "BALANCE", "HELD", "AVAILABLE", "LAST", "CHANGE"]
    assert [row.split()[:4] for row in rows] == [[user, "1,500", "0", "1,500"] for user in users]
    assert left_out == "▸ no room here for AMOUNT, REASON; a wider terminal or --format tsv shows all"
