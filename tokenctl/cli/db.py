"""`tokenctl db`: the database itself, and the embedded server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import Refused, UsageError
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.db_views import StatusData
    from tokenctl.cli.run import Run
    from tokenctl.storage.database import Connection
    from tokenctl.storage.migrations import Step

ExitCode = Annotated[bool, typer.Option("--exit-code", help="End with 1 when the schema needs a migration.")]
Confirm = Annotated[
    str | None,
    typer.Option("--confirm", metavar="PROFILE", help="Confirm what a protected profile wants confirmed, by its name."),
]

PsqlOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="PSQL_OPTION…", help="Options for psql, after --.", show_default=False),
]

_STOP_S = 30.0


def _start(run: Run) -> None:
    """Start the embedded server and bring its ledger up to date.

    \b
    tokenctl db start

    Every command starts it when needed; it runs until `tokenctl db stop` or a reboot.
    """
    from tokenctl.cli import db_views as views
    from tokenctl.storage import local

    _only_embedded(run, "start")
    local.prepare(run.runtime.embedded, run.runtime.setting_up)
    status = run.runtime.embedded.status()
    run.output.committed = "the embedded server runs"
    run.show(views.server({"running": True, "was_running": None, "pid": status.pid, "data": str(status.data_dir)}))


def _stop(run: Run) -> None:
    """Stop the embedded server.

    \b
    tokenctl db stop
    """
    from tokenctl.cli import db_views as views

    _only_embedded(run, "stop")
    stopped = run.runtime.embedded.stop(deadline_s=run.settings.timeout_s or _STOP_S)
    run.output.committed = "the embedded server is stopped"
    run.output.say("stopped" if stopped else "was not running", mark="✓")
    data = str(run.runtime.embedded.status().data_dir)
    run.show(views.server({"running": False, "was_running": stopped, "pid": None, "data": data}))


def _status(run: Run, exit_code: ExitCode = False) -> None:
    """Say which database is used, whether it answers, and what its schema lacks.

    \b
    tokenctl db status
    tokenctl db status --exit-code -q || tokenctl db migrate
    """
    from tokenctl.cli import db_views as views
    from tokenctl.storage import migrations

    facts: StatusData = {
        "profile": run.settings.profile,
        "database": run.runtime.database.target.where,
        "origin": run.settings.database.origin,
        "running": run.settings.database.kind != "embedded" or run.runtime.embedded.status().running,
        "server": None,
        "schema": None,
        "pending": [],
        "needs": migrations.newest_version(),
    }
    if facts["running"]:
        with run.runtime.maintenance() as connection:
            state = migrations.read_state(connection)
            facts["server"] = _version(connection)
        facts["schema"] = state.version
        if state.version <= facts["needs"]:
            facts["pending"] = [step.name for step in state.pending()]
    if not exit_code or not run.settings.quiet or run.settings.format:  # with both the code alone tells
        run.show(views.status(facts))
    if exit_code and (facts["schema"] != facts["needs"] or facts["pending"]):
        raise Refused("the schema is not the one that this tokenctl needs", hint=commandline.line("db", "migrate"))


def _url(run: Run) -> None:
    """Print the connection string that psql accepts.

    \b
    psql "$(tokenctl db url)"
    TOKENCTL_DATABASE_URL="$(tokenctl db url)" tokenctl balance u_42
    """
    from tokenctl.cli import db_views as views

    run.show(views.url(run.runtime.database.target.url))


def _psql(run: Run, more: PsqlOptions = None) -> None:
    """Open psql on the ledger's database.

    \b
    tokenctl db psql
    tokenctl db psql -- -c 'SELECT count(*) FROM token_accounts'
    tokenctl db psql -- --csv -f report.sql

    The tables are found without the name of their schema, tokenctl, unless psql gets -X.
    """
    database = run.runtime.database
    database.connect().close()  # starts the embedded server; tells what is wrong in our words
    run.becomes = database.target.psql(run.runtime.psql_programs, more or ())


def _migrate(run: Run, dry_run: options.DryRun = False, confirm: Confirm = None) -> None:
    """Bring the database's schema up to date; a second run does nothing.

    \b
    tokenctl db migrate --dry-run
    tokenctl db migrate
    tokenctl db migrate --profile prod --confirm prod

    On a profile that is protected its name must be typed, or given by --confirm.
    """
    from tokenctl.cli import db_views as views
    from tokenctl.storage import migrations

    if not dry_run:
        _demand_name(run, confirm)
    with run.runtime.maintenance() as connection:
        state = migrations.read_state(connection)
        state.demand_not_newer()
        steps = state.pending()
        if steps and not dry_run:
            _confirm(run, steps, confirm)
            steps = migrations.migrate(connection)
            run.output.committed = "the schema is up to date"
    if not steps:
        run.output.say("the schema is up to date", mark="✓")
    run.show(views.steps([(step.version, step.name) for step in steps]), dry_run=dry_run)


def _demand_name(run: Run, confirm: str | None) -> None:
    """Refuse, before anything is connected to, what nobody can confirm, and a name that is another profile's."""
    if run.settings.protected or confirm is not None:
        what = "protected" if run.settings.protected else "the profile that is used"
        run.output.require_name("--confirm", run.settings.profile, confirm, what=what)


def _confirm(run: Run, steps: Sequence[Step], confirm: str | None) -> None:
    if run.settings.protected and confirm is None:
        run.output.say(f"{run.settings.profile} · {run.runtime.database.target.where} · PROTECTED", alarm=True)
        changes = counted(len(steps), "change")
        run.output.say(f"{changes} of the schema: {', '.join(step.name for step in steps)}", mark=" ")
        run.output.confirm_name("profile's name", run.settings.profile)


def _version(connection: Connection) -> str:
    return f"PostgreSQL {connection.info.server_version // 10000}.{connection.info.server_version % 10000}"


def _only_embedded(run: Run, what: str) -> None:
    if run.settings.database.kind != "embedded":
        raise UsageError(
            f"db {what} is for the embedded server; {run.settings.database.origin} names another database",
            hint="its own administrator starts and stops it",
        )


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="db",
        cls=StrictGroup,
        help="The database, and the embedded server.",
        rich_markup_mode=None,
    )
    bodies = {
        "start": _start,
        "stop": _stop,
        "status": _status,
        "url": _url,
        "psql": _psql,
        "migrate": _migrate,
    }
    for name, body in bodies.items():
        command(group, name, formats=options.VALUED if name == "url" else None)(body)
    app.add_typer(group)
