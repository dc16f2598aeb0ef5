"""Tables for terminals, drawn by rich: whole when they fit, as records when they do not.

Rich cuts cells and drops columns that do not fit, silently; an id or an amount
must never be cut, so the width is measured first.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tokenctl.output.views import Table, for_people

_GAP = 3  # what SIMPLE_HEAD puts between columns, and one blank at either side


def render(table: Table, *, width: int, color: bool, encoding: str) -> str:
    """The table as text with a final newline, at most `width` cells wide where that is possible."""
    cells = [[for_people(cell) for cell in row] for row in table.rows]
    headings = [column.heading for column in table.columns]
    if table.bare:
        return "".join(row[0] + "\n" for row in cells)
    if not cells:
        return ""
    if table.pairs:  # what an object lacks is left out for people
        there = [n for n, cell in enumerate(table.rows[0]) if cell is not None]
        return _records([headings[n] for n in there], [[cells[0][n] for n in there]], color=color)
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    if sum(widths) + _GAP * len(widths) + 1 > width:
        return _records(headings, cells, color=color)
    drawn = RichTable(box=SIMPLE_HEAD, header_style="bold" if color else "", pad_edge=True, show_edge=False)
    for column in table.columns:
        drawn.add_column(column.heading, justify="right" if column.number else "left", no_wrap=True)
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="\n")
    console = Console(
        file=stream,
        width=max(width, 20),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    console.print(drawn)
    stream.seek(0)
    lines = stream.read().splitlines()
    return "".join(line.rstrip() + "\n" for line in lines if line.strip())


def _records(headings: Sequence[str], rows: Sequence[Sequence[str]], *, color: bool) -> str:
    """One `HEADING  value` line per cell, a blank line between rows."""
    side = max(map(cell_len, headings), default=0)
    blocks = []
    for row in rows:
        lines = []
        for heading, cell in zip(headings, row, strict=True):
            label = heading + " " * (side - cell_len(heading))
            lines.append((f" \x1b[1m{label}\x1b[0m" if color else f" {label}") + f"  {cell}\n")
        blocks.append("".join(lines))
    return "\n".join(blocks)
