"""Which format when, colours, and terminals that know less than UTF-8."""

from __future__ import annotations

import re

import pytest

from tests.cli.running import Cli, CommandLine, environment, on_terminal, run, terminal

ESCAPE = "\x1b["
COLOUR = re.compile(r"\x1b\[([0-9;]*;)?[349][0-7]m")


def test_a_pipe_gets_tsv_and_a_terminal_a_table(cli: Cli) -> None:
    cli.grant("u1", 1500)
    assert run("balance", "u1").lines[0][:2] == ["u1", "1500"]
    table = on_terminal("balance", "u1").text
    assert "1,500" in table
    assert ESCAPE in table
    with terminal("balance", "u1", "--format", "tsv") as opened:
        assert opened.end().lines[0][:2] == ["u1", "1500"]


def test_the_format_comes_from_the_flag_else_from_the_environment(cli: Cli) -> None:
    cli.grant("u1", 1500)
    cli.patch.setenv("TOKENCTL_FORMAT", "value")
    assert cli("balance", "u1").out == b"1500\n"
    assert cli("balance", "u1", "--json").json["data"]["balance"] == 1500
    assert cli("balance", "u1", "--format", "tsv").lines[0][0] == "u1"
    cli.patch.setenv("TOKENCTL_FORMAT", "")
    assert cli("balance", "u1").lines[0][0] == "u1"


def test_an_unknown_format_of_the_environment_is_a_configuration_error(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_FORMAT", "xml")
    got = offline("balance", "u1")
    assert got.code == 78
    assert "env:TOKENCTL_FORMAT" in got.err


@pytest.mark.parametrize(
    ("flags", "more"),
    [
        (("--no-color",), {}),
        ((), {"TERM": "dumb"}),
        ((), {"NO_COLOR": "1"}),
        ((), {"NO_COLOR": "1", "FORCE_COLOR": "1"}),
        ((), {"CLICOLOR": "0"}),
    ],
)
def test_no_escape_where_none_is_wanted(cli: Cli, flags: tuple[str, ...], more: dict[str, str]) -> None:
    cli.grant("u1", 1500)
    got = on_terminal("balance", "u1", *flags, env=environment(TERM="xterm") | more)
    assert ESCAPE not in got.text
    assert "1,500" in got.text


def test_columns_sets_the_width_of_tables(cli: Cli) -> None:
    cli.grant("u1", 1500)
    wide = cli("balance", "u1", "--format", "table").text
    cli.patch.setenv("COLUMNS", "40")
    narrow = cli("balance", "u1", "--format", "table").text
    assert max(map(len, wide.splitlines())) > 40 >= max(map(len, narrow.splitlines()))
    assert " BALANCE      1,500\n" in narrow
    for nonsense in ("0", "-5", "wide", ""):
        cli.patch.setenv("COLUMNS", nonsense)
        assert cli("balance", "u1", "--format", "table").text == wide


def test_an_empty_no_color_is_not_set(cli: Cli) -> None:
    cli.grant("u1", 1500)
    assert ESCAPE in on_terminal("balance", "u1", env=environment(TERM="xterm", NO_COLOR="")).text


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_a_pipe_is_coloured_only_by_force(cli: Cli, variable: str) -> None:
    cli.grant("u1", 1500)
    table = ("balance", "u1", "--format", "table")
    assert ESCAPE not in cli(*table).text
    cli.patch.setenv(variable, "0")
    assert ESCAPE not in cli(*table).text
    cli.patch.setenv(variable, "1")
    assert ESCAPE in cli(*table).text
    assert ESCAPE not in cli("balance", "u1").text
    assert ESCAPE not in cli("balance", "u1", "--json").text
    cli.patch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(cli(*table).text)


def test_times_are_utc_whatever_the_zone_and_the_locale(cli: Cli) -> None:
    cli.grant("u1", 1500)
    here = cli("balance", "u1").out
    assert run("balance", "u1", env=environment(TZ="Asia/Tokyo", LC_ALL="de_DE.UTF-8")).out == here
    assert re.search(rb"T\d\d:\d\d:\d\d\.\d{6}Z", here)
    tokyo = on_terminal("balance", "u1", env=environment(TZ="Asia/Tokyo", TERM="xterm"))
    assert re.search(r"\d\d:\d\d UTC", tokyo.text)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("more", [ASCII, {"PYTHONIOENCODING": "ascii"}])
def test_an_ascii_terminal_is_enough(cli: Cli, more: dict[str, str]) -> None:
    cli.grant("u1", 1500, "--note", "söz → 日本")
    options = ("--reason", "goodwill", "--yes", "--format", "table")
    got = run("grant-bonus", "u1", "--amount", "1500", *options, env=environment(**more))
    assert got.code == 0
    assert rb"s\xf6z -> \u65e5\u672c" in got.out
    talk = run("grant-bonus", "u1", "--amount", "7", *options, env=environment(**more))
    assert talk.code == 0
    assert "ok granted 7 tokens to u1" in talk.err
    assert "balance 1,500 -> 1,507" in talk.err


def test_options_may_stand_before_the_user(cli: Cli) -> None:
    cli.grant("u1", 1500)
    assert cli("balance", "--json", "u1").json["data"]["balance"] == 1500
    assert cli("balance", "--format", "value", "--", "u1").out == b"1500\n"
