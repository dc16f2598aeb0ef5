"""One run of one command: its settings, its operation, what it may use and how it prints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from tokenctl import commandline, operation
from tokenctl.cli.command import State
from tokenctl.errors import UsageError
from tokenctl.output import Listing, Meta, Output, View
from tokenctl.runtime import Runtime
from tokenctl.settings import FORMATS, Flags, Settings, load


@dataclass
class Run:
    """One run of one command, as its body sees it."""

    settings: Settings
    runtime: Runtime
    output: Output
    warnings: list[str] = field(default_factory=list)
    #: What this run was about, by the names of commands' arguments; shell completion may remember it.
    about: dict[str, Any] = field(default_factory=dict)
    #: What this process becomes once the run is closed and recorded.
    becomes: Callable[[], NoReturn] | None = None

    def show(self, view: View[Any], **meta: Any) -> None:
        """Print a result; `meta` joins what every JSON document says about the run."""
        self.output.result(replace(view, meta={**self._meta(), **view.meta, **meta}))

    def show_list(self, listing: Listing[Any]) -> None:
        """Print a list while its rows are read."""
        self.output.listing(replace(listing, meta=lambda: {**self._meta(), **listing.meta()}))

    def _meta(self) -> Meta:
        return {
            "request_id": self.runtime.operation.request_id,
            "profile": self.settings.profile,
            "at": datetime.now(UTC),
            "took_ms": self.runtime.operation.took_ms,
            "dry_run": False,
            "replayed": False,
            "warnings": self.warnings,
        }

    def banner(self) -> None:
        """Name the ledger that is about to be changed, and who the database takes us for."""
        mark = " · PROTECTED" if self.settings.protected else ""
        where = "embedded" if self.settings.database.kind == "embedded" else self.runtime.database.target.where
        line = f"{self.settings.profile} · {where} · operator {self.runtime.ledger.operator()}{mark}"
        self.output.say(line, alarm=self.settings.protected)


def run(
    state: State,
    name: str,
    body: Callable[..., None],
    common: dict[str, Any],
    values: dict[str, Any],
    formats: tuple[str, ...] | None = None,
    piped: str | None = None,
) -> None:
    """Settle the settings, then run the body inside its operation; whatever happens, close."""
    flags = Flags(
        config=common["config"],
        profile=common["profile"],
        timeout_s=common["timeout"],
        request_id=common["request_id"],
        format=_format(common),
        quiet=common["quiet"],
        no_input=common["no_input"],
        no_color=common["no_color"],
        verbose=common["verbose"],
        ignore_breaker=common["ignore_breaker"],
        formats=formats or FORMATS,
    )
    settings = load(state.environ, flags)
    output = state.output = Output.of(settings, shown=flags.formats[0], piped=piped or flags.formats[1])
    runtime = Runtime(settings, operation.begin(name, settings))
    state.request_id = runtime.operation.request_id
    one = Run(settings, runtime, output)
    with _commands_for(settings):
        _run(one, body, values, fail=bool(state.environ.get("TOKENCTL_TEST_RAISE")))
    if one.becomes is not None:
        one.becomes()


def _commands_for(settings: Settings) -> AbstractContextManager[None]:
    """Have the commands that are printed name the ledger that was chosen for this run, and reasons that it takes."""
    by = settings.origins["profile"]  # an address in a variable beats a profile in one
    profile = settings.profile if by in ("flag", "env:TOKENCTL_PROFILE") else None
    return commandline.choosing(profile=profile, config=settings.chosen_config, reasons=settings.reasons)


def _run(run: Run, body: Callable[..., None], values: dict[str, Any], *, fail: bool) -> None:
    settings, subject = run.settings, values.get("user")
    with operation.running(
        run.runtime, settings, subject=subject if isinstance(subject, str) else None, warn=run.output.warn
    ):
        if fail:  # how the tests see an unexpected failure
            raise RuntimeError("raised for a test")
        try:
            body(run, **values)
            run.about |= values
        finally:
            if settings.remember_ids:
                from tokenctl.cli import recent

                recent.remember(settings.state_dir, recent.named(run.about))


def _format(common: dict[str, Any]) -> str | None:
    if common["json_"] and common["form"] not in (None, "json"):
        raise UsageError(f"--json and --format {common['form']} contradict each other")
    return "json" if common["json_"] else common["form"]
