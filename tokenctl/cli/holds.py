"""`tokenctl holds`: tokens that are promised to running jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import Body, StrictGroup, command
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

SomeUser = Annotated[
    str | None,
    typer.Argument(metavar="USER", parser=options.reads("user_id"), help="Only this user's.", show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="Also those that were captured or released.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", parser=options.reads("count"), help="At most so many. [default: 100]"),
]
_LIMIT = 100
HoldId = Annotated[str, typer.Argument(metavar="ID", parser=options.reads("hold"), help="The hold's id.")]
Why = Annotated[str, typer.Option("--reason", metavar="CODE", parser=options.reads("reason"), help="Why, as a code.")]


def _list(run: Run, user: SomeUser = None, everything: Everything = False, limit: Limit = None) -> None:
    """List holds, the next deadline first.

    \b
    tokenctl holds list
    tokenctl holds list u_42 --all

    A hold past its deadline holds nothing any more, whether it was released or not.
    """
    from tokenctl.cli import generation_views
    from tokenctl.services import holds

    most, ledger = _LIMIT if limit is None else limit, run.runtime.ledger
    name = run.settings.profile
    found = holds.listed(run.runtime.generations, ledger, user, everything=everything, limit=most, ledger_name=name)
    run.show(generation_views.holds(found))
    if not found and most:
        hold = "no hold" if user is None else f"no hold of {user}"
        run.output.say(f"{hold} was ever made" if everything else f"{hold} is open")


def _release(run: Run, user: options.User, hold_id: HoldId, reason: Why, yes: options.PlainYes = False) -> None:
    """Give a hold's tokens back before its deadline, although its job may still run.

    \b
    tokenctl holds release u_42 5f0c22ab9d10 --reason stuck

    A job that is still at work finds its hold released and charges nothing. A hold that somebody
    else released before is told with who and why, and ends with 1.
    """
    from tokenctl.cli import generation_views
    from tokenctl.services import holds
    from tokenctl.settings import check_reason

    check_reason(reason, run.settings)
    run.output.require_answer("--yes", given=yes)
    run.banner()
    at = holds.found(run.runtime.generations, user, hold_id)
    if not yes:
        run.output.confirm(f"Release the hold of {counted(at.amount or 0, 'token')} of {user}?")
    released = holds.release(run.runtime.generations, run.runtime.metrics, at, reason)
    run.output.committed = f"the hold {hold_id} of {user} is released"
    tokens = counted(released.amount or 0, "token")
    run.output.say(f"released {tokens} of {user}; {released.available:,} available", mark="✓")
    run.show(generation_views.generation(released))


def _reconcile(run: Run, dry_run: options.DryRun = False) -> None:
    """Release every hold whose deadline is past: what crashed jobs left behind.

    \b
    tokenctl holds reconcile --dry-run
    tokenctl holds reconcile -q

    Such holds count for nothing already; this tidies the books, and suits a timer. One that was
    made again meanwhile stays, because its deadline is ahead.
    """
    from tokenctl.cli import generation_views
    from tokenctl.services import holds

    done = holds.reconcile(run.runtime.generations, run.runtime.metrics, dry_run=dry_run)
    if not dry_run:
        run.output.committed = f"{counted(len(done), 'hold')} released"
    past = counted(len(done), "hold past its deadline", "holds past their deadline")
    told = f"{past} would be released" if dry_run else f"{past}, released"
    run.output.say(told if done else "no hold is past its deadline")
    run.show(generation_views.holds(done), dry_run=dry_run)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="holds", cls=StrictGroup, help="Tokens promised to running jobs.", rich_markup_mode=None)
    bodies: dict[str, Body] = {"list": _list, "release": _release, "reconcile": _reconcile}
    for name, body in bodies.items():
        command(group, name)(body)
    app.add_typer(group)
