"""Texts made fit for terminals, and times and numbers for both readers."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.output import text
from tokenctl.output.views import for_people, for_programs, json_ready


@given(st.text())
def test_a_clean_text_has_nothing_that_steers(wild: str) -> None:
    cleaned = text.clean(wild)
    assert [c for c in cleaned if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"] == []
    assert text.clean(cleaned) == cleaned


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_a_harmless_text_stays_as_it_is(plain: str) -> None:
    assert text.clean(plain) == plain


@pytest.mark.parametrize(
    ("wild", "cleaned"),
    [("\x1b[2J", r"\x1b[2J"), ("\u202e", r"\u202e"), ("\U000e0001", r"\U000e0001"), ("a\tb\n", r"a\x09b\x0a"),
     ("\udcff", r"\udcff"), ("söz 日本 [/] :x:", "söz 日本 [/] :x:")],
)  # fmt: skip
def test_how_it_is_spelled(wild: str, cleaned: str) -> None:
    assert text.clean(wild) == cleaned


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.sampled_from(["ascii", "latin-1", "utf-8"]))
def test_any_encoding_can_show_any_text(wild: str, encoding: str) -> None:
    shown = text.plain(wild, encoding)
    shown.encode(encoding)
    assert encoding != "utf-8" or shown == wild


def test_symbols_have_plain_forms() -> None:
    assert text.plain("▸ 1 → 2 ✓ ─ …", "ascii") == "> 1 -> 2 ok - ..."
    assert text.plain("▸ ñ", "latin-1") == "> ñ"


def test_times_are_utc_for_both_readers() -> None:
    when = datetime(2026, 11, 24, 3, 4, 9, 5, tzinfo=timezone(timedelta(hours=9)))
    assert text.moment(when) == "2026-11-23 18:04 UTC"
    assert text.rfc3339(when) == "2026-11-23T18:04:09.000005Z"
    assert text.rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


def test_a_cell_for_people_and_for_programs() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    cells = [None, "", 1234567, -5, "a\x1bb", when]
    assert [for_people(cell) for cell in cells] == ["─", "─", "1,234,567", "-5", r"a\x1bb", "2026-01-01 00:00 UTC"]
    assert [for_programs(cell) for cell in cells] == [
        "", "", "1234567", "-5", r"a\x1bb", "2026-01-01T00:00:00.000000Z",
    ]  # fmt: skip


@given(st.text())
def test_a_tsv_cell_has_no_tab_and_no_line_end(wild: str) -> None:
    assert len(for_programs(wild).split("\t")) == 1
    assert len(for_programs(wild).splitlines()) <= 1


def test_json_has_times_as_text_at_any_depth() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert json_ready({"a": [(when,), {"b": when}], "c": None}) == {
        "a": [["2026-01-01T00:00:00.000000Z"], {"b": "2026-01-01T00:00:00.000000Z"}],
        "c": None,
    }
