"""`tokenctl doctor`: facts that may be pasted into a ticket, with and without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Cli, CommandLine, on_terminal
from tokenctl.cli import doctor_views
from tokenctl.services import doctor
from tokenctl.services.doctor import Fact


def facts(cli: CommandLine) -> dict[tuple[str, str], dict[str, Any]]:
    ran = cli("doctor", "--json")
    assert ran.code == 0, ran.err
    return {(one["area"], one["name"]): one for one in ran.json["data"]}


def test_a_sound_ledger_has_nothing_to_attend_to(cli: Cli) -> None:
    found = facts(cli)
    assert {name for name, one in found.items() if one["problem"]} == set()
    assert found["database", "server"]["value"].startswith("PostgreSQL 18.")
    assert found["database", "schema"]["value"].endswith(", 0 pending")
    assert "give or take" in found["database", "clock skew"]["value"]
    assert all(found["versions", name]["value"] for name in doctor.PACKAGES)
    assert found["settings", "database"]["value"] == "env:TOKENCTL_DATABASE_URL"
    assert "nothing wants attention" in cli("doctor").err


def test_it_works_with_the_database_down_and_names_nothing_secret(offline: CommandLine, home: Path) -> None:
    offline.patch.setenv("TOKENCTL_DATABASE_URL", "postgresql://CANARY-user:CANARY-pw@127.0.0.1:1/CANARY-db")
    offline.patch.setenv("GEMINI_API_KEY", "CANARY-key-of-gemini")
    offline.patch.setenv("PGPASSWORD", "CANARY-3")
    for form in ("table", "tsv", "json", "jsonl"):
        got = offline("doctor", "--format", form)
        assert got.code == 0
        assert "CANARY" not in got.text + got.err
        assert str(home) not in got.text
    found = facts(offline)
    assert found["database", "answer"]["problem"] == "The database does not answer; tokenctl health tells more"
    assert "1 of " in offline("doctor").err


def test_what_others_may_read_or_write_is_told(offline: CommandLine, home: Path) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[profiles.a]\ndatabase = "postgresql://u:CANARY-pw@h/x"\n')
    wanted = {0o600: None, 0o644: "it holds a secret, and others can read it: chmod 600", 0o666: "others can write it"}
    for mode, problem in wanted.items():
        config.chmod(mode)
        told = [one for one in offline("doctor", "--json").json["data"] if one["name"] == "configuration"]
        assert (told[0]["problem"], told[0]["value"]) == (problem, f"~/config/tokenctl/config.toml  {mode:04o}")
    (home / ".pgpass").write_text("h:1:x:u:CANARY\n")
    (home / ".pgpass").chmod(0o644)
    offline.patch.setenv("HOME", str(home))
    assert facts(offline)["paths", "password file"]["problem"] == "it holds a secret, and others can read it: chmod 600"
    (home / "state" / "tokenctl").chmod(0o755)
    assert facts(offline)["paths", "state"]["problem"] == "warning"


def test_an_old_schema_is_told(cli: Cli) -> None:
    cli.db.connect("postgres").execute("UPDATE tokenctl.schema_functions SET checksum = 'older'")
    assert "tokenctl db status" in facts(cli)["database", "schema"]["problem"]


class Clock:
    """A database whose clock is off."""

    def __init__(self, off: timedelta) -> None:
        self._off = off

    def clock(self) -> datetime:
        return datetime.now(UTC) + self._off


@pytest.mark.parametrize(("seconds", "wrong"), [(0, False), (1.5, False), (3, True), (-3, True)])
def test_clocks_may_not_be_far_apart(seconds: float, wrong: bool) -> None:
    fact = doctor.skew(Clock(timedelta(seconds=seconds)))  # type: ignore[arg-type]  # it asks for the time only
    assert (fact.problem is not None) == wrong
    assert fact.value.startswith(f"{seconds:+.1f}")


def test_a_terminal_gets_a_table_that_fits(offline: CommandLine) -> None:
    assert offline("doctor", "--help").code == 0
    shown = on_terminal("doctor", columns=100).text
    assert "terminal: stdout" in shown
    assert "terminal, utf-8" in shown
    view = doctor_views.facts([Fact("a", "b", "c", "d")])
    assert view.table.rows == [("a: b", "c  << d")]


@pytest.mark.parametrize(
    ("log", "wrong"),
    [
        ("folder", True), ("link", True), ("file/log", True), ("/dev/full", True),
        ("missing/log", False), ("/dev/null", False),
    ],
)  # fmt: skip
def test_a_log_that_cannot_be_written_wants_attention(cli: Cli, home: Path, log: str, wrong: bool) -> None:
    (home / "folder").mkdir()
    (home / "file").write_text("")
    (home / "link").symlink_to(home / "elsewhere")
    cli.patch.setenv("TOKENCTL_LOG_FILE", str(home / log))
    got = cli("doctor", "--json")
    problems = [one["problem"] for one in got.json["data"] if one["name"] == "log" and one["problem"]]
    assert [problem.startswith("nothing is logged: ") for problem in problems] == [True] * wrong
    assert ("tokenctl: nothing is logged" in got.err) == wrong
    assert ("nothing wants attention" in got.err) != wrong
