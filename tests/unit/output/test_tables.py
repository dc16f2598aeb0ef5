"""Tables: whole at every width, as a table or as records, and without a mark of rich's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tokenctl.output.tables import render
from tokenctl.output.views import Ago, Column, Table, for_people

IDS = st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True)
COLUMNS = (Column("USER"), Column("BALANCE", number=True), Column("REASON"))


def drawn(table: Table, *, width: int = 100, color: bool = False, encoding: str = "utf-8") -> str:
    return render(table, width=width, color=color, encoding=encoding)[0]


@given(
    st.lists(st.tuples(IDS, st.integers(0, 2**53), st.text(max_size=40)), min_size=1, max_size=5), st.integers(1, 200)
)
def test_no_cell_is_ever_cut(rows: list[tuple[str, int, str]], width: int) -> None:
    got = drawn(Table(COLUMNS, rows), width=width)
    for user, balance, _reason in rows:
        assert re.search(rf"(?<!\S){re.escape(user)}(?!\S)", got)
        assert f"{balance:,}" in got
    assert "\x1b" not in got
    lines = len(got.splitlines())
    assert lines in (len(rows) + 2, 4 * len(rows) - 1)  # a table, or records
    assert lines != len(rows) + 2 or len(rows) == 1 or max(map(cell_len, got.splitlines())) <= width


@pytest.mark.parametrize("width", [*range(20, 50)])
def test_a_table_when_it_fits_and_records_when_not(width: int) -> None:
    got = drawn(Table(COLUMNS, [("user_42", 1500, "goodwill"), ("u", 7, "x")]), width=width)
    first = got.splitlines()[0]
    if "BALANCE" in first:
        assert max(map(cell_len, got.splitlines())) <= width
    else:
        assert first == " USER     user_42"


def test_numbers_stand_right_and_texts_left() -> None:
    heading, line, first, second = drawn(Table(COLUMNS, [("user_42", 1500, "goodwill"), ("u", 7, "x")])).splitlines()
    assert heading == " USER      BALANCE   REASON"
    assert set(line) == {"─"}
    assert first == " user_42     1,500   goodwill"
    assert second == " u               7   x"


def test_ascii_has_ascii_lines() -> None:
    assert drawn(Table(COLUMNS, [("ü", 1, "→")]), encoding="ascii").isascii()


def test_wide_characters_are_measured_by_their_cells() -> None:
    table = Table((Column("A"), Column("B")), [("日本語" * 5, "x")])
    fits = 30 + 1 + 2 + 2
    assert len(drawn(table, width=fits).splitlines()) == 3
    assert len(drawn(table, width=fits - 1).splitlines()) == 2


def test_what_an_object_lacks_is_left_out() -> None:
    table = Table((Column("A"), Column("B"), Column("C")), [("x", None, 1234)], pairs=True)
    assert drawn(table) == " A  x\n C  1,234\n"
    assert drawn(table, color=True) == " \x1b[1mA\x1b[0m  x\n \x1b[1mC\x1b[0m  1,234\n"


def test_a_bare_text_is_printed_alone_and_nothing_as_nothing() -> None:
    url = "postgresql:///" + "x" * 300
    assert drawn(Table((Column("URL"),), [(url,)], bare=True), width=20) == f"{url}\n"
    assert drawn(Table(COLUMNS, [])) == ""


@pytest.mark.parametrize("text", ["[/]", "[red]x[/red]", ":smile:", "[bold", "\\[x]", "https://example.com"])
def test_nothing_is_markup(text: str) -> None:
    assert text in drawn(Table(COLUMNS, [("u", 1, text)]))


MISSABLE = (
    Column("ID"),
    Column("AMOUNT", number=True, signed=True),
    Column("KIND", optional=True),
    Column("TICKET", optional=True),
    Column("NOTE", optional=True),
)
ENTRIES = [("u_42:2", -1500, "bonus", None, "x" * 60), ("u_42:1", 1500, "bonus", None, None)]


def headings_at(width: int, rows: list[tuple[object, ...]] | None = None) -> tuple[list[str], list[str]]:
    drawn, left_out = render(
        Table(MISSABLE, rows or ENTRIES),  # type: ignore[arg-type]  # cells of any kind
        width=width, color=False, encoding="utf-8",
    )  # fmt: skip
    return drawn.splitlines()[0].split(), left_out


def test_without_room_columns_that_can_be_missed_go_from_the_right_and_are_named() -> None:
    assert headings_at(200) == (["ID", "AMOUNT", "KIND", "TICKET", "NOTE"], [])
    assert headings_at(90) == (["ID", "AMOUNT", "KIND", "NOTE"], [])  # nothing was in TICKET
    assert headings_at(40) == (["ID", "AMOUNT", "KIND"], ["NOTE"])
    assert headings_at(18) == (["ID", "AMOUNT"], ["KIND", "NOTE"])


def test_what_is_telling_goes_only_while_nothing_is_in_it() -> None:
    columns = (Column("ID"), Column("KIND", optional=True), Column("REVERSED BY", optional=True, telling=True))
    for by, first in ((None, ["ID", "KIND"]), ("u:9", ["ID", "REVERSED", "BY"])):
        assert drawn(Table(columns, [("u_42:17", "purchase", by)]), width=24).splitlines()[0].split() == first
    assert drawn(Table(columns, [("u_42:17", "purchase", "u:9")]), width=20).splitlines()[2] == " REVERSED BY  u:9"


def test_what_went_before_a_wide_column_comes_back_into_its_room() -> None:
    columns = (Column("ID"), Column("FILE", optional=True), Column("ROWS", number=True, optional=True))
    text, left_out = render(Table(columns, [("a", "x" * 30, 7)]), width=20, color=False, encoding="utf-8")
    assert (text.splitlines()[0].split(), left_out) == (["ID", "ROWS"], ["FILE"])


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=90), st.integers(26, 120))
def test_a_cell_that_may_wrap_loses_nothing(value: str, width: int) -> None:
    table = Table((Column("NAME"), Column("VALUE", wraps=True)), [("a", value), ("b", 7)])
    heading, rule, *lines = drawn(table, width=width).splitlines()
    assert heading.split() == ["NAME", "VALUE"]
    assert max(map(cell_len, [rule, *lines])) <= width
    assert "".join(line.removeprefix(" a").strip() for line in lines[:-1]) == for_people(value)


def test_a_cell_that_may_wrap_breaks_at_blanks() -> None:
    table = Table((Column("NAME"), Column("VALUE", wraps=True)), [("reasons", "goodwill, mistake, outage")])
    assert drawn(table, width=32).splitlines()[2:] == [" reasons  goodwill, mistake,", "          outage"]
    assert drawn(table, width=20).splitlines()[0] == " NAME   reasons"  # no room for a column at all


def test_columns_move_together_before_one_is_left_out() -> None:
    rows: list[tuple[object, ...]] = [("u_42:2", -1500, "bonus", "T1", "note")]
    assert headings_at(42, rows)[0] == headings_at(39, rows)[0] == ["ID", "AMOUNT", "KIND", "TICKET", "NOTE"]
    drawn, _ = render(Table(MISSABLE, rows), width=40, color=False, encoding="utf-8")  # type: ignore[arg-type]
    assert drawn.splitlines()[2] == " u_42:2  -1,500  bonus  T1      note"
    assert headings_at(35, rows)[1] == ["NOTE"]


def test_records_leave_out_what_can_be_missed_and_is_not_there() -> None:
    table = Table(MISSABLE, ENTRIES)
    assert drawn(table, width=10).splitlines() == [
        " ID      u_42:2", " AMOUNT  -1,500", " KIND    bonus", f" NOTE    {'x' * 60}", "",
        " ID      u_42:1", " AMOUNT  +1,500", " KIND    bonus",
    ]  # fmt: skip


def test_an_object_has_signs_too() -> None:
    assert drawn(Table(MISSABLE[:2], [("u:1", 5)], pairs=True)) == " ID      u:1\n AMOUNT  +5\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (86_400, "1 d"),
        (86_400 * 400, "400 d"), (-1, "1 s left"), (-125, "2 min left"), (-7200, "2 h left"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit(seconds: int, shown: str) -> None:
    now = datetime(2026, 11, 23, 18, 4, tzinfo=UTC)
    cell = Ago(now - timedelta(seconds=seconds), now)
    assert drawn(Table((Column("AGE"),), [(cell,)])).splitlines()[2] == f" {shown}"
