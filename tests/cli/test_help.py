"""Help, version, and what they may import."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from generators.surface import surface
from tests.cli.running import CommandLine, environment, on_terminal, run
from tokenctl import __version__

COMMANDS = [
    (), ("balance",), ("grant-bonus",), ("batch-import",), ("reverse",), ("history",), ("show",),
    ("explain",), ("batches",), ("batches", "list"), ("batches", "show"), ("metrics",), ("breaker", "list"),
    ("breaker", "reset"), ("db",), ("db", "start"),
    ("db", "stop"), ("db", "status"), ("db", "url"), ("db", "psql"), ("db", "migrate"), ("completion",),
]  # fmt: skip
SHARED = (
    "--json",
    "--format",
    "--profile",
    "--config",
    "--timeout",
    "--request-id",
    "--no-input",
    "--quiet",
    "--no-color",
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_the_same_by_both_names_and_has_an_example(offline: CommandLine, command: tuple[str, ...]) -> None:
    got = offline(*command, "--help")
    assert (got.code, got.err) == (0, "")
    assert offline(*command, "-h") == got
    assert got.text.startswith(f"Usage: {' '.join(('tokenctl', *command))} ")
    assert not re.search(r"\x1b|[\u2500-\u257f]", got.text)
    if command != ("db",):
        example = rf'^ +(\S+=)?(psql )?"?(\$\()?tokenctl {" ".join(command)}'
        assert re.search(example, got.text, re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ((), ("db",), ("batches",))], ids=" ".join)
def test_every_command_takes_the_shared_options(offline: CommandLine, command: tuple[str, ...]) -> None:
    text = offline(*command, "--help").text
    assert [option for option in SHARED if option not in text] == []
    changes = command in (("grant-bonus",), ("batch-import",), ("reverse",))
    assert ("--yes" in text) == changes
    assert ("--dry-run" in text) == (changes or command == ("db", "migrate"))


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_a_group_tells_of_each_command_in_a_whole_sentence(offline: CommandLine, columns: str) -> None:
    offline.patch.setenv("COLUMNS", columns)
    for group in (one for one in surface().commands if one.commands):
        text = offline(group.name, "--help").text
        listed = " ".join(text.partition("Commands:\n")[2].split())
        assert "..." not in listed
        for command in group.commands:
            assert re.search(rf"\b{command.path[-1]} {re.escape(re.split('[:;]', command.summary)[0])}", listed), listed


def test_help_wins_over_what_else_is_wrong(offline: CommandLine) -> None:
    assert offline("grant-bonus", "--amount", "5", "--amount", "6", "--help").code == 0
    assert offline("grant-bonus", "-h", "").code == 0


@pytest.mark.parametrize("command", [(), ("db",)])
def test_without_a_command_the_help_is_shown_as_a_usage_error(offline: CommandLine, command: tuple[str, ...]) -> None:
    got = offline(*command)
    assert (got.code, got.out) == (2, b"")
    assert got.err == offline(*command, "--help").text


@pytest.mark.parametrize("argv", [("--version",), ("-V",), ("-V", "balance")])
def test_the_version_is_one_line(offline: CommandLine, argv: tuple[str, ...]) -> None:
    got = offline(*argv)
    assert (got.code, got.text, got.err) == (0, f"tokenctl {__version__}\n", "")


def test_help_on_a_terminal_has_no_escapes_either() -> None:
    assert "\x1b" not in on_terminal("grant-bonus", "--help").text
    assert run("--help").text == on_terminal("--help").text


def test_no_command_edits_a_shell_s_files(offline: CommandLine) -> None:
    assert "--install-completion" not in offline("--help").text


def imported(*argv: str) -> set[str]:
    """The packages that a process with these arguments imports."""
    program = "import sys; from tokenctl.__main__ import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, env=environment(), check=True
    )
    return {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}


def test_help_imports_nothing_heavy_and_the_version_not_even_typer() -> None:
    heavy = {"psycopg", "pydantic", "pydantic_core", "rich", "google", "diskcache", "tenacity"}
    assert imported("--help") & heavy == set()
    assert imported("--version") & (heavy | {"typer", "json", "inspect"}) == set()


def test_no_command_line_needs_pydantic() -> None:
    """Its import takes longer than all else of a command that asks no database."""
    for argv in (["cache", "stats"], ["breaker", "list", "--json", "--timeout", "5"], ["keys", "list"]):
        assert imported(*argv) & {"pydantic", "pydantic_core"} == set(), argv
