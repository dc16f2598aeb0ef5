"""`tokenctl explain`: why a balance is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run


def _explain(run: Run, user: options.User, as_of: options.AsOf = None) -> None:
    """Show why a balance is what it is: from zero, source by source, to what can be spent.

    \b
    tokenctl explain u_42
    tokenctl explain u_42 --as-of 2026-11-23T18:04:00Z
    tokenctl explain u_42 --json | jq .data.check

    Purchases, bonuses by reason and generations by purpose, each with what was reversed of it,
    then open holds with the time that is left to them. AGE is that of the last change, LAST the
    entry that made it. Ends with 1 when the account and its entries do not agree. With --as-of all
    is as it was then, from the entries alone; a hold that was released and made again counts
    from when it was made first.
    """
    from tokenctl.cli import explain_views
    from tokenctl.output.text import moment
    from tokenctl.services import explanations

    runtime = run.runtime
    found = explanations.explain(runtime.history, runtime.ledger, user, ledger_name=run.settings.profile, at=as_of)
    run.show(explain_views.explanation(found))
    trouble = found.trouble()
    if trouble is not None:
        raise trouble
    if found.past:
        run.output.say(f"as of {moment(found.as_of)}; holds as far as their rows tell", mark=" ")
    if found.past and not found.entries:
        run.output.say("there were no entries then", mark="✓")
        return
    what = "the last entry of then" if found.past else f"read {moment(found.as_of)}; the account"
    run.output.say(f"{what} agrees with its {counted(found.entries, 'entry', 'entries')}", mark="✓")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "explain", formats=options.VALUED)(_explain)
