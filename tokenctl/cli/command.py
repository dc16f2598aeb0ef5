"""How a command is made: its own options and the shared ones, and one strict parser."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from tokenctl import __version__
from tokenctl.cli.options import COMMON, form
from tokenctl.cli.values import read_lightly
from tokenctl.errors import UsageError

if TYPE_CHECKING:
    from tokenctl.output import Output


class Interrupted(BaseException):
    """Ctrl-C came: typer would end the process on its own, before anything is told."""


@dataclass
class State:
    """What `main` needs when a command has failed: how to print, and the request's id."""

    environ: dict[str, str]
    output: Output | None = None
    request_id: str | None = None
    debug: bool = False


def print_text(text: str) -> None:
    """Print help or the version; what cannot be written is told as of every result."""
    try:
        typer.echo(text)
    except OSError:
        from tokenctl.output import Output  # it costs more than the help does

        Output().text(text + "\n")


class StrictCommand(TyperCommand):
    """A command that refuses an option given twice and an empty argument.

    `ctx` is of a class that typer keeps to itself.

    Typer keeps the last of two and takes '' for a value; with money either is a
    mistake that must not pass.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and refuse what is ambiguous."""
        for param in self.get_params(ctx):
            read_lightly(param)
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        if values.get("help"):  # as the parser sees it: a note may well be "-h"
            print_text(ctx.get_help())
            raise typer.Exit
        given = Counter(p.opts[0] for p in order if p.param_type_name == "option" and not p.multiple)
        for name, times in given.items():
            if times > 1:
                raise UsageError(f"{name} is given twice", hint="which one is meant?")
        empty = [param for param in order if _holds_empty(values[param.name])]
        if empty or "" in args:
            raise UsageError(f"{_told(empty[0]) if empty else 'an argument'}: is empty (an unset variable?)")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the first line says: [OPTIONS] and the arguments, without typer's braces around each."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(_name(one) if one.required else f"[{_name(one)}]" for one in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, the command's own options, and below them those that every command has."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Options of every command": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                sections["Arguments"].append((_name(param), record[1]))
            else:
                sections["Options of every command" if param.name in (*COMMON, "help") else "Options"].append(record)
        _write(formatter, sections)


class StrictGroup(TyperGroup):
    """A group whose commands stand in the order in which they were added; alone it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command's name."""
        for param in self.get_params(ctx):
            read_lightly(param)
        if not args:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(UsageError.exit_code)
        values, _, _ = self.make_parser(ctx).parse_args(list(args))
        if values.get("help") or values.get("version"):  # typer would ask for a command first
            print_text(ctx.get_help() if values.get("help") else f"tokenctl {__version__}")
            raise typer.Exit
        return super().parse_args(ctx, args)

    def list_commands(self, _ctx: Any) -> list[str]:
        """The commands as `--help` lists them."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands in the sections that they were put into, each in a few words."""
        sections: dict[str, list[tuple[str, str]]] = {}
        room = formatter.width - 6 - max(map(len, self.commands))
        for name in self.list_commands(ctx):
            one = self.commands[name]
            section = getattr(one, "rich_help_panel", None) or "Commands"
            sections.setdefault(section, []).append((name, one.short_help or _beginning(one, room)))
        _write(formatter, sections)


def _told(param: Any) -> str:
    return str(param.opts[0]) if param.param_type_name == "option" else _name(param).strip("{}")


def _holds_empty(value: Any) -> bool:
    return "" in value if isinstance(value, list | tuple) else value == ""


def _name(argument: Any) -> str:
    """An argument as the usage and its own line call it: USER…, FILE."""
    name = argument.metavar or argument.name.upper()
    return f"{{{name}}}" if " | " in name else name


def _beginning(command: Any, room: int) -> str:
    """The first sentence of a command's help, up to a colon where all of it does not fit."""
    sentence = " ".join((command.help or "").split("\n\n")[0].split())
    if len(sentence) > room:
        sentence = re.split("[:;]", sentence)[0]
    return sentence.rstrip(".")


def _write(formatter: Any, sections: Mapping[str, list[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


Body = Callable[..., None]


def command(
    app: typer.Typer, name: str, *, formats: tuple[str, ...] | None = None, piped: str | None = None
) -> Callable[[Body], Body]:
    """Make `body(run, …)` a command of `app`; its docstring is its help, examples first.

    `formats` is for one that prints others than the rest, a single value too: the first on a terminal,
    `piped` or else the second elsewhere.
    In logs and metrics the command of a group is called by both names, `db status`.
    """
    group = app.info.name
    operation = f"{group} {name}" if isinstance(group, str) and group != "tokenctl" else name
    options = COMMON if formats is None else {**COMMON, "form": form(formats, piped or formats[1])}

    def decorate(body: Body) -> Body:
        def entry(ctx: typer.Context, **values: Any) -> None:
            common = {key: values.pop(key) for key in COMMON}
            from tokenctl.cli.run import run  # not for --help

            try:
                run(ctx.obj, operation, body, common, values, formats, piped)
            except KeyboardInterrupt:
                raise Interrupted from None

        hints = get_type_hints(body, localns={"Run": Any}, include_extras=True)
        own = list(inspect.signature(body).parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for key, (annotation, default) in options.items()
        ]
        ours = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        entry.__signature__ = inspect.Signature([context, *ours, *shared])  # type: ignore[attr-defined]  # typer reads it
        entry.__annotations__ = {}
        entry.formats = formats  # type: ignore[attr-defined]  # shell completion offers them
        entry.__doc__ = body.__doc__
        app.command(name, cls=StrictCommand)(entry)
        return body

    return decorate
