"""How values of the command line are read without pydantic, whose import costs more than all else of a start.

Typer builds a pydantic adapter for every parameter that is not a flag. Ours are texts, lists of them,
choices, and what a parser of ours reads: that needs no schema. Anything else is left to typer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin


class Reader:
    """Reads the values of one parameter; takes the place of typer's adapter."""

    def __init__(self, read: Callable[[Any], Any], otherwise: Callable[[], Any]) -> None:
        """`read` answers the value or raises LookupError; `otherwise` makes typer's own, which says what is wrong."""
        self._read = read
        self._otherwise = otherwise

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command takes it; a parser's typer.BadParameter passes through."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        try:
            return [self._read(one) for one in value] if many else self._read(value)
        except LookupError:
            return self._otherwise().coerce(value, param, ctx)


def read_lightly(param: Any) -> None:
    """Have `param` read by us where we can; a second call does nothing."""
    if "get_runtime_param" in vars(param):
        return
    described = param.type_descriptor
    annotation, read = described.annotation, described.parameter_info.parser
    if get_origin(annotation) is list:
        [annotation] = get_args(annotation)
    if read is None and annotation is str:
        read = str
    elif read is None and (annotation is bool or get_origin(annotation) is Literal):
        choices = get_args(annotation) or (True, False)
        read = dict(zip(choices, choices, strict=True)).__getitem__
    if read is not None:
        reader = Reader(read, param.get_runtime_param)
        param.get_runtime_param = lambda: reader
