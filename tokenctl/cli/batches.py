"""`tokenctl batches`: imports and reversals, as they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

FORMATS = ("table", "tsv", "json", "jsonl", "csv")

State = Annotated[
    Literal["checking", "abandoned", "running", "unfinished", "done", "reversed"] | None,
    typer.Option("--state", help="Only batches in this state."),
]
BatchId = Annotated[
    str,
    typer.Argument(metavar="ID", parser=options.reads("batch"), help="The batch's id.", show_default=False),
]


class ListingGroup(StrictGroup):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; without a command it is `list`, with options for it."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        elif re.fullmatch(r"[0-9a-f]{12}", args[0]):
            raise UsageError(f"no such command '{args[0]}'", hint=commandline.line("batches", "show", *args))
        return super().parse_args(ctx, args)


def _list(run: Run, limit: options.Limit = 20, state: State = None) -> None:
    """List imports and reversals, the newest first, and what became of each.

    \b
    tokenctl batches list
    tokenctl batches list --state unfinished
    tokenctl batches list --limit 1000 --format csv >batches.csv

    A batch is checking, then running, then done, and reversed when another took it back. One that
    was cut off is unfinished when rows of it are in the ledger, else abandoned.
    """
    from tokenctl.cli import batch_views
    from tokenctl.services import batches

    found, more = batches.newest(run.runtime.batches, limit=limit, standing=state)
    run.show_list(batch_views.batches(found, more=more))
    run.about["batches"] = [batch.batch_id for batch in reversed(found)]
    if run.output.machine:
        return
    if not found:
        run.output.say("no batch is like this")
    if more:
        run.output.say(f"there are older ones; --limit {min(10 * limit, 100_000)} shows more")


def _show(run: Run, batch: BatchId) -> None:
    """Show one import or reversal whole: file, counts, rows that were left out, what to do next.

    \b
    tokenctl batches show 5f0c22ab9d10
    tokenctl batches show 5f0c22ab9d10 --json | jq -r .data.next
    """
    from tokenctl.cli import batch_views
    from tokenctl.services import batches

    report = batches.show(run.runtime.batches, batch, ledger_name=run.settings.profile)
    run.show(batch_views.batch(report))
    if not run.output.machine:
        for line in batch_views.findings(report):
            run.output.say(line, mark="")


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="batches",
        cls=ListingGroup,
        help="""Imports and reversals, as they stand; without a command, the list.

        \b
        tokenctl batches
        tokenctl batches show 5f0c22ab9d10
        """,
        rich_markup_mode=None,
    )
    command(group, "list", formats=FORMATS)(_list)
    command(group, "show", formats=options.VALUED)(_show)
    app.add_typer(group)
