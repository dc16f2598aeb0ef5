"""`breaker list` and `breaker reset`, where no database answers: neither asks one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, CommandLine, on_terminal
from tokenctl import statefile
from tokenctl.resilience.breaker import Breaker, BreakerPolicy, Breakers
from tokenctl.resilience.events import ignore
from tokenctl.resilience.notes import SCHEMA

HOUR = BreakerPolicy(open_s=3600, longest_open_s=3600, jitter=0)


@pytest.fixture
def state(home: Path) -> Path:
    return home / "state" / "tokenctl" / "state.db"


def breaker(state: Path, name: str) -> Breaker:
    """A breaker of this test's home, that stays open for an hour."""
    breakers = Breakers(
        statefile.StateFile(state, SCHEMA, busy_s=60),
        clock=statefile.monotonic,
        boot_id=statefile.boot_id(),
        rng=random.Random(),  # noqa: S311 — there is no jitter
        emit=ignore,
    )
    return breakers.breaker(name, "it", HOUR)


@pytest.fixture
def two(state: Path) -> None:
    """One breaker that is open and one that only has a failure."""
    for _ in range(3):
        breaker(state, "gemini-key:k1").failed("quota")
    breaker(state, "gemini").failed("unavailable")


def test_where_all_is_well_the_list_is_empty(offline: CommandLine) -> None:
    got = offline("breaker", "list")
    assert (got.code, got.out) == (0, b"")
    assert "no breaker has failures" in got.err
    document = offline("breaker", "list", "--json").json
    assert (document["schema"], document["data"]) == ("tokenctl.breakers.v1", [])


@pytest.mark.usefixtures("two")
def test_the_list_says_since_when_until_when_and_why(offline: CommandLine) -> None:
    document = offline("breaker", "list", "--json").json
    assert document["schema"] == "tokenctl.breakers.v1"
    closed, opened = document["data"]
    assert closed == {
        "name": "gemini", "state": "closed", "failures": 1, "opened_s": None, "next_try_s": None,
        "last_cause": "unavailable",
    }  # fmt: skip
    assert (opened["name"], opened["state"], opened["failures"]) == ("gemini-key:k1", "open", 3)
    assert opened["last_cause"] == "quota"
    assert opened["opened_s"] + opened["next_try_s"] == pytest.approx(3600, abs=0.01)
    first, second = offline("breaker", "list").lines
    assert first == ["gemini", "closed", "1", "", "", "unavailable"]
    assert (second[:3], second[5]) == (["gemini-key:k1", "open", "3"], "quota")
    assert int(second[3]) + int(second[4]) == 3600


@pytest.mark.usefixtures("two", "offline")
def test_a_terminal_shows_a_table(state: Path) -> None:
    breaker(state, "other").failed("\x1b[31mred")
    table = on_terminal("breaker", "list", columns=100).text
    assert [
        word for word in ("BREAKER", "OPEN FOR (S)", "NEXT TRY IN (S)", "gemini-key:k1", "quota") if word not in table
    ] == []
    assert r"\x1b[31mred" in table


@pytest.mark.usefixtures("two")
def test_reset_closes_the_one_that_is_named(offline: CommandLine) -> None:
    got = offline("breaker", "reset", "gemini-key:k1", "--json").json
    assert (got["schema"], got["data"]) == ("tokenctl.breakers_reset.v1", [{"name": "gemini-key:k1"}])
    assert [one["name"] for one in offline("breaker", "list", "--json").json["data"]] == ["gemini"]
    assert offline("breaker", "reset", "gemini").lines == [["gemini"]]
    assert offline("breaker", "list").out == b""


@pytest.mark.usefixtures("two")
def test_reset_closes_all(offline: CommandLine) -> None:
    assert offline("breaker", "reset", "--all", "--format", "value").out == b"gemini\ngemini-key:k1\n"
    again = offline("breaker", "reset", "--all")
    assert (again.code, again.out) == (0, b"")
    assert "no breaker had failures" in again.err


@pytest.mark.usefixtures("two")
def test_an_unknown_name_is_refused_with_those_that_are_known(offline: CommandLine) -> None:
    problem = offline("breaker", "reset", "gemini-key:k2", "--json").problem
    assert problem["exit_code"] == 2
    assert problem["detail"] == "no breaker 'gemini-key:k2' has failures"
    assert problem["hint"] == "those that have: gemini, gemini-key:k1"
    offline("breaker", "reset", "--all")
    assert offline("breaker", "reset", "gemini", "--json").problem["hint"] == "none has any"


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("argv", [(), ("gemini", "--all")])
def test_a_name_or_all_and_not_both(offline: CommandLine, argv: tuple[str, ...]) -> None:
    got = offline("breaker", "reset", *argv)
    assert (got.code, got.out) == (2, b"")
    assert "NAME or --all" in got.err
    assert len(offline("breaker", "list").lines) == 2


def test_a_command_that_fails_opens_it_and_a_reset_lets_the_next_one_try(offline: CommandLine) -> None:
    assert "does not answer" in offline("balance", "u1").err
    (one,) = offline("breaker", "list", "--json").json["data"]
    assert (one["name"][:3], one["state"], one["failures"]) == ("db:", "open", 3)
    assert offline("breaker", "list").err == f"▸ {one['name']} is the database that TOKENCTL_DATABASE_URL names\n"
    refused = offline("balance", "u1", "--json").problem
    down = "the database at x@127.0.0.1:1 is marked as down by earlier failures; next try in "
    assert refused["detail"].startswith(down)
    assert (refused["exit_code"], refused["breaker"]) == (69, one["name"])
    assert "--ignore-breaker" in refused["hint"]
    assert offline("breaker", "reset", one["name"]).code == 0
    assert "does not answer" in offline("balance", "u1").err


def test_the_database_is_told_as_it_was_named(offline: CommandLine, home: Path) -> None:
    offline.patch.delenv("TOKENCTL_DATABASE_URL")
    offline.patch.setenv("PGHOST", "127.0.0.1")
    offline.patch.setenv("PGPORT", "1")
    assert offline("balance", "u1").code == 69
    assert offline("breaker", "list").err.endswith(" is the database that PGHOST names\n")
    config = home / "own.toml"
    config.write_text(f'[profiles.prod]\ndatabase = "{NOWHERE}"\n')
    chosen = ("--config", str(config), "--profile", "prod")
    assert offline("balance", "u1", *chosen).code == 69
    assert offline("breaker", "list", *chosen).err.endswith(" is the database of profile prod\n")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("argv", [("list",), ("reset", "--all"), ("reset", "gemini")])
def test_a_person_is_told_when_nothing_is_remembered(offline: CommandLine, state: Path, argv: tuple[str, ...]) -> None:
    state.parent.chmod(0o777)
    problem = offline("breaker", *argv, "--json").problem
    assert problem["exit_code"] == 78
    assert f"chmod 700 {state.parent}" in problem["detail"]
    state.parent.chmod(0o700)
    state.write_bytes(b"no database\n" * 100)
    assert offline("breaker", "list").code == 78
    assert offline("breaker", "list").code == 0


@pytest.mark.parametrize("name", ["list", "reset"])
def test_help_begins_with_examples(offline: CommandLine, name: str) -> None:
    got = offline("breaker", name, "--help")
    assert (got.code, got.err) == (0, "")
    assert f"\n  tokenctl breaker {name}" in got.text
    assert got.text.index(f"\n  tokenctl breaker {name}") < got.text.index("\nOptions")
