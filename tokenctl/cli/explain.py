"""`tokenctl explain`: why a balance is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run


def _explain(run: Run, user: options.User) -> None:
    """Show why a balance is what it is: from zero, source by source, to what can be spent.

    \b
    tokenctl explain u_42
    tokenctl explain u_42 --json | jq .data.check

    Purchases, bonuses by reason and generations by purpose, each with what was reversed of it,
    then open holds with the time that is left to them. AGE is that of the last change, LAST the
    entry that made it. Ends with 1 when the account and its entries do not agree.
    """
    from tokenctl.cli import explain_views
    from tokenctl.output.text import moment
    from tokenctl.services import explanations

    runtime = run.runtime
    found = explanations.explain(runtime.history, runtime.ledger, user, ledger_name=run.settings.profile)
    run.show(explain_views.explanation(found))
    trouble = found.trouble()
    if trouble is not None:
        raise trouble
    run.output.say(f"read {moment(found.as_of)}; the account agrees with its {found.entries:,} entries", mark="✓")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "explain")(_explain)
