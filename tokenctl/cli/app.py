"""The command line, assembled from one module per command."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated

import typer

from tokenctl.cli import (
    balance,
    batch_import,
    batches,
    breaker,
    cache,
    completion,
    config,
    db,
    doctor,
    explain,
    export,
    generate,
    grant_bonus,
    health,
    help_command,
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
    epilog="tokenctl help TOPIC tells of exit-codes, environment, formats, cron and files.",
)


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False) -> None:
    assert not version  # noqa: S101 — StrictGroup answers it


#: The commands as `--help` lists them.
SECTIONS: dict[str, tuple[ModuleType, ...]] = {
    "See what is": (balance, explain, history, show, statement),
    "Change the ledger": (grant_bonus, batch_import, batches, reverse, generate, holds),
    "Watch and prove": (health, verify, export, metrics, breaker, cache),
    "Set up": (doctor, config, db, keys, completion, schema, help_command),
}


def _assemble() -> None:
    for section, modules in SECTIONS.items():
        commands, groups = len(app.registered_commands), len(app.registered_groups)
        for module in modules:
            module.register(app)
        for command in app.registered_commands[commands:]:
            command.rich_help_panel = section
        for group in app.registered_groups[groups:]:
            group.rich_help_panel = section


_assemble()
