"""--format value: printed by the commands that offer it, refused by all others before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from generators.surface import Command, surface
from tests.cli.generating import KEY, Studio, prepared
from tests.cli.running import NOWHERE, Cli, CommandLine
from tests.cli.test_breaker import breaker
from tests.gemini_server import serving
from tests.integration.test_generations import ID, opened
from tokenctl.cli.options import FORMATS, VALUED
from tokenctl.settings import FORMATS as DEFAULT
from tokenctl.settings import KNOWN_FORMATS

#: What each command that has no single value needs to be well formed.
WITHOUT = {
    "history": "u1", "show": "u1:1", "statement": "u1 --month 2026-11", "export": "", "metrics": "", "doctor": "",
    "holds list": "", "holds release": f"u1 {ID} --reason stuck --yes", "holds reconcile": "", "batches list": "",
    "breaker list": "", "cache stats": "", "cache clear": "", "config show": "", "db start": "", "db stop": "",
    "db status": "", "db psql": "", "db migrate": "", "keys test": "", "completion": "bash",
}  # fmt: skip
#: What each of the others is run with, and what it prints: None for what is not known beforehand.
VALUES = {
    "grant-bonus": ("u1 --amount 5 --reason goodwill --yes", "u1:2"),
    "reverse": ("u1:2 --reason mistake --yes", "u1:3"),
    "balance": ("u1", "500"),
    "explain": ("u1", "500"),
    "batch-import": ("good.csv --yes", None),
    "batches show": ("BATCH", "done"),
    "generate": ("u1 --prompt cat --quality 1K --image a.png --image b.jpg --image c.webp --dry-run", "40"),
    "health": ("--check schema", "ok"),
    "verify": ("", "0"),
    "breaker reset": ("--all", "gemini"),
    "config path": ("", None),
    "config check": ("", None),
    "config init": ("new.toml", "new.toml"),
    "db url": ("", None),
    "keys list": ("", "env"),
    "keys disable": ("env", "env"),
    "keys enable": ("env", "env"),
    "schema": ("", None),
}


def commands() -> dict[str, Command]:
    """Every command that prints results; `help` prints text."""
    return {one.name: one for one in surface().all() if not one.commands and one.name != "help"}


def formats(command: Command) -> tuple[str, ...]:
    (found,) = [option.value for option in command.options if "--format" in option.names]
    assert found is not None
    return found.words


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        yield prepared(cli, server, home)


def test_every_command_is_asked_here_and_every_format_is_known() -> None:
    offered = {name: formats(one) for name, one in commands().items()}
    assert {name for name, words in offered.items() if "value" not in words} == set(WITHOUT)
    assert {name for name, words in offered.items() if "value" in words} == set(VALUES)
    assert set().union(*offered.values()) == KNOWN_FORMATS
    assert DEFAULT == FORMATS
    assert (*FORMATS, "value") == VALUED


@pytest.mark.parametrize("name", WITHOUT)
def test_a_command_without_a_single_value_refuses_before_anything_is_done(offline: CommandLine, name: str) -> None:
    got = offline(*name.split(), *WITHOUT[name].split(), "--format", "value")
    assert (got.code, got.out) == (2, b"")
    assert "'value' (--format) is not a format of this command" in got.err
    assert "value" not in formats(commands()[name])
    assert not [line for line in offline(*name.split(), "--help").text.splitlines() if "or value." in line]


def test_the_others_print_it(studio: Studio, home: Path) -> None:
    cli = studio.cli
    cli.login("postgres")
    (home / "good.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,test,k1\n")
    breaker(home / "state" / "tokenctl" / "state.db", "gemini").failed("unavailable")
    batch = ""
    for name, (line, value) in VALUES.items():
        got = cli(*name.split(), *line.replace("BATCH", batch).split(), "--format", "value")
        assert got.code == 0, (name, got)
        assert got.text.strip(), name
        assert KEY not in got.text
        if name == "batch-import":
            batch = got.text.strip()
        if value is not None:
            assert got.text == f"{value}\n", name


def test_what_has_no_value_this_time_prints_nothing_and_is_no_failure(cli: Cli) -> None:
    cli.grant("u1", 5)
    dry = ("--dry-run", "--format", "value")
    assert cli("grant-bonus", "u1", "--amount", "7", "--reason", "goodwill", *dry).out == b""
    assert cli("reverse", "u1:1", "--reason", "mistake", *dry).out == b""
    got = cli("breaker", "reset", "--all", "--format", "value")
    assert (got.code, got.out) == (0, b"")


def test_a_wish_of_the_environment_turns_no_done_change_into_a_failure(cli: Cli) -> None:
    support = cli.db.connect("support1")
    cli.grant("u1", 100)
    opened(support)
    cli.patch.setenv("TOKENCTL_FORMAT", "value")
    got = cli("holds", "release", "u1", ID, "--reason", "stuck", "--yes")
    assert got.code == 0, got
    assert ID in got.text
    for line in ("holds reconcile", "cache clear", "keys list"):
        assert cli(*line.split()).code == 0, line


def test_the_environment_may_name_a_format_of_other_commands(cli: Cli) -> None:
    cli.grant("u1", 100)
    for form in ("csv", "html", "nagios"):
        cli.patch.setenv("TOKENCTL_FORMAT", form)
        assert cli("show", "u1:1").lines[0][0] == "u1:1"
    assert cli("show", "u1:1", "--format", "csv").code == 2
    cli.patch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
    assert cli("balance", "u1", "--timeout", "0.1").code == 69
