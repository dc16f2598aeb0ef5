"""`tokenctl statement`: an account's month, to be handed to somebody."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

FORMATS = ("md", "csv", "json", "html")

Month = Annotated[
    datetime,
    typer.Option("--month", metavar="YYYY-MM", parser=options.reads("month"), help="The month, in UTC: 2026-11."),
]


def _statement(run: Run, user: options.User, month: Month) -> None:
    """Write the statement of an account for a month: what it had, every entry, what it has at the end.

    \b
    tokenctl statement u_42 --month 2026-11
    tokenctl statement u_42 --month 2026-11 --format html > u_42.html
    tokenctl statement u_42 --month 2026-11 --json | jq .data.closing_balance

    The web page is one file that prints well, without scripts, and fetches nothing. CSV is
    safe for spreadsheets. A month that is not over is told as such. An account whose entries
    do not add up gets no statement: the command ends with 1.
    """
    from tokenctl.cli import statement_views
    from tokenctl.output import documents
    from tokenctl.services import statements

    runtime, form = run.runtime, run.output.form
    found = statements.read(runtime.history, runtime.ledger, user, month, ledger_name=run.settings.profile)
    if form == "csv":
        run.show_list(statement_views.lines(found))
    elif form == "json":
        run.show(statement_views.view(found))
    else:
        written = statement_views.document(found, run.settings.profile, runtime.operation.request_id)
        run.output.text(documents.page(written) if form == "html" else documents.markdown(written))


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "statement", formats=FORMATS, piped="md")(_statement)
