"""One series as it is stored, and what can be told from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenctl.telemetry.catalog import BREAKER_STATE, BREAKER_TRANSITIONS, BUILD_INFO, Metric

BREAKER_STATES = ("closed", "half_open", "open")


@dataclass(frozen=True)
class Series:
    """A metric with its labels' values, in the metric's order.

    `value` is the counter's or the gauge's; of a histogram it is the sum of what was
    observed, and `counts` has an entry for each bucket and a last one for what is above.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How often something was observed."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean of what was observed."""
        return self.value / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Below which value that share of the observations lies, as Prometheus estimates it.

        Observations are taken to lie evenly in their bucket. Above the last bound nothing is
        known, and the answer is that bound.
        """
        rank = share * self.count
        lower, below = 0.0, 0
        for upper, inside in zip(self.metric.buckets, self.counts, strict=False):
            if inside and below + inside >= rank:
                return lower + (upper - lower) * (rank - below) / inside
            lower, below = upper, below + inside
        return lower if self.count else None


def with_present(stored: Sequence[Series], *, version: str, breakers: Iterable[tuple[str, str]] = ()) -> list[Series]:
    """What is stored, and what is so now: this tokenctl's version, and the state of each breaker (name, state).

    A breaker that once moved and is not among `breakers` is closed. By name and labels.
    """
    now = (BUILD_INFO, BREAKER_STATE)
    found = [series for series in stored if series.metric not in now]
    found.append(Series(BUILD_INFO, (version,), 1.0))
    moved = [series.labels[0] for series in stored if series.metric is BREAKER_TRANSITIONS]
    for name, current in (dict.fromkeys(moved, "closed") | dict(breakers)).items():
        found += [Series(BREAKER_STATE, (name, state), float(state == current)) for state in BREAKER_STATES]
    return sorted(found, key=lambda series: (series.metric.name, series.labels))
