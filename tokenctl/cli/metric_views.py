"""What metrics look like: JSON, a table of numbers, and bars for what was timed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate

from tokenctl.output import Bars, Cell, Column, Count, Schema, Table, TypedDict, View, text
from tokenctl.telemetry.catalog import BREAKER_STATE, PREFIX
from tokenctl.telemetry.series import Series

#: From here on people need no fraction.
_ROUND = 100
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
#: Of fewer observations the bounds of a bucket say nothing: of one it would be all three, and fit no mean.
_FEWEST = 20


class BucketData(TypedDict):
    """How many were at most `le`, cumulated; null has no bound."""

    le: float | None
    count: Count


class HistogramData(TypedDict):
    """A distribution; quantiles are estimated from the buckets, and null of fewer than 20 observations."""

    count: Count
    sum: float
    p50: float | None
    p95: float | None
    p99: float | None
    buckets: list[BucketData]


class SeriesData(TypedDict):
    """One series under its name for Prometheus: a counter's or gauge's `value`, or a `histogram`."""

    name: str
    type: str
    labels: dict[str, str]
    value: float | None
    histogram: HistogramData | None


METRICS = Schema("tokenctl.metrics.v1", list[SeriesData])


def view(series: Sequence[Series]) -> View[list[SeriesData]]:
    """All series; JSON has the names as Prometheus knows them, the table has them without their prefix."""
    columns = (Column("METRIC"), Column("LABELS"), Column("VALUE", number=True))
    rows = [(_name(one), " ".join(one.labels), _cell(one)) for one in series if _in_table(one)]
    bars = [_bars(one) for one in series if one.count]
    return View(METRICS, [_data(one) for one in series], Table(columns, rows), bars=bars)


def _in_table(one: Series) -> bool:
    """Histograms are drawn; of a breaker's states people want to see the one that it is in."""
    return one.metric.kind != "histogram" and (one.metric is not BREAKER_STATE or one.value != 0)


def _data(one: Series) -> SeriesData:
    histogram: HistogramData | None = None
    if one.metric.kind == "histogram":
        bounds = [*one.metric.buckets, None]  # JSON has no infinity: the last bucket has no bound
        cumulated = zip(bounds, accumulate(one.counts), strict=True)
        p50, p95, p99 = (one.quantile(share) if one.count >= _FEWEST else None for _, share in _QUANTILES)
        histogram = {
            "count": one.count,
            "sum": _number(one.value),
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "buckets": [{"le": bound, "count": count} for bound, count in cumulated],
        }
    return {
        "name": one.metric.name,
        "type": one.metric.kind,
        "labels": dict(zip(one.metric.labels, one.labels, strict=True)),
        "value": None if histogram else _number(one.value),
        "histogram": histogram,
    }


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _name(one: Series) -> str:
    return one.metric.name.removeprefix(PREFIX)


def _cell(one: Series) -> Cell:
    if one.metric.name.endswith("_timestamp_seconds"):
        try:
            return datetime.fromtimestamp(one.value, UTC)
        except (OverflowError, ValueError):  # a time that no calendar has
            return str(one.value)
    return _shown(one, one.value)


def _bars(one: Series) -> Bars:
    """From the first range in which anything was to the last."""
    used = [place for place, count in enumerate(one.counts) if count]
    bounds = [_shown(one, bound) for bound in one.metric.buckets]
    labels = [*(f"up to {bound}" for bound in bounds), f"over {bounds[-1]}"]
    rows = list(zip(labels, one.counts, strict=True))[used[0] : used[-1] + 1]
    facts = [f"mean {_shown(one, one.mean or 0)}"]
    if one.count >= _FEWEST:
        facts += [f"{name} {_quantile(one, share)}" for name, share in _QUANTILES]
    return Bars(" ".join([_name(one), *one.labels]), [f"{text.count(one.count)} in all", *facts], rows)


def _quantile(one: Series, share: float) -> str:
    value, last = one.quantile(share) or 0, one.metric.buckets[-1]
    above = share * one.count > one.count - one.counts[-1]
    return f"over {_shown(one, last)}" if above else _shown(one, value)


def _shown(one: Series, value: float) -> str:
    if one.metric.name.endswith("_seconds"):
        return _duration(value)
    return f"{value:,.0f}" if value.is_integer() or value >= _ROUND else f"{value:.3g}"


def _duration(seconds: float) -> str:
    for unit, size_s in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size_s and (unit == "s" or seconds >= 2 * size_s):
            return f"{_digits(seconds / size_s)} {unit}"
    return f"{_digits(seconds * 1000)} ms" if seconds else "0 s"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= _ROUND else f"{value:.3g}"
