"""The command line is the same whether it is built whole or with one command alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.main import get_command

from tokenctl.cli.app import SECTIONS, assemble

NAMES = [name for names in SECTIONS.values() for name in names]


def _commands(argv: list[str] | None = None) -> dict[str, Any]:
    return dict(get_command(assemble(argv)).commands)  # type: ignore[attr-defined]  # it is a group


def test_what_names_no_command_gets_them_all() -> None:
    for argv in (None, ["balnce"], ["help", "balance"], ["--json", "balance"]):
        assert sorted(_commands(argv)) == sorted(NAMES)


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["--help", "balance"]])
def test_the_list_of_commands_needs_none_of_them(argv: list[str]) -> None:
    whole, listed = get_command(assemble()), get_command(assemble(argv))
    assert _help(listed) == _help(whole)
    assert [name for name in NAMES if f"  {name} " not in _help(listed)] == []
    assert "..." not in _help(listed).partition("See what is")[2]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "help"])
def test_a_command_alone_is_as_among_the_others(name: str) -> None:
    [(found, alone)] = _commands([name, "x"]).items()
    assert (found, alone.rich_help_panel) == (name, _commands()[name].rich_help_panel)
    assert _help(alone) == _help(_commands()[name])


def test_a_command_loads_no_other() -> None:
    program = "import sys; from tokenctl.cli.app import assemble; assemble(['balance']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    ours = {name.replace("-", "_") for name in NAMES}
    assert {name for name in ours if f"tokenctl.cli.{name}" in loaded.stdout.split()} == {"balance"}


def _help(command: Any) -> str:
    text: str = command.get_help(typer.Context(command, info_name=command.name))
    return text
