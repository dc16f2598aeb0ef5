"""`tokenctl breaker`: what is marked as down on this machine, and how to have it tried again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.output import View
    from tokenctl.resilience.breaker import BreakerState

Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="A breaker, as `breaker list` names it.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Every breaker.")]


def _list(run: Run) -> None:
    """List the breakers that have failures: which are open, since when, until when and why.

    \b
    tokenctl breaker list
    tokenctl breaker list --json | jq -r '.data[] | select(.state != "closed") | .name'

    A breaker opens after three failures in a row, or when half of five calls or more failed within
    a minute. Then calls are refused for 5 s, and for twice as long after every further failure, up to
    a minute. half_open: the next call is let through, and decides. Breakers that are not listed are well.
    """
    states = run.runtime.breakers.states()
    run.show(_breakers(states))
    ours = run.runtime.database_breaker
    if not states:
        run.output.say("no breaker has failures", mark="✓")
    elif ours is not None and ours.name in {state.name for state in states}:
        run.output.say(f"{ours.name} is the database of {run.settings.profile}")


def _reset(run: Run, name: Name = None, all_: All = False) -> None:
    """Close breakers and forget their failures, so that the next call is tried.

    \b
    tokenctl breaker reset gemini
    tokenctl breaker reset --all

    To try once in spite of a breaker, give the command --ignore-breaker; a success closes it too.
    """
    if all_ == (name is not None):
        raise UsageError("which breaker? NAME or --all, and not both", hint="tokenctl breaker list")
    breakers = run.runtime.breakers
    done = breakers.reset_all() if name is None else breakers.reset([name])
    if name is not None and not done:
        known = ", ".join(state.name for state in breakers.states())
        raise UsageError(
            f"no breaker '{name}' has failures", hint=f"those that have: {known}" if known else "none has any"
        )
    run.show(_names(done))
    if not done:
        run.output.say("no breaker had failures", mark="✓")


def _breakers(states: Sequence[BreakerState]) -> View:
    from tokenctl.output import Column, Table, View

    data = [
        {
            "name": state.name,
            "state": state.state,
            "failures": state.failures,
            "opened_s": None if state.opened_s is None else round(state.opened_s, 3),
            "next_try_s": None if state.next_try_s is None else round(state.next_try_s, 3),
            "last_cause": state.cause,
        }
        for state in states
    ]
    columns = [Column("BREAKER"), Column("STATE"), Column("FAILURES", number=True)]
    columns += [Column("OPEN FOR (S)", number=True), Column("NEXT TRY IN (S)", number=True), Column("LAST CAUSE")]
    rows = [
        (
            state.name,
            state.state,
            state.failures,
            None if state.opened_s is None else int(state.opened_s),
            None if state.next_try_s is None else math.ceil(state.next_try_s),
            state.cause,
        )
        for state in states
    ]
    return View("tokenctl.breakers.v1", data, Table(columns, rows))


def _names(names: Sequence[str]) -> View:
    from tokenctl.output import Column, Table, View

    table = Table([Column("RESET")], [(name,) for name in names])
    return View("tokenctl.breakers_reset.v1", list(names), table, value="\n".join(names) or None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="breaker",
        cls=StrictGroup,
        help="What is marked as down by earlier failures.",
        rich_markup_mode=None,
    )
    command(group, "list")(_list)
    command(group, "reset")(_reset)
    app.add_typer(group)
