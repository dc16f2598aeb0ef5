"""Values are read without pydantic, as typer would read them with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
import typer
from typer.main import get_command

from tests.cli.searched import BUILT
from tokenctl.cli.options import reads
from tokenctl.cli.values import Reader, read_lightly

app = typer.Typer()


@app.command()
def _every_kind(
    user: str,
    users: list[str],
    *,
    kind: Annotated[Literal["bonus", "purchase"], typer.Option()] = "bonus",
    state: Annotated[Literal["open", "done"] | None, typer.Option()] = None,
    note: Annotated[str | None, typer.Option()] = None,
    warn: Annotated[list[str] | None, typer.Option()] = None,
    amount: Annotated[int | None, typer.Option(parser=reads("amount"))] = None,
    yes: bool = False,
) -> None:
    """Every kind of parameter that our commands have."""


VALUES = (None, "u1", "bonus", "Bonus", "done", "5", "1.000", "", "ä", True, False, ("a", "b"), ["a"], ())


def parameters(of: typer.Typer) -> list[Any]:
    return list(get_command(of).params)


def _read(param: Any, value: Any) -> Any:
    context = typer.Context(get_command(app))
    try:
        return param.process_value(context, value)
    except typer.TyperException as error:
        return error.format_message()


@pytest.mark.parametrize("number", range(8))
def test_a_value_is_what_typer_makes_of_it(number: int) -> None:
    theirs, ours = (parameters(app)[number] for _ in range(2))
    read_lightly(ours)
    assert isinstance(ours.get_runtime_param(), Reader)
    fitting = [value for value in VALUES if isinstance(value, list | tuple) is (ours.multiple or ours.nargs == -1)]
    for value in [None, *fitting]:
        assert _read(ours, value) == _read(theirs, value), value


def test_what_we_cannot_read_is_left_to_typer() -> None:
    other = typer.Typer()

    @other.command()
    def _number(number: int) -> None:
        """Of a kind that we have not."""

    [param] = [one for one in parameters(other) if one.name == "number"]
    read_lightly(param)
    assert not isinstance(param.get_runtime_param(), Reader)
    assert _read(param, "5") == 5


def test_every_parameter_of_every_command_is_read_lightly() -> None:
    """One that is not loads pydantic for each run of its command."""
    heavy = []
    commands: list[tuple[str, Any]] = [("", BUILT)]
    for path, command in commands:
        commands += [(f"{path} {name}", child) for name, child in getattr(command, "commands", {}).items()]
        for param in command.params:
            read_lightly(param)
            if not isinstance(param.get_runtime_param(), Reader):
                heavy.append(f"{path} {param.name}")
    assert heavy == []
