"""What is told of a distribution."""

from __future__ import annotations

import pytest

from tokenctl.cli.metric_views import view
from tokenctl.telemetry import catalog
from tokenctl.telemetry.series import Series


def told(*counts: int) -> tuple[list[float | None], list[str]]:
    """The percentiles in JSON, and the facts for people; all took 3 ms."""
    counts = (0, 0, *counts)
    counts += (0,) * (len(catalog.DB_QUERY_DURATION.buckets) + 1 - len(counts))
    shown = view([Series(catalog.DB_QUERY_DURATION, ("balance",), 0.003 * sum(counts), counts)])
    histogram = shown.data[0]["histogram"]
    assert histogram is not None
    return [histogram["p50"], histogram["p95"], histogram["p99"]], list(shown.bars[0].facts)


def test_of_few_observations_no_percentile_is_told() -> None:
    """Of one that took 3 ms they were 3.75, 4.88 and 4.98 ms."""
    for few in (1, 19):
        assert told(few) == ([None, None, None], [f"{few} in all", "mean 3 ms"])


def test_of_many_they_are_estimated_from_the_buckets() -> None:
    percentiles, facts = told(20, 180)
    assert percentiles == [
        pytest.approx(0.0072, abs=1e-4),
        pytest.approx(0.0097, abs=1e-4),
        pytest.approx(0.0099, abs=1e-4),
    ]
    assert facts == ["200 in all", "mean 3 ms", "p50 7.22 ms", "p95 9.72 ms", "p99 9.94 ms"]
