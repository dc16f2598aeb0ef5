"""A row of a grant file that was refused, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one column of a row ("row" when it is the row as a whole)."""

    column: str
    why: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A refused row: its first line, every wrong column, and its cells for the reject file."""

    line: int
    problems: tuple[Problem, ...]
    cells: tuple[str, ...]
