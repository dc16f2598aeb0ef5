"""A number and its noun."""

import pytest

from tokenctl.wording import counted, fitting, pace


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 rows"), (1, "1 row"), (-1, "-1 row"), (2, "2 rows"), (2000, "2,000 rows")]
)
def test_a_noun_follows_its_number(number: int, told: str) -> None:
    assert counted(number, "row") == told


def test_a_plural_that_is_no_s_is_told() -> None:
    assert [counted(number, "entry", "entries") for number in (0, 1, 12)] == ["0 entries", "1 entry", "12 entries"]


def test_a_verb_follows_a_number_that_stands_elsewhere() -> None:
    assert [fitting(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("posted", "whole", "seconds", "told"),
    [
        (5000, 5000, 2.0, " in 2.0 s (2,500 rows/s)"),
        (4652, 5000, 2.0, ", 4,652 of them in 2.0 s (2,326 rows/s)"),
        (1, 1, 0.0, " in 0.0 s (1,000 rows/s)"),
        (0, 2, 0.1, ", all of them posted before"),
        (0, 1, 0.1, ", posted before"),
        (0, 0, 0.1, ""),
    ],
)
def test_a_pace_is_of_what_a_run_posted(posted: int, whole: int, seconds: float, told: str) -> None:
    assert pace(posted, whole, seconds, "rows") == told
