"""The command line, assembled from one module per command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.models import CommandInfo, TyperInfo

from tokenctl.cli.command import StrictGroup

#: The commands as `--help` lists them. Each has a module of its name; `help` would hide Python's.
SECTIONS = {
    "See what is": {
        "balance": "Show balances",
        "explain": "Show why a balance is what it is",
        "history": "Show what happened to an account, the newest entry first",
        "show": "Show one transaction whole",
        "statement": "Write the statement of an account for a month",
    },
    "Change the ledger": {
        "grant-bonus": "Grant bonus tokens to a user, once",
        "batch-import": "Import a file of grants, every row once",
        "batches": "Show imports and reversals, and what to do next",
        "reverse": "Undo a transaction, a batch or an operator's work",
        "generate": "Make an image from photos of a user, paid in tokens",
        "holds": "Show and release tokens promised to running jobs",
    },
    "Watch and prove": {
        "health": "Check whether all that commands need is well",
        "verify": "Prove the ledger's rules from its rows",
        "export": "Write every entry, for another program to check",
        "metrics": "Show what was counted and timed",
        "breaker": "Show what is marked as down; have it tried again",
        "cache": "Show or forget what is kept for the next runs",
    },
    "Set up": {
        "doctor": "Tell what is so here, to be pasted into a ticket",
        "config": "Show which settings hold, and who gave them",
        "db": "Manage the embedded server and the schema",
        "keys": "Show, test, disable and enable Gemini's keys",
        "completion": "Print the completion script of a shell",
        "schema": "Print the JSON Schema of outputs, errors and rows",
        "help": "Explain a command, or what holds for all of them",
    },
}
HELP_OPTIONS = ("-h", "--help")
_MODULES = {"help": "help_command"}
_HELP = """The operations command line for a token ledger on PostgreSQL.

    \b
    tokenctl balance u_42
    tokenctl explain u_42
    tokenctl grant-bonus u_42 --amount 500 --reason goodwill
    tokenctl batch-import november.csv --dry-run
    tokenctl reverse u_42:17 --reason mistake
    """


class Root(StrictGroup):
    """The commands in the order of their sections."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """The commands as `--help` lists them."""
        return [name for section in SECTIONS.values() for name in section if name in self.commands]


def assemble(argv: Sequence[str] | None = None) -> typer.Typer:
    """The command line: whole, or as much of it as `argv` needs.

    Loading and building every command takes longer than loading typer. So a command comes
    alone, and the list of all of them needs only their names.
    """
    app = _root()
    names = {name for section in SECTIONS.values() for name in section}
    wanted = names & set((argv or ())[:1]) - {"help"} or names
    only_listed = argv is not None and (not argv or argv[0] in HELP_OPTIONS)
    for section, commands in SECTIONS.items():
        for name, summary in commands.items():
            if name in wanted:
                add = _listed if only_listed else _register
                made = add(app, name)
                made.short_help, made.rich_help_panel = summary, section
    return app


def _register(app: typer.Typer, name: str) -> CommandInfo | TyperInfo:
    """Add a command or a group, whole."""
    groups = len(app.registered_groups)
    module = _MODULES.get(name, name.replace("-", "_"))
    import_module(f"tokenctl.cli.{module}").register(app)
    return app.registered_groups[-1] if len(app.registered_groups) > groups else app.registered_commands[-1]


def _listed(app: typer.Typer, name: str) -> CommandInfo:
    """Add what has a name and is never run."""
    app.command(name)(lambda: None)
    return app.registered_commands[-1]


def _root() -> typer.Typer:
    app = typer.Typer(
        name="tokenctl",
        cls=Root,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP_OPTIONS)},
        help=_HELP,
        epilog="tokenctl help TOPIC tells of exit-codes, environment, formats, cron and files.",
    )

    @app.callback()
    def _options(version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False) -> None:
        assert not version  # noqa: S101 — StrictGroup answers it

    return app
