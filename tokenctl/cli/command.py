"""How a command is made: its own options and the shared ones, one strict parser, one `Run`."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tokenctl import operation
from tokenctl.cli.options import COMMON
from tokenctl.errors import UsageError
from tokenctl.output import Output, View
from tokenctl.runtime import Runtime
from tokenctl.settings import Flags, Settings, load


@dataclass
class State:
    """What `main` needs when a command has failed: how to print, and the request's id."""

    environ: dict[str, str]
    output: Output
    request_id: str | None = None
    debug: bool = False


@dataclass
class Run:
    """One run of one command, as its body sees it."""

    settings: Settings
    operation: operation.Operation
    runtime: Runtime
    output: Output
    warnings: list[str] = field(default_factory=list)

    def show(self, view: View, **meta: Any) -> None:
        """Print a result; `meta` joins what every JSON document says about the run."""
        common = {
            "request_id": self.operation.request_id,
            "profile": self.settings.profile,
            "took_ms": self.operation.took_ms,
            "dry_run": False,
            "replayed": False,
            "warnings": self.warnings,
        }
        self.output.result(View(view.schema, view.data, view.table, view.value, {**common, **view.meta, **meta}))

    def banner(self) -> None:
        """Name the ledger that is about to be changed, and who the database takes us for."""
        mark = " · PROTECTED" if self.settings.protected else ""
        where = self.runtime.database.where
        self.output.say(f"{self.settings.profile} · {where} · operator {self.runtime.ledger.operator()}{mark}")


class StrictCommand(TyperCommand):
    """A command that refuses an option given twice and an empty argument.

    `ctx` is of a class that typer keeps to itself.

    Typer keeps the last of two and takes '' for a value; with money either is a
    mistake that must not pass.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and refuse what is ambiguous."""
        if "--help" not in args and "-h" not in args:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            given = Counter(p.opts[0] for p in order if p.param_type_name == "option")
            for name, times in given.items():
                if times > 1:
                    raise UsageError(f"{name} is given twice", hint="which one is meant?")
            if "" in args:
                raise UsageError("an argument is empty (an unset variable?)")
        return super().parse_args(ctx, args)


class StrictGroup(TyperGroup):
    """The root: commands in the order in which they were added."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """The commands as `--help` lists them."""
        return list(self.commands)


Body = Callable[..., None]


def command(app: typer.Typer, name: str) -> Callable[[Body], Body]:
    """Make `body(run, …)` a command of `app`; its docstring is its help, examples first."""

    def decorate(body: Body) -> Body:
        def entry(ctx: typer.Context, **values: Any) -> None:
            common = {key: values.pop(key) for key in COMMON}
            _run(ctx.obj, name, body, common, values)

        own = inspect.signature(body, eval_str=True).parameters
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for key, (annotation, default) in COMMON.items()
        ]
        ours = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(own.values())[1:]]
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        entry.__signature__ = inspect.Signature([context, *ours, *shared])  # type: ignore[attr-defined]  # typer reads it
        entry.__annotations__ = {}
        entry.__doc__ = body.__doc__
        app.command(name, cls=StrictCommand)(entry)
        return body

    return decorate


def _run(state: State, name: str, body: Body, common: dict[str, Any], values: dict[str, Any]) -> None:
    flags = Flags(
        config=common["config"],
        profile=common["profile"],
        timeout_s=common["timeout"],
        request_id=common["request_id"],
        format=_format(common),
        quiet=common["quiet"],
        no_input=common["no_input"],
        no_color=common["no_color"],
    )
    settings = load(state.environ, flags)
    state.output = Output.of(settings)
    with operation.running(name, settings) as running:
        state.request_id = running.request_id
        if state.environ.get("TOKENCTL_TEST_RAISE"):  # how the tests see an unexpected failure
            raise RuntimeError("raised for a test")
        runtime = Runtime(settings, running)
        try:
            body(Run(settings, running, runtime, state.output), **values)
        finally:
            runtime.close()


def _format(common: dict[str, Any]) -> str | None:
    if common["json_"] and common["form"] not in (None, "json"):
        raise UsageError(f"--json and --format {common['form']} contradict each other")
    return "json" if common["json_"] else common["form"]
