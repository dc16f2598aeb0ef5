"""`tokenctl history`: the statement of one account."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.services.history import Wanted

FORMATS = ("table", "tsv", "json", "jsonl", "csv")
DEFAULT_LIMIT = 50

Kind = Annotated[
    Literal["bonus", "purchase", "generation", "adjustment"] | None,
    typer.Option("--kind", help="Only entries of this kind, and their reversals."),
]
Cursor = Annotated[str | None, typer.Option("--cursor", metavar="C", help="Go on where a list ended; it says how.")]


def _history(
    run: Run,
    user: options.User,
    since: options.Since = None,
    until: options.Until = None,
    kind: Kind = None,
    limit: options.Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    as_of: options.AsOf = None,
) -> None:
    """Show what happened to an account, the newest entry first.

    \b
    tokenctl history u_42
    tokenctl history u_42 --since 2026-11-01 --until 2026-11-30 --kind purchase
    tokenctl history u_42 --limit 100000 --format csv >u_42.csv
    tokenctl history u_42 --json | jq '.data[] | select(.amount < 0)'

    Times are in UTC. On a terminal it goes through TOKENCTL_PAGER, else PAGER, else less;
    TOKENCTL_PAGER=cat and --no-input do without. tokenctl show tells all of one entry. With --as-of
    an entry that was reversed later shows no reversal.
    """
    from tokenctl.cli import entry_views
    from tokenctl.output.text import moment
    from tokenctl.services import history

    runtime = run.runtime
    wanted = history.Wanted(user, since, until, kind, limit, cursor, as_of)
    statement = history.read(runtime.history, runtime.ledger, wanted, ledger_name=run.settings.profile)
    run.show_list(entry_views.statement(statement))
    if run.output.machine:
        return
    if as_of is not None and run.output.form == "table":
        run.output.say(f"as of {moment(as_of)}")
    if statement.is_empty:
        run.output.say(f"no entry of {user} is like this")
    if statement.next_cursor is not None:
        run.output.say(_more(run, wanted, statement.next_cursor), mark="more:")


def _more(run: Run, wanted: Wanted, cursor: str) -> str:
    """The command that goes on where this list ended."""
    from tokenctl.output.text import rfc3339

    def time(when: datetime | None) -> str | None:
        return None if when is None else rfc3339(when)

    origins = run.settings.origins
    chosen = {
        "--since": time(wanted.since),
        "--until": time(wanted.until),
        "--kind": wanted.kind,
        "--as-of": time(wanted.as_of),
        "--limit": None if wanted.limit == DEFAULT_LIMIT else str(wanted.limit),
        "--format": run.settings.format if origins["format"] == "flag" else None,
        "--cursor": cursor,
    }
    flags = [word for flag, value in chosen.items() if value is not None for word in (flag, value)]
    return commandline.line("history", wanted.user_id, *flags)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "history", formats=FORMATS)(_history)
