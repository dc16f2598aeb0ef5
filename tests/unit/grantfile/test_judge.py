"""The row itself: its schema, its judge, and the small parts around it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grantfile.opened import Row, rows_of
from tokenctl.errors import UsageError
from tokenctl.grantfile.block import Block
from tokenctl.grantfile.copytext import COPY_COLUMNS, NULL, copy_line, copy_lines, line_numbers
from tokenctl.grantfile.display import SHOWN_CHARACTERS, clean, shown
from tokenctl.grantfile.explain import did_you_mean, why
from tokenctl.grantfile.fields import FIELDS
from tokenctl.grantfile.judge import GrantRow, Judge
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.rows import Problem
from tokenctl.grantfile.values import Number, Value

GOOD: dict[str, Value] = {"user_id": "u1", "amount": Number("5"), "reason": "test", "idempotency_key": "k1"}
ANY = Judge(default_reason=None, campaign=None, reasons=None)


def test_the_published_schema() -> None:
    schema = GrantRow.model_json_schema()
    assert tuple(schema["properties"]) == FIELDS
    assert schema["required"] == ["user_id", "amount", "reason", "idempotency_key"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["amount"].items() >= {"type": "integer", "minimum": 1, "maximum": 10**15 - 1}.items()
    assert schema["properties"]["user_id"]["pattern"] == "^[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}$"
    assert schema["properties"]["kind"]["enum"] == ["bonus", "purchase"]


def test_a_good_row_is_complete() -> None:
    row = ANY.judge({**GOOD, "note": None, "ticket": "", "kind": None})
    assert row == GrantRow.model_construct(
        user_id="u1", amount=5, reason="test", idempotency_key="k1", note=None, ticket=None, kind="bonus"
    )


def test_defaults_fill_only_what_is_absent() -> None:
    judge = Judge(default_reason="promo", campaign=None, reasons=None)
    assert judge.judge({**GOOD, "reason": ""}) == judge.judge({**GOOD, "reason": "promo"})
    assert judge.judge(GOOD) != judge.judge({**GOOD, "reason": "promo"})


def test_problems_come_in_the_order_of_columns() -> None:
    problems = ANY.judge({"kind": "x", "note": " ", "user_id": "ü"})
    assert not isinstance(problems, GrantRow)
    assert [problem.column for problem in problems] == [
        "user_id",
        "amount",
        "reason",
        "idempotency_key",
        "note",
        "kind",
    ]


def test_an_unlisted_reason_is_told_beside_other_problems() -> None:
    judge = Judge(default_reason=None, campaign=None, reasons=frozenset({"promo"}))
    problems = judge.judge({**GOOD, "amount": Number("0")})
    assert not isinstance(problems, GrantRow)
    assert [problem.column for problem in problems] == ["amount", "reason"]
    malformed = judge.judge({**GOOD, "reason": "Promo"})
    assert malformed == (Problem("reason", "'Promo' has capitals; write 'promo'"),)


@given(st.sampled_from(FIELDS), st.text(st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"[+-]?[0-9 _.,e]+"))
def test_every_refusal_has_words(column: str, text: str) -> None:
    value: Value = Number(text) if column == "amount" and text else text
    judged = ANY.judge({**GOOD, column: value})
    if isinstance(judged, GrantRow):
        return
    ((told, reason),) = [(problem.column, problem.why) for problem in judged]
    assert told == column
    assert reason.isprintable()
    assert len(reason) >= 10


@pytest.mark.parametrize("value", [True, [], {}, "\ud800", "x" * 600, " ", " \x00"])
@pytest.mark.parametrize("column", FIELDS)
def test_why_has_words_for_any_value(column: str, value: Value) -> None:
    assert why(column, value).isprintable()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"default_reason": "Promo"}, "--reason: 'Promo' has capitals"),
        ({"default_reason": ""}, "--reason: is missing"),
        ({"default_reason": "promo\n"}, "--reason: "),
        ({"default_reason": "prom", "reasons": frozenset({"promo"})}, "did you mean 'promo'"),
        ({"campaign": ""}, "--campaign: ''"),
        ({"campaign": "a\n"}, "--campaign: "),
        ({"campaign": "ä"}, "--campaign: 'ä'"),
        ({"campaign": "x" * 123}, "--campaign: "),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        CheckOptions(**options)


def test_options_at_their_borders() -> None:
    CheckOptions(default_reason="promo", reasons=frozenset({"promo"}), campaign="x" * 122)


@given(st.integers(1, 10**7), st.integers(1, 3000))
def test_line_numbers(first: int, count: int) -> None:
    assert line_numbers(first, count) == [str(number) for number in range(first, first + count)]


@pytest.mark.parametrize("first", [9_998, 9_999, 10_000, 19_999, 20_000])
def test_line_numbers_where_they_grow(first: int) -> None:
    assert line_numbers(first, 3) == [str(first), str(first + 1), str(first + 2)]


def test_rows_one_by_one_and_together_are_written_alike() -> None:
    row = ANY.judge({**GOOD, "note": "a"})
    assert isinstance(row, GrantRow)
    together = copy_lines(2, [["7", "8"], ["u1", "u1"], ["5", "5"], "bonus", "test", ["a", "a"], NULL, "k1"])
    assert (
        together
        == copy_line(7, row, COPY_COLUMNS) + copy_line(8, row, COPY_COLUMNS)
        == "".join(f"{line}\tu1\t5\tbonus\ttest\ta\t\\N\tk1\n" for line in (7, 8))
    )


@given(st.text(st.sampled_from("ab\\Nt."), min_size=1))
def test_backslashes_come_back(note: str) -> None:
    row = ANY.judge({**GOOD, "note": note})
    assert isinstance(row, GrantRow)
    block = Block(copy_line(1, row, COPY_COLUMNS).encode(), COPY_COLUMNS, 1, 5, {}, (), 0, 1)
    assert rows_of([block]) == [Row(1, "u1", 5, "bonus", "test", note, None, "k1")]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Für Ä 画像 🎄", "Für Ä 画像 🎄"),
        ("a\x1b[2J", r"a\x1b[2J"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_nothing_moves_the_cursor(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert shown(text) == f"'{cleaned}'"


def test_a_long_value_is_cut() -> None:
    assert shown("x" * SHOWN_CHARACTERS) == f"'{'x' * SHOWN_CHARACTERS}'"
    assert shown("x" * (SHOWN_CHARACTERS + 1)) == f"'{'x' * SHOWN_CHARACTERS}…'"


def test_nearest_names() -> None:
    assert did_you_mean("AMOUTN", FIELDS) == "; did you mean 'amount'?"
    assert did_you_mean("balance", ("kind",)) == ""
    assert all(
        did_you_mean(first, FIELDS) for first in map("".join, itertools.permutations("kind")) if first[:3] == "kin"
    )
