"""Reading one row exactly: what it says, or everything that is wrong with it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tokenctl.grantfile.cells import Splitter
from tokenctl.grantfile.fields import IGNORED, canonical
from tokenctl.grantfile.objects import as_text, members
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.rows import BadRow, Problem
from tokenctl.grantfile.shape import Shape
from tokenctl.grantfile.values import Number, Value
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.grantfile.judge import GrantRow, Judge

# At most so many at a time: for each repetition of a group re keeps what it might take back.
_CSV_BLANK = re.compile(r"(?:\r?\n){0,1000}")
_JSON_BLANK = re.compile(r"(?:[ \t]*\r?\n){0,1000}")


class Exact(NamedTuple):
    """A row and the index at which the next one begins."""

    row: GrantRow | BadRow
    end: int


class ExactReader:
    """Reads rows of one file one by one."""

    def __init__(self, shape: Shape, options: CheckOptions) -> None:
        """Prepare for a file of this shape."""
        self._shape = shape
        self._options = options
        self._names = tuple(canonical(name) for name in shape.header)
        self._splitter = Splitter(shape.delimiter) if shape.is_csv else None
        self._blank = _CSV_BLANK if shape.is_csv else _JSON_BLANK

    @cached_property
    def _judge(self) -> Judge:
        from tokenctl.grantfile.judge import Judge  # 60 ms, of which a file of plain good rows needs none

        options = self._options
        return Judge(default_reason=options.default_reason, campaign=options.campaign, reasons=options.reasons)

    def skip_blank(self, text: str, start: int) -> int:
        """Return the index after some blank lines at `start`, or `start` when there are none."""
        blank = self._blank.match(text, start)
        return blank.end() if blank else start

    def read(self, text: str, start: int, line: int) -> Exact:
        """Read the row at index `start`, which is in line `line` of the file; raises cells.Unclosed."""
        if self._splitter is None:
            end = text.index("\n", start) + 1
            return Exact(self._object(text[start:end].rstrip("\r\n"), line), end)
        record = self._splitter.record(text, start)
        last = line + text.count("\n", start, record.end) - 1
        if record.problem:
            return Exact(self._bad(line, record.problem, record.cells), record.end)
        if problem := self._wrong_cells(record.cells) or _wrong_lines(line, last):
            return Exact(self._bad(line, problem, record.cells), record.end)
        return Exact(self._cells(record.cells, line), record.end)

    def cells(self, text: str) -> tuple[str, ...]:
        """Return the cells, for a reject file, of `text`, which is one good row."""
        if self._splitter is None:
            return self._shape.cells({name: as_text(value) for name, value in members(text).values.items()})
        return self._kept(self._splitter.record(text, 0).cells)

    def _cells(self, cells: tuple[str, ...], line: int) -> GrantRow | BadRow:
        values: dict[str, Value] = {
            name: Number(cell) if cell and name == "amount" else cell
            for name, cell in zip(self._names, cells, strict=True)
            if name != IGNORED
        }
        judged = self._judge.judge(values)
        return BadRow(line, judged, self._kept(cells)) if isinstance(judged, tuple) else judged

    def _object(self, raw: str, line: int) -> GrantRow | BadRow:
        found = members(raw)
        if found.problem:
            return self._bad(line, found.problem, (raw,))
        judged = self._judge.judge(found.values)
        if isinstance(judged, tuple):
            cells = self._shape.cells({name: as_text(value) for name, value in found.values.items()})
            return BadRow(line, judged, cells)
        return judged

    def _wrong_cells(self, cells: tuple[str, ...]) -> str:
        """Say what is wrong with the number of cells or with all of them."""
        have, want = len(cells), len(self._names)
        if not any(cell.strip() for cell in cells):
            return "every cell is empty; remove the line"
        if cells == self._shape.header:
            return "is the header once more; were two files joined?"
        count = f"{counted(have, 'cell')} where the header has {want}"
        if have > want:
            sign = self._shape.delimiter.replace("\t", "\\t")
            return f"{count}; a cell with '{sign}' in it must stand in quotes"
        if have < want:
            return f"{count}; one is missing, or the line was cut"
        return ""

    def _bad(self, line: int, problem: str, cells: tuple[str, ...]) -> BadRow:
        return BadRow(line, (Problem("row", problem),), self._kept(cells))

    def _kept(self, cells: tuple[str, ...]) -> tuple[str, ...]:
        """Arrange cells as those of a reject file; surplus ones are kept in the last."""
        width = len(self._shape.columns)
        if len(cells) == len(self._names):
            cells = tuple(cell for name, cell in zip(self._names, cells, strict=True) if name != IGNORED)
        if len(cells) > width:
            return (*cells[: width - 1], (self._shape.delimiter or ",").join(cells[width - 1 :]))
        return (*cells, *[""] * (width - len(cells)))


def _wrong_lines(first: int, last: int) -> str:
    if first == last:
        return ""
    return f"a quoted cell runs on to line {last}; a row is one line. Is a closing quote missing?"
