"""Splitting CSV into cells as RFC 4180 says, strictly, and telling where a quote went wrong.

The csv module takes quotes in the middle of a cell for text and lets one that is
never closed swallow the rest of a file, so the grammar is written out here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTED = r'"[^"]*+(?:""[^"]*+)*"(?!")'
_CLOSED = re.compile(_QUOTED)
_ODD = re.compile(r'["\r]')


class Record(NamedTuple):
    """One row: its cells, where the next one begins, and what is wrong with its quotes ("" for nothing).

    With a `problem` the only cell is the whole line.
    """

    cells: tuple[str, ...]
    end: int
    problem: str


class Unclosed(Exception):  # noqa: N818 — says what it is
    """A quote opens and isn't closed where the text ends, or something else follows lines later."""

    def __init__(self, opened: int, *, at_end: bool) -> None:
        """Keep the index of the quote, and whether more text might close it."""
        super().__init__(opened)
        self.opened = opened
        self.at_end = at_end


class Splitter:
    """Splits rows at one delimiter."""

    def __init__(self, delimiter: str) -> None:
        """`delimiter` is one character, neither a quote nor a line end."""
        sign = re.escape(delimiter)
        self.delimiter = delimiter
        self._quoted = re.compile(rf"({_QUOTED})({sign}|\r?\n)")
        self._plain = re.compile(rf'([^"\r\n{sign}]*+)({sign}|\r?\n)')

    def record(self, text: str, start: int) -> Record:
        """Split the row at index `start` of `text`, in which every line is ended by a newline.

        Raises Unclosed when a quote swallows lines.
        """
        cells: list[str] = []
        position = start
        while True:
            quoted = text.startswith('"', position)
            cell = (self._quoted if quoted else self._plain).match(text, position)
            if cell is None:
                return _broken(text, start, position)
            cells.append(cell[1][1:-1].replace('""', '"') if quoted else cell[1])
            position = cell.end()
            if cell[2] != self.delimiter:
                return Record(tuple(cells), position, "")


def _broken(text: str, start: int, position: int) -> Record:
    """Find out what keeps the cell at `position` from being one."""
    end = text.index("\n", position) + 1
    if text.startswith('"', position):
        closed = _CLOSED.match(text, position)
        if closed is None:
            raise Unclosed(position, at_end=True)
        if closed.end() > end:
            raise Unclosed(position, at_end=False)
        problem = "text follows a closing quote; a quote inside a quoted cell is written twice"
    elif _first_odd(text, position) == '"':
        problem = "a quote in the middle of a cell; put the whole cell in quotes and write the quote twice"
    else:
        problem = "a carriage return (U+000D) in the middle of the line"
    return Record((text[start:end].rstrip("\r\n"),), end, problem)


def _first_odd(text: str, position: int) -> str:
    """The character that ended the cell at `position` too early."""
    odd = _ODD.search(text, position)
    return odd[0] if odd else ""
