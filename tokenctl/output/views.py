"""A result, before it is printed: one value that each format renders in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from tokenctl.output import text
from tokenctl.output.schemas import Schema

T = TypeVar("T")


@dataclass(frozen=True)
class Ago:
    """A time that people see as its distance from `now`, such as 3 d, or 20 min left; programs see the time."""

    when: datetime
    now: datetime


@dataclass(frozen=True)
class Named:
    """A name of which people are `told` more; programs see it alone."""

    name: str
    told: str


Cell = str | int | datetime | Ago | Named | None


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and whether it holds numbers.

    People see `signed` numbers with their sign. Where a table is too wide for the terminal
    the `optional` columns go first, from the right, and what they held is named; one that is
    `telling` goes only while nothing is in it. A cell that `wraps` goes over several lines before
    its column goes.
    """

    heading: str
    number: bool = False
    signed: bool = False
    optional: bool = False
    telling: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of raw cells; how a cell looks is decided by its type and the format.

    With `pairs` the table is one object: headings on the left, values on the right.
    With `bare` it is one text that people copy: no heading, never folded.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    pairs: bool = False
    bare: bool = False


@dataclass(frozen=True)
class Bars:
    """A distribution, drawn below the table on a terminal: a title, facts, and how many were in each range."""

    title: str
    facts: Sequence[str]
    rows: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class View(Generic[T]):
    """What a command answers: JSON data of a declared shape, and a table of it.

    JSON Lines has the `lines` instead where there are any, each an object with its schema;
    the last one ends with the meta. What is `kept` by whoever asked for it is printed with --quiet too.
    """

    schema: Schema[T]
    data: T
    table: Table
    value: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    bars: Sequence[Bars] = ()
    lines: Sequence[tuple[Schema[Any], Mapping[str, Any]]] = ()
    kept: bool = False


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A list that may be long: each row as JSON data and as cells, printed while they are read.

    Without a schema it is printed as a table, TSV or CSV only. `meta` is asked after the last
    row. The numbers under the heading `trend` are drawn as a line above the table on a
    terminal; the rows are the newest first.
    """

    schema: Schema[list[T]] | None
    columns: Sequence[Column]
    rows: Iterable[tuple[T, Sequence[Cell]]]
    meta: Callable[[], Mapping[str, Any]] = dict
    trend: str | None = None


def for_people(cell: Cell, *, signed: bool = False) -> str:
    """A cell on a terminal."""
    if cell is None or cell == "":
        return "─"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:+,}" if signed else text.count(cell)
    if isinstance(cell, Ago):
        return text.distance(cell.when, cell.now)
    if isinstance(cell, Named):
        return text.clean(cell.told)
    return text.moment(cell) if isinstance(cell, datetime) else text.clean(cell)


def for_programs(cell: Cell) -> str:
    """A cell of a TSV line: never a tab, never a newline, never cut."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, Ago):
        return text.rfc3339(cell.when)
    if isinstance(cell, Named):
        return text.clean(cell.name)
    return text.rfc3339(cell) if isinstance(cell, datetime) else text.clean(cell)


def json_ready(value: Any) -> Any:
    """The value with times as RFC 3339 text, for the JSON encoder."""
    if isinstance(value, datetime):
        return text.rfc3339(value)
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value
