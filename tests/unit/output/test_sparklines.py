"""The line above a history: low to high, past to present, and no wider than there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.output.sparklines import draw


def line(numbers: list[int], *, width: int = 100, encoding: str = "utf-8") -> str:
    """The line alone, without title and numbers."""
    return draw("B", numbers, width=width, encoding=encoding).split()[1]


def test_it_goes_from_the_lowest_to_the_highest_and_says_which_they_are() -> None:
    got = draw("BALANCE", [0, 100, 1500, 700, 1200], width=100, encoding="utf-8")
    assert got == " BALANCE  ▁▁█▄▆  0 to 1,500, now 1,200\n\n"


def test_a_terminal_without_blocks_gets_ascii() -> None:
    assert draw("BALANCE", [0, 100, 1500], width=100, encoding="ascii") == " BALANCE  __#  0 to 1,500, now 1,500\n\n"


@pytest.mark.parametrize("numbers", [[], [5]])
def test_less_than_two_numbers_are_no_line(numbers: list[int]) -> None:
    assert draw("B", numbers, width=100, encoding="utf-8") == ""


def test_of_many_numbers_the_newest_is_always_drawn() -> None:
    for many in (61, 100, 1000, 99_999):
        assert len(line(list(range(many)))) == 60
        assert line(list(range(many)))[-1] == "█"
        assert line([0] * many + [1])[-2:] == "▁█"


def test_what_never_changes_is_flat() -> None:
    assert line([7, 7, 7]) == "▁▁▁"


@given(st.lists(st.integers(0, 2**53 - 1), min_size=2, max_size=500), st.integers(1, 200))
def test_it_fits_and_ends_with_the_newest(numbers: list[int], width: int) -> None:
    got = draw("BALANCE", numbers, width=width, encoding="utf-8")
    drawn = got.split("  ")[1]
    assert 2 <= len(drawn) <= min(60, len(numbers))
    assert len(got.rstrip("\n")) <= width or len(drawn) <= 8
    steps = sorted("▁▂▃▄▅▆▇█")
    assert set(drawn) <= set(steps)
    if numbers[-1] == max(numbers) != min(numbers):
        assert drawn[-1] == "█"
    if numbers[-1] == min(numbers):
        assert drawn[-1] == "▁"
