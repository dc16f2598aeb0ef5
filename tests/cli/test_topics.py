"""`tokenctl help`: its tables are made of what the program itself goes by."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.cli.running import CommandLine
from tokenctl import errors
from tokenctl.cli import topics
from tokenctl.sources import VARIABLES

ROOT = Path(__file__).parents[2]
NAMES = {name for names, _ in VARIABLES for name in names}


@pytest.mark.parametrize("topic", topics.TOPICS)
def test_a_topic_is_plain_text_as_wide_as_the_terminal_up_to_80_columns(offline: CommandLine, topic: str) -> None:
    whole = [word for line in offline("help", topic).text.splitlines() for word in line.split()]
    for columns, most in (("60", 60), ("80", 80), ("200", 80)):
        offline.patch.setenv("COLUMNS", columns)
        got = offline("help", topic)
        assert (got.code, got.err) == (0, "")
        lines = got.text.splitlines()
        assert [line for line in lines if len(line) > most and not re.match(r" {4}\S", line)] == []
        assert [word for line in lines for word in line.split()] == whole
        assert re.search(r"\x1b|[\u2500-\u257f]|<property", got.text) is None


def test_help_works_with_a_broken_configuration(offline: CommandLine, home: Path) -> None:
    file = home / "config" / "tokenctl" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("nonsense")
    assert offline("help", "files").code == 0


def test_every_kind_of_failure_is_told_under_its_exit_code(offline: CommandLine) -> None:
    told: dict[str, int] = {}
    code = 0
    for line in offline("help", "exit-codes").text.splitlines():
        if found := re.match(r"  ([0-9]+) ", line):
            code = int(found[1])
        elif found := re.match(r"        ([a-z-]+) {2,}\S", line):
            told[found[1]] = code
    wanted = {kind.code: kind.exit_code for kinds in errors.kinds().values() for kind in kinds}
    assert told == wanted
    assert set(errors.kinds()) <= set(errors.EXIT_CODES)
    health = {kind.exit_code for kind in (errors.NeedsAttention, errors.Unhealthy, errors.HealthUnknown)}
    assert health == set(errors.HEALTH_CODES) - {0}


def test_every_variable_that_the_program_names_is_told(offline: CommandLine) -> None:
    text = offline("help", "environment").text
    assert all(re.search(rf"\b{name}\b", text) for name in NAMES)
    named: set[str] = set()
    for file in (ROOT / "tokenctl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(
                    re.findall(
                        r"^(?:TOKENCTL|GEMINI|XDG|CLICOLOR|NO|FORCE|PAGER|LESS|LV|COLUMNS|TERM|HOME)(?:_[A-Z_]+)?$",
                        node.value,
                    )
                )
    # Those of the tests; a name in a settings' message; what Gemini's library may not see.
    assert {name for name in named - NAMES if not name.startswith("TOKENCTL_TEST_")} == set()


def test_no_variable_is_told_that_nothing_reads() -> None:
    """Beside the table itself; LESS and LV are handed to the pager, HOME to the XDG rules."""
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tokenctl").rglob("*.py"))
    unread = {name for name in NAMES if len(re.findall(rf'"{name}"', source)) < 2}
    assert unread == {"PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE"}  # libpq's, as a list


def test_the_files_that_commands_leave_are_told(offline: CommandLine, home: Path) -> None:
    for line in ("balance u1", "keys list", "breaker list", "cache stats", "metrics --format json"):
        offline(*line.split())
    offline.patch.setenv("GEMINI_API_KEY", "AIzaSy-canary-0123456789")
    assert offline("keys", "disable", "env").code == 0
    told = {Path(path).name for path, _ in topics.FILES}
    left = {path.name for path in (home / "state" / "tokenctl").iterdir()}
    assert {"state.db", "metrics.db", "keys.db"} <= left
    assert {name for name in left if not name.endswith(("-wal", "-shm"))} <= told


def test_help_of_a_command_is_its_help(offline: CommandLine) -> None:
    assert offline("help", "batches", "show").text == offline("batches", "show", "--help").text
    assert offline("help", "db").text == offline("db", "--help").text
    assert offline("help").text.startswith(offline("--help").text.rstrip())
    assert all(f"\n  {topic} " in offline("help").text for topic in topics.TOPICS)


@pytest.mark.parametrize(
    ("words", "near"), [("exit-code", "exit-codes"), ("balanse", "balance"), ("db statu", "status")]
)
def test_an_unknown_word_gets_the_nearest(offline: CommandLine, words: str, near: str) -> None:
    got = offline("help", *words.split())
    assert (got.code, got.out) == (2, b"")
    assert f"did you mean '{near}'?" in got.err
    assert offline("help", "show", "more").code == 2
