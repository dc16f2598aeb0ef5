"""`tokenctl doctor`: what is so here, to be pasted into a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokenctl.cli.command import command
from tokenctl.wording import fitting

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.storage.health import Probe

_ASK_S = 3.0


def _doctor(run: Run) -> None:
    """Tell versions, paths, terminal, locale and database, to be pasted into a ticket.

    \b
    tokenctl doctor
    tokenctl doctor --json | jq '.data[] | select(.problem)'

    No secret is in it, no address of a database and no user of the ledger. It works with the
    database down, and changes nothing. Ends with 0 whatever it finds: health is for monitoring.
    """
    from tokenctl.cli import doctor_views as views
    from tokenctl.services import doctor

    found = doctor.look(run.settings, lambda: _probe(run))
    run.show(views.facts(found))
    wrong = sum(one.problem is not None for one in found)
    among = f"{wrong} of {len(found)} facts {fitting(wrong, 'wants', 'want')}" if wrong else "nothing wants"
    run.output.say(f"{among} attention", mark="▸" if wrong else "✓")


def _probe(run: Run) -> Probe | None:
    """A connection for some questions; none where the embedded server would have to be started."""
    from tokenctl.storage.health import Probe

    if run.settings.database.kind == "embedded" and not run.runtime.embedded.status().running:
        return None
    return Probe(run.runtime.database, timeout_s=_ASK_S)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(_doctor)
