"""A waterfall that always ends at the sum of the rows, however many sources there are."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.entries import NOW
from tokenctl.services import explanations
from tokenctl.services.explanations import KINDS, SOURCES, Explanation
from tokenctl.storage.history import History, Part
from tokenctl.storage.ledger import Ledger


def source(kind: str, name: str, tokens: int, reversed_: int = 0, seq: int = 1) -> Part:
    return Part("source", kind, name, 1, tokens, 1 if reversed_ else 0, reversed_, seq, NOW, None)


def explain(
    sources: list[Part], *, balance: int | None = None, last_seq: int | None = None, more: int = 0, held: int = 0
) -> Explanation:
    """The explanation of an account that has these sources, and `more` tokens that none of them accounts for."""
    total = sum(part.tokens + part.reversed for part in sources) + more
    count = len(sources)
    stated = total if balance is None else balance
    parts = [
        Part("account", None, None, count if last_seq is None else last_seq, stated, 0, 0, count, NOW, NOW),
        Part("entries", None, None, count, total, 0, 0, count, NOW, None),
        *sources,
        *([Part("hold", "h1", "image", 3, held, 0, held + 2, None, NOW, NOW)] if held else []),
    ]
    history = cast(History, type("One", (), {"parts": lambda *_, **__: parts})())
    return explanations.explain(history, cast(Ledger, None), "u1", ledger_name="env")


SOURCE_LISTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(-1000, 1000), st.integers(-500, 500)), max_size=60
)


@given(SOURCE_LISTS, st.integers(-5, 5))
def test_the_sources_end_at_the_sum_of_the_rows(drawn: list[tuple[str, int, int]], more: int) -> None:
    parts = [source(kind, f"s{n}", tokens, taken, n) for n, (kind, tokens, taken) in enumerate(drawn, 1)]
    found = explain(parts, more=more)
    assert sum(one.net for one in found.sources) == found.total == found.balance
    named = [one for one in found.sources if one.kind != "unexplained"]
    assert sum(one.entries for one in named) == len(parts)
    assert sum(one.reversals for one in named) == sum(part.reversals for part in parts)
    places = [KINDS.index(one.kind) for one in named]
    assert places == sorted(places)
    assert all(places.count(place) <= SOURCES for place in places)
    assert (found.sources[-1:] != tuple(named[-1:])) == (more != 0)


def test_the_smallest_sources_of_many_are_summed() -> None:
    found = explain([source("bonus", f"r{n:02}", n + 1, seq=n + 1) for n in range(20)])
    assert [one.name for one in found.sources] == [*(f"r{n:02}" for n in range(19, 8, -1)), None]
    rest = found.sources[-1]
    assert (rest.entries, rest.tokens, rest.last_seq) == (9, 45, 9)


def test_what_none_of_the_sources_accounts_for_is_told() -> None:
    assert explain([source("bonus", "x", 10)], more=-3).sources[-1].kind == "unexplained"
    assert explain([source("bonus", "x", 10)], more=-3).sources[-1].net == -3


@pytest.mark.parametrize(("balance", "last_seq"), [(11, 1), (9, 1), (10, 2), (10, 0)])
def test_an_account_and_rows_that_disagree_are_told_loudly(balance: int, last_seq: int) -> None:
    found = explain([source("bonus", "x", 10)], balance=balance, last_seq=last_seq)
    trouble = found.trouble()
    assert trouble is not None
    assert trouble.exit_code == 1
    assert "DO NOT AGREE" in trouble.detail
    assert trouble.hint.endswith("tokenctl verify --user u1 says what is wrong")
    assert trouble.context["difference"] == balance - 10


def test_holds_make_less_available_and_never_less_than_nothing() -> None:
    found = explain([source("bonus", "x", 10)], held=3)
    assert (found.held, found.open_holds, found.available, len(found.holds)) == (5, 3, 5, 1)
    assert found.trouble() is None
    assert explain([source("bonus", "x", 10)], held=30).available == 0
