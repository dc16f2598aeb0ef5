"""Lists for programs, piece by piece while their rows are read: JSON, JSON Lines, TSV and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tokenctl.output.schemas import Schema
from tokenctl.output.views import Cell, Listing, View, for_programs, json_ready

#: Characters that are written at once.
_BLOCK = 65_536
#: What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def blocks(listing: Listing[Any], form: str, meta: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """The list as `form` has it, in blocks of some size; `meta` is asked after the last row."""
    pieces = {"json": _document, "jsonl": _lines}.get(form)
    if pieces is not None and listing.schema is not None:
        return joined(pieces(listing, listing.schema, meta))
    return joined(_csv(listing) if form == "csv" else _tsv(listing))


def lines(view: View[Any]) -> str:
    """JSON Lines of a view that has them: its rows, then a summary with the meta."""
    if view.lines:
        *rows, (last, data) = view.lines
        return "".join(_line(schema.name, row) for schema, row in rows) + _line(last.name, {**data, **view.meta})
    rows_of_list = "".join(_line(view.schema.row_name, row) for row in view.data)
    return rows_of_list + _line(view.schema.summary_name, {"rows": len(view.data), **view.meta})


def safe(cell: Cell) -> str:
    """A cell of a CSV file: a number stays one, a text that begins like a formula gets a ' before it."""
    words = for_programs(cell)
    return "'" + words if words.startswith(_FORMULA) and not isinstance(cell, int) else words


def joined(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces of a text, several at a time: a write per row is a system call per row."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _document(listing: Listing[Any], schema: Schema[Any], meta: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """One JSON document, the same bytes as if it were made at once."""
    yield f'{{"schema": {json.dumps(schema.name)}, "data": ['
    between = ""
    for data, _ in listing.rows:
        yield between + json.dumps(data, default=json_ready)
        between = ", "
    yield f'], "meta": {json.dumps(json_ready(meta()))}}}\n'


def _lines(listing: Listing[Any], schema: Schema[Any], meta: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """An object a line, each with its schema; the last one is a summary."""
    rows = 0
    for rows, (data, _) in enumerate(listing.rows, 1):  # noqa: B007 — counted for the summary
        yield _line(schema.row_name, data)
    yield _line(schema.summary_name, {"rows": rows, **meta()})


def _line(schema: str, data: Mapping[str, Any]) -> str:
    """One line of JSON Lines, with its final newline."""
    return json.dumps({"schema": schema, **data}, default=json_ready) + "\n"


def _tsv(listing: Listing[Any]) -> Iterator[str]:
    for _, cells in listing.rows:
        yield "\t".join(map(for_programs, cells)) + "\n"


def _csv(listing: Listing[Any]) -> Iterator[str]:
    """Comma-separated values with a heading, as RFC 4180 quotes them; lines end with a newline alone."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    headings = [column.heading.lower().replace(" ", "_") for column in listing.columns]
    for row in _with_heading(headings, listing):
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _with_heading(headings: list[str], listing: Listing[Any]) -> Iterator[list[str]]:
    yield headings
    for _, cells in listing.rows:
        yield [safe(cell) for cell in cells]
