"""What can be told from a stored series."""

from __future__ import annotations

import pytest

from tokenctl.telemetry import catalog
from tokenctl.telemetry.series import Series, with_present


def durations(*counts: int) -> Series:
    """Durations of commands; the first buckets end at 50, 100, 250, 500 and 1000 ms."""
    rest = (0,) * (len(catalog.OPERATION_DURATION.buckets) + 1 - len(counts))
    return Series(catalog.OPERATION_DURATION, ("balance",), 2.0, (*counts, *rest))


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((4,), 0.5, 0.025),  # half way through the first bucket, which begins at zero
        ((0, 4), 0.5, 0.075),
        ((0, 4), 1.0, 0.1),
        ((0, 4), 0.0, 0.05),
        ((1, 0, 0, 1), 0.5, 0.05),  # an empty bucket is passed over
        ((1, 0, 0, 1), 0.75, 0.375),
        ((2, 2, 4), 0.95, 0.1 + 0.15 * 0.9),
    ],
)
def test_a_quantile_lies_evenly_in_its_bucket(counts: tuple[int, ...], share: float, expected: float) -> None:
    assert durations(*counts).quantile(share) == pytest.approx(expected)


def test_above_the_last_bound_nothing_is_known() -> None:
    buckets = catalog.OPERATION_DURATION.buckets
    slow = Series(catalog.OPERATION_DURATION, ("x",), 9e9, (1, *(0,) * (len(buckets) - 1), 9))
    assert slow.quantile(0.5) == buckets[-1]


def test_a_bound_of_zero_holds_zeros() -> None:
    zeros = Series(catalog.ACCOUNT_BALANCE, (), 0.0, (3, *(0,) * len(catalog.ACCOUNT_BALANCE.buckets)))
    assert zeros.quantile(0.95) == 0


def test_count_and_mean() -> None:
    assert (durations(1, 2, 1).count, durations(1, 2, 1).mean) == (4, 0.5)
    assert (durations().count, durations().mean, durations().quantile(0.5)) == (0, None, None)


def test_what_is_so_now_joins_what_is_stored() -> None:
    stored = [
        Series(catalog.OPERATIONS, ("balance", "ok"), 2.0),
        Series(catalog.BALANCE_CHECKS, ("db",), 1.0),
        Series(catalog.BUILD_INFO, ("0.0.1",), 1.0),  # nobody should have; now is what counts
        Series(catalog.BREAKER_STATE, ("db", "open"), 1.0),
    ]
    found = with_present(stored, version="1.2.3", breakers=[("gemini", "half_open"), ("db", "closed")])
    assert [(one.metric, one.labels, one.value) for one in found] == [
        (catalog.BALANCE_CHECKS, ("db",), 1.0),
        (catalog.BREAKER_STATE, ("db", "closed"), 1.0),
        (catalog.BREAKER_STATE, ("db", "half_open"), 0.0),
        (catalog.BREAKER_STATE, ("db", "open"), 0.0),
        (catalog.BREAKER_STATE, ("gemini", "closed"), 0.0),
        (catalog.BREAKER_STATE, ("gemini", "half_open"), 1.0),
        (catalog.BREAKER_STATE, ("gemini", "open"), 0.0),
        (catalog.BUILD_INFO, ("1.2.3",), 1.0),
        (catalog.OPERATIONS, ("balance", "ok"), 2.0),
    ]


def test_a_breaker_that_recovered_is_shown_as_closed() -> None:
    moves = [Series(catalog.BREAKER_TRANSITIONS, (name, "open"), 3.0) for name in ("db", "gemini")]
    found = with_present(moves, version="1", breakers=[("gemini", "open")])
    states = {one.labels: one.value for one in found if one.metric is catalog.BREAKER_STATE}
    assert [labels for labels, value in states.items() if value] == [("db", "closed"), ("gemini", "open")]
    assert len(states) == 6
