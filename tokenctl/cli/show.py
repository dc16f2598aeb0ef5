"""`tokenctl show`: one transaction whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

Name = Annotated[
    str,
    typer.Argument(
        metavar="USER:SEQ",
        parser=options.reads("transaction"),
        help="The transaction, as receipts and histories name it.",
        show_default=False,
    ),
]


def _show(run: Run, transaction: Name) -> None:
    """Show one transaction whole: who, when, why, whether it counts today, how to undo it.

    \b
    tokenctl show u_42:17
    tokenctl show u_42:17 --json | jq .data.request_id

    The fingerprint is sha256 over user, kind, amount, reason, ticket and campaign, each as
    LENGTH:TEXT in UTF-8, or as - where there is none: equal for two entries that grant the same.
    """
    from tokenctl.cli import entry_views, forms
    from tokenctl.services import transactions

    user, seq = forms.split_transaction(transaction)
    runtime = run.runtime
    found = transactions.show(runtime.history, runtime.ledger, user, seq, ledger_name=run.settings.profile)
    run.show(entry_views.transaction(found, transactions.fingerprint(found.entry)))


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "show")(_show)
