"""Tables for terminals: whole when they fit, as records when they do not.

Rich's own tables cut cells and drop columns that do not fit, silently, and take 0.4 ms a
row; an id or an amount must never be cut, and a history has up to 100,000 rows. So
the width is measured first, with rich's sizes of characters, and the lines are joined here.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

from tokenctl.output import text
from tokenctl.output.views import Cell, Column, Table, for_people

#: Blanks between columns, where there is room and where there is not.
_WIDE, _NARROW = 3, 2
#: The least width of a column whose cells go over several lines.
_LEAST = 16


def render(table: Table, *, width: int, color: bool, encoding: str) -> tuple[str, list[str]]:
    """The table as text with a final newline, at most `width` cells wide where that is possible.

    Beside it the headings of columns that were left out although they held something.
    """
    cells = [_shown(table.columns, row) for row in table.rows]
    left_out: list[str] = []
    if table.bare or not cells:
        drawn = "".join(row[0] + "\n" for row in cells)
    elif table.pairs:  # what an object lacks is left out for people
        drawn = _records(table.columns, cells, [[cell is None for cell in table.rows[0]]], color=color)
    else:
        drawn, left_out = _grid(table, cells, width=width, color=color)
    return text.plain(drawn, encoding), left_out


def _shown(columns: Sequence[Column], row: Sequence[Cell]) -> list[str]:
    return [for_people(cell, signed=column.signed) for column, cell in zip(columns, row, strict=True)]


def _grid(table: Table, cells: list[list[str]], *, width: int, color: bool) -> tuple[str, list[str]]:
    headings = [column.heading for column in table.columns]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    empty = [all(row[n] is None for row in table.rows) for n in range(len(headings))]
    gap = _WIDE if _taken(widths, range(len(headings)), _WIDE) <= width else _NARROW
    kept = _with_room(table.columns, widths, empty, gap, width)
    widths = _narrowed(table.columns, widths, kept, width)
    if _taken(widths, kept, gap) > width:
        nothing = [[c is None and o.optional for c, o in zip(row, table.columns, strict=True)] for row in table.rows]
        return _records(table.columns, cells, nothing, color=color), []
    names = [_padded(headings[n], widths[n], table.columns[n]) for n in kept]
    lines = [[_bold(name, color=color) for name in names]]
    for row in cells:
        pieces = [_pieces(row[n], widths[n], table.columns[n]) for n in kept]
        lines += [
            [_padded(piece, widths[n], table.columns[n]) for n, piece in zip(kept, line, strict=True)]
            for line in itertools.zip_longest(*pieces, fillvalue="")
        ]
    heading, *below = [(" " + (" " * gap).join(line)).rstrip() + "\n" for line in lines]
    drawn = "".join([heading, "─" * _taken(widths, kept, gap), "\n", *below])
    return drawn, [headings[n] for n in range(len(headings)) if n not in kept and not empty[n]]


def _with_room(
    columns: Sequence[Column], widths: Sequence[int], empty: Sequence[bool], gap: int, width: int
) -> list[int]:
    """The columns that stay: the rightmost goes first, after those with nothing in them; what fits again comes back."""
    widths = [min(w, _LEAST) if column.wraps else w for w, column in zip(widths, columns, strict=True)]
    kept = list(range(len(columns)))
    missed = [n for n in kept if columns[n].optional and (empty[n] or not columns[n].telling)]
    gone = []
    for n in sorted(missed, key=lambda n: (not empty[n], -n)):
        if _taken(widths, kept, gap) > width:
            kept.remove(n)
            gone.append(n)
    for n in reversed(gone):  # a wide one that went last may leave room for others
        if not empty[n] and _taken(widths, [*kept, n], gap) <= width:
            kept.append(n)
    return sorted(kept)


def _narrowed(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int], width: int) -> list[int]:
    """The widths with those of columns that wrap made smaller, the widest first, until a line fits or none is left."""
    narrowed = list(widths)
    while _taken(narrowed, kept, _NARROW) > width:
        wide = [n for n in kept if columns[n].wraps and narrowed[n] > _LEAST]
        if not wide:
            break
        narrowed[max(wide, key=narrowed.__getitem__)] -= 1
    return narrowed


def _pieces(cell: str, width: int, column: Column) -> list[str]:
    """A cell's lines: at blanks, and within a word that is too long."""
    if not column.wraps or cell_len(cell) <= width:
        return [cell]
    lines = textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)
    return [piece for line in lines for piece in chop_cells(line, width)]


def _taken(widths: Sequence[int], kept: Sequence[int], gap: int) -> int:
    """The width of a line of these columns, with a blank at either end."""
    return 2 + sum(widths[n] for n in kept) + gap * (len(kept) - 1)


def _padded(cell: str, width: int, column: Column) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if column.number else cell + blanks


def _bold(words: str, *, color: bool) -> str:
    return f"\x1b[1m{words}\x1b[0m" if color else words


def _records(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], left_out: Sequence[Sequence[bool]], *, color: bool
) -> str:
    """One `HEADING  value` line per cell, a blank line between rows; without the cells that are `left_out`."""
    side = max(
        (cell_len(c.heading) for row in left_out for c, gone in zip(columns, row, strict=True) if not gone), default=0
    )
    blocks = []
    for row, gone in zip(rows, left_out, strict=True):
        labels = [column.heading + " " * (side - cell_len(column.heading)) for column in columns]
        lines = [
            f" {_bold(label, color=color)}  {cell}\n"
            for label, cell, is_gone in zip(labels, row, gone, strict=True)
            if not is_gone
        ]
        blocks.append("".join(lines))
    return "\n".join(blocks)
