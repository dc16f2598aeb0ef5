"""The command line, assembled from one module per command."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenctl.cli import (
    balance,
    batch_import,
    batches,
    breaker,
    cache,
    completion,
    db,
    explain,
    export,
    grant_bonus,
    health,
    history,
    holds,
    keys,
    metrics,
    reverse,
    schema,
    show,
    statement,
    verify,
)
from tokenctl.cli.command import StrictGroup

app = typer.Typer(
    name="tokenctl",
    cls=StrictGroup,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""The operations command line for a token ledger on PostgreSQL.

    \b
    tokenctl balance u_42
    tokenctl explain u_42
    tokenctl grant-bonus u_42 --amount 500 --reason goodwill
    tokenctl batch-import november.csv --dry-run
    tokenctl reverse u_42:17 --reason mistake
    """,
)


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False) -> None:
    assert not version  # noqa: S101 — StrictGroup answers it


for module in (
    balance,
    history,
    show,
    explain,
    statement,
    grant_bonus,
    batch_import,
    batches,
    reverse,
    schema,
    holds,
    verify,
    export,
    health,
    metrics,
    breaker,
    cache,
    keys,
    db,
    completion,
    schema,
):
    module.register(app)
