"""What a grant file looks like: CSV or JSON Lines, where its rows begin, its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tokenctl.errors import BadData
from tokenctl.grantfile.copytext import COPY_COLUMNS, OPTIONAL_COLUMNS
from tokenctl.grantfile.encoding import decode, refuse_foreign
from tokenctl.grantfile.fields import FIELDS, IGNORED, canonical
from tokenctl.grantfile.header import keys_beside_campaign, read_header
from tokenctl.grantfile.objects import members
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.source import Lines, Source

_BOM = b"\xef\xbb\xbf"
_MEMBER = re.compile(r'"([a-z_]+)": ?')


@dataclass(frozen=True)
class Shape:
    """The facts that rows are read with.

    `delimiter` is "" for JSON Lines. `header` has the names as they are written, in the
    file's order (for JSON Lines the order of the first object, then what it lacks).
    `columns` are those of a reject file. The first row, if any, begins at byte `body` in
    line `line`.
    """

    delimiter: str
    header: tuple[str, ...]
    columns: tuple[str, ...]
    body: int
    line: int

    @property
    def is_csv(self) -> bool:
        """Whether the file is CSV; else it is JSON Lines."""
        return bool(self.delimiter)

    @property
    def copied(self) -> tuple[str, ...]:
        """The columns that are copied to the database: not those that would be the same in every row."""
        names = {canonical(name) for name in self.header}
        return tuple(name for name in COPY_COLUMNS if name in names or name not in OPTIONAL_COLUMNS)

    def cells(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Arrange values, given by column, as the cells of a reject file."""
        return tuple(values.get(canonical(name), "") for name in self.columns)


class _Start(NamedTuple):
    """The first line that isn't blank: its text, its number, and the offsets where it begins and ends."""

    text: str
    line: int
    begin: int
    end: int


def describe(source: Source, options: CheckOptions) -> Shape:
    """Look at the beginning of a file.

    Raises BadData for a file that is empty, no UTF-8 text or has a wrong header, and
    UsageError when its columns contradict the options.
    """
    refuse_foreign(next(source.pieces(), b""), source.name)
    start = _first_line(source)
    looks_like_json = start.text.lstrip(" \t").startswith(("{", "["))
    if options.format == "jsonl" or (options.format is None and looks_like_json):
        return _json_lines(start, options, source.name)
    delimiter, header = read_header(start.text, f"{source.name}:{start.line}", options)
    columns = tuple(name for name in header if name != IGNORED)
    return Shape(delimiter, header, columns, start.end, start.line + 1)


def _first_line(source: Source) -> _Start:
    for lines in source.lines():
        skipped = len(_BOM) if lines.offset == 0 and lines.data.startswith(_BOM) else 0
        content = lines.data[skipped:].lstrip(b" \t\r\n")
        if not content:
            continue
        first = len(lines.data) - len(content)
        begin = max(skipped, lines.data.rfind(b"\n", 0, first) + 1)
        end = lines.data.index(b"\n", first) + 1
        number = lines.first + lines.data.count(b"\n", 0, begin)
        text = decode(Lines(number, lines.offset + begin, lines.data[begin:end]), source.name)
        return _Start(text, number, lines.offset + begin, lines.offset + end)
    raise BadData(f"{source.name}: is empty", hint="a file without grants has at least a header")


def _json_lines(start: _Start, options: CheckOptions, name: str) -> Shape:
    text, place = start.text.strip(), f"{name}:{start.line}"
    if text.startswith("["):
        raise BadData(f"{place}: is a JSON array, not JSON Lines", hint=f"one object a line: jq -c '.[]' {name}")
    if not text.startswith("{"):
        raise BadData(f"{place}: is not JSON Lines: a line is an object {{…}}", hint="is it CSV? Then --format-in csv")
    if text == "{" or text.endswith(","):
        raise BadData(f"{place}: an object runs over several lines", hint=f"one object a line: jq -c . {name}")
    if options.campaign and members(text).values.get("idempotency_key") not in (None, ""):
        raise keys_beside_campaign(place)  # as of a header that has them, and not for every row
    columns = tuple(field for field in FIELDS if not (options.campaign and field == "idempotency_key"))
    return Shape("", _expected_members(text, columns), columns, start.begin, start.line)


def _expected_members(text: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The members of the first object in their order, then the other columns.

    Only a guess, by which most rows are judged quickly; a row that differs is read exactly.
    """
    seen: dict[str, str] = {}
    for name in _MEMBER.findall(text):
        if canonical(name) in columns:
            seen.setdefault(canonical(name), name)
    return (*seen.values(), *(column for column in columns if column not in seen))
