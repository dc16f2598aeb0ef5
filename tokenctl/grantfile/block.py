"""Putting judged rows together into blocks for COPY."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from tokenctl.grantfile.copytext import NULL, Column, copy_line, copy_lines, line_numbers
from tokenctl.grantfile.exact import ExactReader
from tokenctl.grantfile.fields import DEFAULT_KIND, campaign_key
from tokenctl.grantfile.grammar import Columns, Grammar
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.rows import BadRow
from tokenctl.grantfile.shape import Shape

if TYPE_CHECKING:
    from tokenctl.grantfile.judge import GrantRow

_FULL_LINES, _FULL_BAD = 2000, 500


@dataclass(frozen=True)
class Block:
    """Some judged rows of a file.

    `copy` has the good ones in COPY's text format, with `columns` (within a block not
    always in the order of lines). `rows` and `tokens` count the good ones,
    `by_reason` gives both for each reason. `bytes_read` adds up to the source's size.
    """

    copy: bytes
    columns: tuple[str, ...]
    rows: int
    tokens: int
    by_reason: dict[str, tuple[int, int]]
    bad: tuple[BadRow, ...]
    bytes_read: int
    last_line: int


class Draft:
    """Rows on their way into a block."""

    def __init__(self, grammar: Grammar, exact: ExactReader, shape: Shape, options: CheckOptions) -> None:
        """Begin with nothing."""
        self._grammar = grammar
        self._exact = exact
        self._copied = shape.copied
        # An empty cell takes the default, which is listed.
        self._reasons = None if options.reasons is None else options.reasons | {""}
        constants = {
            "reason": options.default_reason,
            "idempotency_key": campaign_key(options.campaign) if options.campaign else None,
            "kind": DEFAULT_KIND,
            "note": NULL,
            "ticket": NULL,
        }
        #: What stands for an empty cell, or for the whole column when the file lacks it.
        self._constants = {name: value for name, value in constants.items() if value}
        self._clear()

    def _clear(self) -> None:
        self._runs: list[str] = []
        self._lines: list[str] = []
        self._copy: list[str] = []
        self._rows: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._bad: list[BadRow] = []

    @property
    def is_full(self) -> bool:
        """Whether it is time for a block: a bad row is kept with its text, so few of them are many."""
        return len(self._lines) >= _FULL_LINES or len(self._bad) >= _FULL_BAD

    def add_run(self, text: str, first: int) -> int:
        """Take lines that the grammar has found good, the first in line `first`; return how many."""
        count = text.count("\n")
        self._runs.append(text)
        self._lines += line_numbers(first, count)
        return count

    def add_row(self, row: GrantRow | BadRow, line: int) -> None:
        """Take a row that was judged by itself."""
        if isinstance(row, BadRow):
            self._bad.append(row)
        else:
            self._copy.append(copy_line(line, row, self._copied))
            self._rows[row.reason] += 1
            self._tokens[row.reason] += row.amount

    def finish(self, *, bytes_read: int, last_line: int) -> Block:
        """Make a block of everything taken so far, and begin anew."""
        self._finish_runs()
        block = Block(
            copy="".join(self._copy).encode(),
            columns=self._copied,
            rows=self._rows.total(),
            tokens=self._tokens.total(),
            by_reason={reason: (rows, self._tokens[reason]) for reason, rows in self._rows.items()},
            bad=tuple(sorted(self._bad, key=lambda row: row.line)),
            bytes_read=bytes_read,
            last_line=last_line,
        )
        self._clear()
        return block

    def _finish_runs(self) -> None:
        if not self._lines:
            return
        text = "".join(self._runs)
        columns = self._grammar.columns(text)
        if doubtful := self._doubtful(columns, ascii_only=text.isascii()):
            self._judge_again(text, doubtful)
            kept = [index not in doubtful for index in range(len(self._lines))]
            columns = {name: list(compress(column, kept)) for name, column in columns.items()}
            self._lines = list(compress(self._lines, kept))
        if self._lines:
            self._write(columns)

    def _doubtful(self, columns: Columns, *, ascii_only: bool) -> set[int]:
        """Find the lines, by index, that need an exact look: other forms, unlisted reasons, rare characters."""
        doubtful: set[int] = set()
        if not all(columns["user_id"]):
            doubtful |= {index for index, user in enumerate(columns["user_id"]) if not user}
        reasons = columns.get("reason", ())
        if self._reasons is not None and not self._reasons.issuperset(reasons):
            doubtful |= {index for index, reason in enumerate(reasons) if reason not in self._reasons}
        notes = columns.get("note", ())
        if not ascii_only and not "".join(notes).isprintable():
            doubtful |= {index for index, note in enumerate(notes) if not note.isprintable()}
        return doubtful

    def _judge_again(self, text: str, doubtful: set[int]) -> None:
        lines = text.split("\n")
        for index in sorted(doubtful):
            raw, line = f"{lines[index]}\n", int(self._lines[index])
            if not self._exact.skip_blank(raw, 0):
                self.add_row(self._exact.read(raw, 0, line).row, line)

    def _write(self, columns: Columns) -> None:
        filled: dict[str, Column] = dict(columns)
        filled["line"] = self._lines
        for name, constant in self._constants.items():
            filled[name] = _filled(columns.get(name, ()), constant)
        self._copy.append(copy_lines(len(self._lines), [filled[name] for name in self._copied]))
        self._count(filled["reason"], map(int, columns["amount"]))

    def _count(self, reasons: Column, amounts: Iterable[int]) -> None:
        distinct = {reasons} if isinstance(reasons, str) else set(reasons)
        if len(distinct) == 1:
            (reason,) = distinct
            self._rows[reason] += len(self._lines)
            self._tokens[reason] += sum(amounts)
            return
        self._rows.update(reasons)
        tokens = dict.fromkeys(distinct, 0)
        for reason, amount in zip(reasons, amounts, strict=True):
            tokens[reason] += amount
        self._tokens.update(tokens)


def _filled(column: Sequence[str], constant: str) -> Column:
    """Put `constant` into empty cells; when all are, it is the column."""
    if not any(column):
        return constant
    return [value or constant for value in column] if "" in column else column
