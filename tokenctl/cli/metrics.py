"""`tokenctl metrics`: what the commands of this user have counted and timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import ConfigError, NoInput, UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.telemetry.pushgateway import Gateway
    from tokenctl.telemetry.series import Series

FORMATS = ("table", "prometheus", "json", "openmetrics")
_PUSH_S = 10.0

Textfile = Annotated[
    str | None,
    typer.Option("--textfile", metavar="PATH", help="Replace this file; node_exporter reads *.prom."),
]
Push = Annotated[str | None, typer.Option("--push", metavar="URL", help="Push to this Pushgateway; needs --job.")]
Job = Annotated[
    str | None,
    typer.Option("--job", metavar="NAME", parser=options.reads("job"), help="The job to push as."),
]


def _metrics(run: Run, textfile: Textfile = None, push: Push = None, job: Job = None) -> None:
    """Show what was counted and timed: on a terminal for you, elsewhere for Prometheus.

    \b
    tokenctl metrics
    tokenctl metrics | promtool check metrics
    * * * * *  tokenctl metrics --textfile /var/lib/prometheus/node-exporter/tokenctl.prom
    tokenctl metrics --push http://127.0.0.1:9091 --job tokenctl

    Every command adds its numbers to a file of the user who runs it. No database is asked.
    Percentiles are estimated from the ranges, and told of 20 observations or more.
    """
    gateway = _gateway(push, job)
    if (textfile or gateway) and run.settings.origins["format"] == "flag":
        raise UsageError("--textfile and --push have one format; --format is for what is printed")
    series = _series(run)
    if textfile is not None or gateway is not None:
        _deliver(run, series, textfile, gateway, job or "")
    elif run.output.form in ("prometheus", "openmetrics"):
        from tokenctl.telemetry import exposition

        write = exposition.prometheus if run.output.form == "prometheus" else exposition.openmetrics
        run.output.text(write(series))
    else:
        from tokenctl.cli import metric_views

        run.show(metric_views.view(series))


def _gateway(url: str | None, job: str | None) -> Gateway | None:
    if url is None and job is None:
        return None
    if url is None or job is None:
        raise UsageError("--push and --job belong together", hint="--push http://127.0.0.1:9091 --job tokenctl")
    from tokenctl.telemetry import pushgateway

    try:
        return pushgateway.gateway(url)
    except ValueError as error:  # which does not repeat the URL: there may be a password in it
        raise UsageError(f"--push: {error}") from error


def _series(run: Run) -> list[Series]:
    from tokenctl import __version__
    from tokenctl.statefile import StateUnusable
    from tokenctl.telemetry.series import with_present

    try:
        stored = run.runtime.metrics.stored()
    except StateUnusable as error:
        raise NoInput(f"what was counted cannot be read: {error}", hint="a damaged file is begun anew") from error
    return with_present(stored, version=__version__, breakers=_breakers(run))


def _breakers(run: Run) -> list[tuple[str, str]]:
    """Name and state of each breaker. Without their file all other numbers are still worth having."""
    try:
        return [(breaker.name, breaker.state) for breaker in run.runtime.breakers.states()]
    except ConfigError as error:
        run.output.warn(f"breakers are left out: {error.detail}")
        return []


def _deliver(run: Run, series: list[Series], textfile: str | None, gateway: Gateway | None, job: str) -> None:
    from pathlib import Path

    from tokenctl.telemetry import exposition, pushgateway
    from tokenctl.telemetry import textfile as file

    if textfile is not None:
        file.write(Path(textfile), exposition.prometheus(series))
    if gateway is not None:
        pushgateway.push(gateway, job, exposition.pushed(series), timeout_s=run.settings.timeout_s or _PUSH_S)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "metrics", formats=FORMATS)(_metrics)
