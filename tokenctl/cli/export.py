"""`tokenctl export`: the ledger for another program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

FORMATS = ("hledger", "jsonl", "csv", "json")

OutFile = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Into this file, for you alone, once it is whole."),
]


def _export(
    run: Run,
    user: options.OneUser = None,
    since: options.Since = None,
    until: options.Until = None,
    output: OutFile = None,
) -> None:
    """Write every entry of the ledger, as one moment has it, for another program to read or check.

    \b
    tokenctl export -o books.journal && hledger -f books.journal balance
    tokenctl export --format jsonl | jq -c 'select(.kind == "purchase")'
    tokenctl export --user u_42 --since 2026-11-01 --format csv -o u_42.csv

    The journal has users and funds as accounts and asserts each balance, so that hledger adds
    up everything again and fails where something is wrong. With --since it begins with what
    users had before. Only a whole file gets its name, and what is printed ends with a line
    that says so. However large the ledger is, little of it is in memory; it is read in one
    transaction, which the server's vacuum has to wait for.
    """
    from tokenctl.cli import export_views
    from tokenctl.services import exports

    runtime, wanted = run.runtime, exports.Wanted(user, since, until)
    with run.output.into(output):
        books = exports.read(runtime.export, runtime.ledger, wanted, ledger_name=run.settings.profile)
        if run.output.form == "hledger":
            run.output.pieces(export_views.journal(books, run.settings.profile))
        else:
            run.show_list(export_views.rows(books))
    if not run.output.machine:
        run.output.say(export_views.told(books, output), mark="✓")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "export", formats=FORMATS, piped="hledger")(_export)
