"""The command line, assembled from one module per command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from tokenctl.cli.command import StrictGroup

#: The commands as `--help` lists them. Each has a module of its name; `help` would hide Python's.
SECTIONS = {
    "See what is": ("balance", "explain", "history", "show", "statement"),
    "Change the ledger": ("grant-bonus", "batch-import", "batches", "reverse", "generate", "holds"),
    "Watch and prove": ("health", "verify", "export", "metrics", "breaker", "cache"),
    "Set up": ("doctor", "config", "db", "keys", "completion", "schema", "help"),
}
_MODULES = {"help": "help_command"}
_HELP = """The operations command line for a token ledger on PostgreSQL.

    \b
    tokenctl balance u_42
    tokenctl explain u_42
    tokenctl grant-bonus u_42 --amount 500 --reason goodwill
    tokenctl batch-import november.csv --dry-run
    tokenctl reverse u_42:17 --reason mistake
    """


def assemble(argv: Sequence[str] = ()) -> typer.Typer:
    """The command line: with the command that `argv` calls, or with all of them when it names none, or `help`.

    Loading and building the other commands is a fifth of the time that a command takes.
    """
    app = _root()
    names = {name for names in SECTIONS.values() for name in names}
    wanted = names & set(argv[:1]) - {"help"} or names
    for section, commands in SECTIONS.items():
        made, grouped = len(app.registered_commands), len(app.registered_groups)
        for name in commands:
            if name in wanted:
                module = _MODULES.get(name, name.replace("-", "_"))
                import_module(f"tokenctl.cli.{module}").register(app)
        for command in app.registered_commands[made:]:
            command.rich_help_panel = section
        for group in app.registered_groups[grouped:]:
            group.rich_help_panel = section
    return app


def _root() -> typer.Typer:
    app = typer.Typer(
        name="tokenctl",
        cls=StrictGroup,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=_HELP,
        epilog="tokenctl help TOPIC tells of exit-codes, environment, formats, cron and files.",
    )

    @app.callback()
    def _options(version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False) -> None:
        assert not version  # noqa: S101 — StrictGroup answers it

    return app
