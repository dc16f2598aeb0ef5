"""Checking a grant file: every row judged, the good ones ready for COPY.

Runs of good lines are taken together by a grammar; everything else goes, row by
row, through the exact judge. Memory stays flat, a block at a time, however long
the file is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tokenctl.errors import BadData
from tokenctl.grantfile.block import Block, Draft
from tokenctl.grantfile.cells import Unclosed
from tokenctl.grantfile.encoding import decode
from tokenctl.grantfile.exact import ExactReader
from tokenctl.grantfile.grammar import grammar_of
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.rows import BadRow, Problem
from tokenctl.grantfile.shape import Shape, describe
from tokenctl.grantfile.source import LINE_BYTES, Lines, Source
from tokenctl.wording import counted

__all__ = [
    "BadRow", "Block", "CheckOptions", "Problem", "Shape",
    "check", "describe", "rows_at",
]  # fmt: skip


def check(source: Source, options: CheckOptions) -> Iterator[Block]:
    """Judge every row of `source`, from its start, and yield them in blocks.

    Raises BadData, UsageError or NoInput for what is wrong with the file as a whole,
    whenever it is met: what was yielded before counts for nothing then.
    """
    return _Check(source, options).blocks()


def rows_at(source: Source, options: CheckOptions, problems: Mapping[int, tuple[str, str]]) -> Iterator[BadRow]:
    """Read rows again that `check` found good, by their line, as bad ones.

    `problems` maps the line to column and reason of what was found later.
    """
    shape = describe(source, options)
    exact = ExactReader(shape, options)
    for lines in source.lines():
        count = lines.data.count(b"\n")
        wanted = [line for line in range(lines.first, lines.first + count) if line in problems]
        if not wanted:
            continue
        texts = decode(lines, source.name).split("\n")
        for line in wanted:
            column, why = problems[line]
            cells = exact.cells(texts[line - lines.first].lstrip("\ufeff") + "\n")
            yield BadRow(line, (Problem(column, why),), cells)


class _Check:
    """One pass over a file."""

    def __init__(self, source: Source, options: CheckOptions) -> None:
        self._source = source
        self._max_rows = options.max_rows
        self._shape = describe(source, options)
        self._grammar = grammar_of(self._shape, options)
        self._exact = ExactReader(self._shape, options)
        self._draft = Draft(self._grammar, self._exact, self._shape, options)
        self._rows = 0
        # A row whose quotes are still open at the end of a block waits for the next one.
        self._waiting = ""
        self._open_quote = 0
        self._line = self._shape.line

    def blocks(self) -> Iterator[Block]:
        for lines in self._source.lines():
            yield from self._judge(self._waiting + decode(self._body(lines), self._source.name))
            yield self._finish(min(len(lines.data), self._source.size - lines.offset))
        if self._waiting:
            raise self._unclosed(self._waiting, 0, self._open_quote, "by the end of the file")

    def _body(self, lines: Lines) -> Lines:
        """Leave out what stands before the first row."""
        skipped = min(max(0, self._shape.body - lines.offset), len(lines.data))
        first = self._shape.line if skipped else lines.first
        return Lines(first, lines.offset + skipped, lines.data[skipped:])

    def _judge(self, text: str) -> Iterator[Block]:
        """Take the rows of `text`, of which the first begins in the current line."""
        run = self._grammar.run(text)
        self._waiting = ""
        position = 0
        while position < len(text):
            end = _end(run, text, position)
            if end > position:
                self._line += self._draft.add_run(text[position:end], self._line)
            elif (end := self._exact.skip_blank(text, position)) > position:
                self._line += text.count("\n", position, end)
            else:
                end = self._judge_one(text, position)
            position = end
            if self._draft.is_full:
                yield self._finish(0)

    def _judge_one(self, text: str, position: int) -> int:
        """Take one row; return the index after it, or the end of `text` when the row goes on behind it."""
        try:
            row, end = self._exact.read(text, position, self._line)
        except Unclosed as open_quote:
            if not open_quote.at_end:
                raise self._unclosed(text, position, open_quote.opened, "where a cell ends") from None
            if len(text) - position > LINE_BYTES:
                raise self._unclosed(text, position, open_quote.opened, f"within {LINE_BYTES:,} bytes") from None
            self._waiting, self._open_quote = text[position:], open_quote.opened - position
            return len(text)
        self._draft.add_row(row, self._line)
        self._line += text.count("\n", position, end)
        return end

    def _finish(self, bytes_read: int) -> Block:
        block = self._draft.finish(bytes_read=bytes_read, last_line=self._line - 1)
        self._rows += block.rows + len(block.bad)
        if self._rows > self._max_rows:
            raise BadData(
                f"{self._source.name}: has more than {counted(self._max_rows, 'row')}",
                hint="split it into several files, or raise limits.import_rows",
            )
        return block

    def _unclosed(self, text: str, position: int, opened: int, where: str) -> BadData:
        line = self._line + text.count("\n", position, opened)
        return BadData(
            f"{self._source.name}:{line}: a quote opens here and is not closed {where}",
            hint="close it, or write a quote that is part of a note twice and the note in quotes",
        )


def _end(run: re.Pattern[str], text: str, position: int) -> int:
    """The index after the good lines at `position`, of which there may be none."""
    good = run.match(text, position)
    return good.end() if good else position
