"""`tokenctl health`: whether everything that commands need is there and well."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli.command import command
from tokenctl.cli.options import reads
from tokenctl.errors import HealthUnknown, TokenctlError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.models import HealthReport
    from tokenctl.output import Output
    from tokenctl.services.health import Sources

FORMATS = ("table", "tsv", "json", "jsonl", "value", "text", "nagios")
# Those that a person may read, beside whom stderr sums up.
_PRINTED = ("table", "tsv", "text")


def _known(text: str) -> str:
    from tokenctl.services import health

    try:
        health.named(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _health(
    run: Run,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="NAME[,NAME]", parser=_known, help="Only these checks."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also durability, append-only triggers, functions and privileges.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Show what was measured, too; JSON and nagios always do.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="SECONDS", parser=reads("seconds"), help="Look again until all is ok."),
    ] = None,
) -> None:
    """Check database, schema, breakers, files, keys and jobs, side by side.

    \b
    tokenctl health
    tokenctl health --deep --metrics
    tokenctl health --check database,schema --wait 60 && start-the-service
    tokenctl health --format nagios

    The checks are database, schema, breakers, cache, state, keys and jobs; --deep adds
    durability, triggers, functions and privileges. In the configuration health.import_max_age_s
    (seconds) says how often an import must finish, and health.expect_keys = true that Gemini
    keys must be there; else neither is missed.

    Ends with 0 when all is ok, 1 for a warning, 2 for something critical, 3 when it cannot be
    told: then the command line is wrong, or --timeout was too short. Each check has 3 seconds.
    """
    from tokenctl.cli import health_views as views
    from tokenctl.services import health

    names = set(health.BASIC if check is None else health.named(check)) | set(health.DEEP if deep else ())
    timeout_s = run.settings.timeout_s
    until = None if timeout_s is None else run.runtime.operation.started + timeout_s
    sources = _sources(run)

    def look() -> HealthReport:
        return health.look(names, sources, until=until)

    def tell(found: HealthReport) -> None:
        run.output.say(f"waiting up to {wait:g} s: {views.troubles(found)}")

    found = look() if wait is None else health.wait(look, wait, until=until, tell=tell)
    failure = views.failure(found)
    if run.output.form == "nagios":
        run.output.text(views.nagios(found))
    elif failure or run.settings.format or not run.settings.quiet:
        run.show(views.report(found, metrics=metrics))
    if failure:
        raise failure
    if run.output.form in _PRINTED:
        run.output.say(views.all_well(found), mark="✓")


def _sources(run: Run) -> Sources:
    from tokenctl.services.health import Sources

    runtime = run.runtime
    return Sources(
        settings=run.settings,
        database=lambda: runtime.database,
        embedded=lambda: runtime.embedded,
        breakers=lambda: runtime.breakers,
    )


def ended(output: Output, error: TokenctlError, *, request_id: str | None) -> int:
    """Tell how a run of `health` failed, and answer its exit code as monitoring systems read it.

    What kept the checks from being made, a wrong command line included, is 3, unknown.
    """
    from tokenctl.cli import health_views as views

    if views.was_printed(error):
        if output.form in _PRINTED:
            output.error(error)
        return error.exit_code
    if output.form == "nagios":
        with contextlib.suppress(TokenctlError):  # nobody reads it
            output.text(views.nagios_failure(error))
    else:
        output.error(error, request_id=request_id, exit_code=HealthUnknown.exit_code)
    return HealthUnknown.exit_code


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "health", formats=FORMATS)(_health)
