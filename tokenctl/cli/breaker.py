"""`tokenctl breaker`: what is marked as down on this machine, and how to have it tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

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
    from tokenctl.cli import breaker_views as views

    states = run.runtime.breakers.states()
    run.show(views.breakers(states))
    ours = run.runtime.database_breaker
    if not states:
        run.output.say("no breaker has failures", mark="✓")
    elif ours in {state.name for state in states}:
        database = run.settings.database
        variable = database.origin.removeprefix("env:")
        of = f"of profile {run.settings.profile}" if database.kind == "profile" else f"that {variable} names"
        run.output.say(f"{ours} is the database {of}")


def _reset(run: Run, name: Name = None, all_: All = False) -> None:
    """Close breakers and forget their failures, so that the next call is tried.

    \b
    tokenctl breaker reset gemini
    tokenctl breaker reset --all

    To try once in spite of a breaker, give the command --ignore-breaker; a success closes it too.
    """
    from tokenctl.cli import breaker_views as views

    if all_ == (name is not None):
        raise UsageError("which breaker? NAME or --all, and not both", hint=commandline.line("breaker", "list"))
    breakers = run.runtime.breakers
    done = breakers.reset_all() if name is None else breakers.reset([name])
    if name is not None and not done:
        known = ", ".join(state.name for state in breakers.states())
        raise UsageError(
            f"no breaker '{name}' has failures", hint=f"those that have: {known}" if known else "none has any"
        )
    if done:
        run.output.committed = f"reset: {', '.join(done)}"
    run.show(views.reset(done))
    if not done:
        run.output.say("no breaker had failures", mark="✓")


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="breaker",
        cls=StrictGroup,
        help="What is marked as down by earlier failures.",
        rich_markup_mode=None,
    )
    command(group, "list")(_list)
    command(group, "reset", formats=options.VALUED)(_reset)
    app.add_typer(group)
