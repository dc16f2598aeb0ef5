"""The command line as plain values: commands, options, arguments, and what each takes.

Read from what typer built of the app, so that it says what the parser does.
"""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import typer.main

from tokenctl.cli import schema_views, topics
from tokenctl.cli.app import assemble
from tokenctl.cli.batches import ListingGroup
from tokenctl.clients.generation import ASPECT_RATIOS, QUALITIES
from tokenctl.services import health
from tokenctl.settings import FORMATS

# Of a class that typer keeps to itself.
_ROOT: Any = typer.main.get_command(assemble())

#: Characters that a list of commands has room for, in 80 columns.
_BRIEF = 60

Kind = Literal["text", "choice", "list", "file", "user", "batch", "transaction"]

#: A value that is a path is called so, whatever takes it.
_FILES = frozenset({"FILE", "FILE | -", "PATH", "DIR"})
#: Values that are told from the judge that reads them (`options.reads`).
_JUDGES: dict[str, Kind] = {"USER_ID": "user", "BATCH": "batch", "TRANSACTION": "transaction"}
#: Those that are judged elsewhere, by what help calls them.
_NAMES: dict[str, Kind] = {"USER… | -": "user"}
#: Values that the commands judge themselves, by the command and its parameter's name.
_WORDS: dict[tuple[str, str], tuple[Kind, tuple[str, ...]]] = {
    ("health", "check"): ("list", (*health.BASIC, *health.DEEP)),
    ("generate", "quality"): ("choice", QUALITIES),
    ("generate", "aspect_ratio"): ("choice", ASPECT_RATIOS),
    ("help", "words"): ("choice", (*topics.TOPICS, *_ROOT.commands)),
    ("schema", "name"): ("choice", tuple(schema_views.short(full) for full in schema_views.published())),
}


@dataclass(frozen=True)
class Value:
    """What stands after an option, or as an argument: its name in help, its kind, and its words when they are known."""

    name: str
    kind: Kind = "text"
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option; one without a value is a flag, and one with `many` may be given again.

    Commands may differ in the default of what is otherwise the same option.
    """

    names: tuple[str, ...]
    help: str
    value: Value | None = None
    many: bool = False
    required: bool = False
    default: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Argument:
    """A positional argument; `many` takes all that follow."""

    value: Value
    help: str
    many: bool = False
    required: bool = True


@dataclass(frozen=True)
class Command:
    """A command or a group of them; `path` is what stands after `tokenctl`.

    `default` is the command that a group means when none is named.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...] = ()
    commands: tuple[Command, ...] = ()
    default: str | None = None

    @property
    def name(self) -> str:
        """All of the name, without `tokenctl`."""
        return " ".join(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of the help, without its full stop."""
        return " ".join(self.help.split("\n\n", 1)[0].split()).rstrip(".")

    @property
    def brief(self) -> str:
        """The summary as it fits beside the name in a list: to its first colon, semicolon or comma where it is long."""
        return self.summary if len(self.summary) <= _BRIEF else re.split("[:;,]", self.summary, maxsplit=1)[0]

    def all(self) -> list[Command]:
        """The command itself and all below it, in the order of the help."""
        return [self, *(found for child in self.commands for found in child.all())]


def surface() -> Command:
    """The whole command line."""
    return _command(_ROOT, ())


HELP = Option(("-h", "--help"), "Show this message and exit.")


def _command(built: Any, path: tuple[str, ...]) -> Command:
    formats = getattr(built.callback, "formats", None) or FORMATS
    name = " ".join(path)
    options = [_option(param, name, formats) for param in built.params if param.param_type_name == "option"]
    children = [_command(child, (*path, name)) for name, child in getattr(built, "commands", {}).items()]
    default = "list" if isinstance(built, ListingGroup) else None
    options += [option for child in children if child.path[-1] == default for option in child.options[:-1]]
    return Command(
        path,
        inspect.cleandoc(built.help or ""),
        (*options, HELP),
        tuple(_argument(param, name) for param in built.params if param.param_type_name == "argument"),
        tuple(children),
        default,
    )


def _option(param: Any, command: str, formats: tuple[str, ...]) -> Option:
    names = tuple(sorted(param.opts, key=len))  # the short one first, as help has it
    value = None if param.is_flag else _value(param, command)
    if value and names == ("--format",):  # judged by the settings and not by typer, so typer has no words for it
        value = replace(value, kind="choice", words=formats)
    default = str(param.default) if value and param.show_default and param.default is not None else None
    return Option(names, param.help or "", value, bool(param.multiple), bool(param.required), default)


def _argument(param: Any, command: str) -> Argument:
    value = _value(param, command)
    return Argument(value, param.help or "", many=param.nargs != 1, required=param.required)


def _value(param: Any, command: str) -> Value:
    """What a parameter takes; typer's own description of it says which words it may be."""
    described = param.type_descriptor
    literal = [one for one in (described.annotation, *typing.get_args(described.annotation)) if _is_literal(one)]
    if literal:
        return Value(param.metavar or param.name.upper(), "choice", typing.get_args(literal[0]))
    name = param.metavar or param.name.upper()
    if (command, param.name) in _WORDS:
        return Value(name, *_WORDS[command, param.name])
    judge = getattr(described.parameter_info.parser, "__name__", "")
    kind: Kind = "file" if name in _FILES else _JUDGES.get(judge, _NAMES.get(name, "text"))
    return Value(name, kind)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal


def value_options(root: Command) -> frozenset[str]:
    """The options that take a value, the same ones everywhere.

    Raises ValueError when one name takes a value here and none there: completions that find the command
    among the words could not tell what is a value.
    """
    takes = {name for c in root.all() for option in c.options if option.value for name in option.names}
    flags = {name for c in root.all() for option in c.options if not option.value for name in option.names}
    if both := takes & flags:
        raise ValueError(f"with a value in one command and without in another: {sorted(both)}")
    return frozenset(takes)


def by_option(root: Command) -> dict[Option, list[Command]]:
    """Each option once, with all commands that take just this one."""
    found: dict[Option, list[Command]] = {}
    for command in root.all():
        for option in command.options:
            found.setdefault(replace(option, help=option.help.rstrip(".")), []).append(command)
    return found
