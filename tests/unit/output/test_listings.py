"""Long lists for programs: the same bytes as if they were made at once, and safe for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.output.listings import blocks, safe
from tokenctl.output.schemas import Schema
from tokenctl.output.text import clean
from tokenctl.output.views import Cell, Column, Listing

AT = datetime(2026, 11, 23, 18, 4, 9, 123456, tzinfo=UTC)
THING: Schema[list[Any]] = Schema("tokenctl.thing.v1", list)
COLUMNS = (Column("ID"), Column("LAST CHANGE"), Column("AMOUNT", number=True), Column("NOTE", optional=True))
ROWS: list[tuple[dict[str, Any], tuple[Cell, ...]]] = [
    ({"id": "u:2", "at": AT, "amount": -5, "note": None}, ("u:2", AT, -5, None)),
    ({"id": "u:1", "at": AT, "amount": 7, "note": "söz"}, ("u:1", AT, 7, "söz")),
]


def printed(form: str, rows: Sequence[tuple[Mapping[str, Any], Sequence[Cell]]] = ROWS) -> str:
    listing = Listing(THING, COLUMNS, iter(rows))
    return "".join(blocks(listing, form, lambda: {"next_cursor": "c", "at": AT}))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_json_is_one_document_as_if_made_at_once(rows: list[Any]) -> None:
    at = "2026-11-23T18:04:09.123456Z"
    data = [{**row, "at": at} for row, _ in rows]
    whole = {"schema": "tokenctl.thing.v1", "data": data, "meta": {"next_cursor": "c", "at": at}}
    assert printed("json", rows) == json.dumps(whole) + "\n"


def test_json_lines_name_their_schema_and_end_with_a_summary() -> None:
    first, second, last = map(json.loads, printed("jsonl").splitlines())
    assert first == {"schema": "tokenctl.thing_row.v1", **ROWS[0][0], "at": "2026-11-23T18:04:09.123456Z"}
    assert second["id"] == "u:1"
    assert last == {
        "schema": "tokenctl.thing_summary.v1", "rows": 2, "next_cursor": "c", "at": "2026-11-23T18:04:09.123456Z",
    }  # fmt: skip
    assert json.loads(printed("jsonl", []))["rows"] == 0


def test_tsv_has_no_heading_and_csv_has_one() -> None:
    assert printed("tsv") == "u:2\t2026-11-23T18:04:09.123456Z\t-5\t\nu:1\t2026-11-23T18:04:09.123456Z\t7\tsöz\n"
    assert printed("csv").splitlines() == [
        "id,last_change,amount,note", "u:2,2026-11-23T18:04:09.123456Z,-5,", "u:1,2026-11-23T18:04:09.123456Z,7,söz",
    ]  # fmt: skip
    assert printed("tsv", []) == ""
    assert printed("csv", []) == "id,last_change,amount,note\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("x")', "-"])
def test_a_text_like_a_formula_is_no_formula(text: str) -> None:
    assert safe(text) == "'" + text


@pytest.mark.parametrize("cell", [-5, 0, 2**53 - 1])
def test_a_number_stays_a_number(cell: int) -> None:
    assert safe(cell) == str(cell)


@given(st.lists(st.lists(st.one_of(st.text(), st.integers(-(2**53), 2**53), st.none()), min_size=4, max_size=4)))
def test_csv_comes_back_as_it_was_written(rows: list[list[Cell]]) -> None:
    _heading, *back = csv.reader(io.StringIO(printed("csv", [({}, row) for row in rows]), newline=""), strict=True)
    assert len(back) == len(rows)
    for row, cells in zip(rows, back, strict=True):
        for cell, text in zip(row, cells, strict=True):
            if isinstance(cell, str):
                shown = clean(cell)
                assert text == ("'" + shown if shown[:1] in ("=", "+", "-", "@", "\t", "\r") and shown else shown)
            else:
                assert text == ("" if cell is None else str(cell))


@pytest.mark.parametrize("form", ["json", "jsonl", "tsv", "csv"])
def test_rows_are_printed_while_they_are_read(form: str) -> None:
    read = 0

    def rows() -> Iterator[tuple[dict[str, Any], tuple[Cell, ...]]]:
        nonlocal read
        for read in count(1):  # noqa: B007 — looked at outside
            yield ROWS[0]

    first = next(blocks(Listing(THING, COLUMNS, rows()), form, dict))
    assert 65_536 <= len(first) < 70_000
    assert read < 3_000
