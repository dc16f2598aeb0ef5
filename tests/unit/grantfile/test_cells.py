"""Splitting rows as RFC 4180 says, and telling every wrong quote from the other."""

from __future__ import annotations

import csv
import io
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.grantfile.cells import Splitter, Unclosed

CELLS = st.lists(st.text(st.sampled_from('ab ",;\t\r\n\\Ü'), max_size=6), min_size=2, max_size=5)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b\n", ("a", "b")),
        ("a,b\r\n", ("a", "b")),
        (",\n", ("", "")),
        ('"a,b","c""d"\n', ("a,b", 'c"d')),
        ('"","" \n'.replace(" ", ""), ("", "")),
        ('"a\nb",c\n', ("a\nb", "c")),
        ('"a\r\nb",c\n', ("a\r\nb", "c")),
        ('"""",""""""\n', ('"', '""')),
        (" a, b \n", (" a", " b ")),
    ],
)
def test_cells_of_a_row(text: str, cells: tuple[str, ...]) -> None:
    record = Splitter(",").record(text + "next\n", 0)
    assert (record.cells, record.end, record.problem) == (cells, len(text), "")


def test_a_row_is_read_where_it_begins() -> None:
    assert Splitter(";").record("x\na;b,c\nd\n", 2).cells == ("a", "b,c")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('a"b,c', "a quote in the middle of a cell"),
        ('a, "b"', "a quote in the middle of a cell"),
        ('a"b\rc', "a quote in the middle of a cell"),
        ('"a"b,c', "text follows a closing quote"),
        ('"a" ,b', "text follows a closing quote"),
        ('"a"b"', "text follows a closing quote"),
        ("a\rb,c", "a carriage return"),
        ('a\rb"c', "a carriage return"),
        ("a,b\r\r", "a carriage return"),
    ],
)
def test_a_broken_row_ends_with_its_line(line: str, problem: str) -> None:
    record = Splitter(",").record(f"{line}\nnext,row\n", 0)
    assert record.problem.startswith(problem)
    assert (record.cells, record.end) == ((line.rstrip("\r"),), len(line) + 1)


@pytest.mark.parametrize(
    ("text", "opened", "at_end"),
    [
        ('a,"b\nc\n', 2, True),
        ('"a\n', 0, True),
        ('a,"b""\n', 2, True),
        ('"a\nb"c\n', 0, False),
        ('a,"b\nc,"d"\n', 2, False),
    ],
)
def test_a_quote_that_swallows_lines(text: str, opened: int, at_end: bool) -> None:
    with pytest.raises(Unclosed) as caught:
        Splitter(",").record(text, 0)
    assert (caught.value.opened, caught.value.at_end) == (opened, at_end)


@given(CELLS, st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_the_csv_module_writes_is_read_back(cells: list[str], delimiter: str, end: str, every: bool) -> None:
    written = io.StringIO()
    # A carriage return is quoted only by newer versions of the csv module.
    quote_all = every or "\r" in "".join(cells)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=quoting).writerow(cells)
    record = Splitter(delimiter).record(written.getvalue() + "next\n", 0)
    assert (list(record.cells), record.end, record.problem) == (cells, len(written.getvalue()), "")


def test_many_quotes_are_read_in_one_go() -> None:
    # A pattern that tried every pair of quotes again would not come back.
    with pytest.raises(Unclosed):
        Splitter(",").record('"' + '""' * 30_000 + "a\n", 0)
