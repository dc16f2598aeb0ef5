"""`tokenctl health`: whether everything that commands need is there and well."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli.command import command
from tokenctl.cli.options import reads
from tokenctl.errors import TokenctlError, UsageError, exit_code

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.output import Output
    from tokenctl.services.health import Sources
    from tokenctl.services.health_report import HealthReport, Limits, Range

FORMATS = ("table", "tsv", "json", "jsonl", "value", "text", "nagios")
# Those that a person may read, beside whom stderr sums up.
_PRINTED = ("table", "tsv", "text")


Warn = Annotated[
    list[str] | None,
    typer.Option("--warn", metavar="NAME=RANGE", help="Warn when a number leaves this range; may be repeated."),
]
Crit = Annotated[list[str] | None, typer.Option("--crit", metavar="NAME=RANGE", help="The same, and critical.")]


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
    warn: Warn = None,
    crit: Crit = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="SECONDS", parser=reads("seconds"), help="Look again until all is ok."),
    ] = None,
) -> None:
    """Check whether all that commands need is well: database, schema, breakers, files, keys, jobs.

    \b
    tokenctl health
    tokenctl health --deep --metrics
    tokenctl health --check database,schema --wait 60 && start-the-service
    tokenctl health --format nagios --warn db_latency=0.05 --crit state_free=1000000000:

    The checks are database, schema, breakers, cache, state, keys and jobs; --deep adds
    durability, triggers, functions and privileges. In the configuration health.import_max_age_s
    (seconds) says how often an import must finish, and health.expect_keys = true that Gemini
    keys must be there; else neither is missed.

    --warn and --crit take names that --metrics shows, in seconds and bytes, and ranges as Monitoring
    Plugins write them: 10 is 0 to 10, 10: at least 10, ~:10 at most 10, 5:10, and @5:10 all but that.
    They take the place of the limits that a number has of its own.

    Ends with 0 when all is ok, 1 for a warning, 2 for something critical, 3 when it cannot be
    told: then the command line is wrong, or --timeout was too short. Each check has 3 seconds.
    """
    from tokenctl.cli import health_views as views
    from tokenctl.services import health

    names = set(health.BASIC if check is None else health.named(check)) | set(health.DEEP if deep else ())
    timeout_s = run.settings.timeout_s
    until = None if timeout_s is None else run.runtime.operation.started + timeout_s
    sources, limits = _sources(run), _limits(warn, crit, names)

    def look() -> HealthReport:
        return health.look(names, sources, limits=limits, until=until)

    def tell(found: HealthReport) -> None:
        run.output.say(f"waiting up to {wait:g} s: {views.troubles(found)}")

    found = look() if wait is None else health.wait(look, wait, until=until, tell=tell)
    failure = views.failure(found)
    if run.output.form == "nagios":
        run.output.text(views.nagios(found))
    elif failure or run.settings.format or not run.settings.quiet:
        run.show(views.report(found, metrics=metrics, indent="" if run.output.form == "tsv" else "  "))
    if failure:
        raise failure
    if run.output.form in _PRINTED:
        run.output.say(views.all_well(found), mark="✓")


def _limits(warn: list[str] | None, crit: list[str] | None, names: Collection[str]) -> Limits:
    """The ranges of --warn and --crit; raises UsageError."""
    from tokenctl.cli import forms
    from tokenctl.services import health
    from tokenctl.services.health_report import Limits

    read: list[dict[str, Range]] = []
    for option, given in (("--warn", warn), ("--crit", crit)):
        try:
            read.append(health.limits_named(map(forms.named_range, given or ()), names))
        except ValueError as error:
            raise UsageError(
                f"{option}: {error}", hint="for example db_latency=0.05 or state_free=1000000000:"
            ) from error
    return Limits(*read)


def _sources(run: Run) -> Sources:
    from tokenctl.services.health import Sources

    runtime = run.runtime
    return Sources(
        settings=run.settings,
        breaker=runtime.database_breaker,
        database=lambda: runtime.database,
        embedded=lambda: runtime.embedded,
        breakers=lambda: runtime.breakers,
    )


def ended(output: Output, error: TokenctlError, *, request_id: str | None) -> None:
    """Tell how a run of `health` failed: by its report, or by what kept the checks from being made."""
    from tokenctl.cli import health_views as views

    if views.was_printed(error):
        if output.form in _PRINTED:
            output.error(error)
    elif output.form == "nagios":
        with contextlib.suppress(TokenctlError):  # nobody reads it
            output.text(views.nagios_failure(error))
    else:
        output.error(error, request_id=request_id, exit_code=exit_code("health", error))


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "health", formats=FORMATS)(_health)
