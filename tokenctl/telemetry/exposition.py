"""Series as Prometheus reads them: its text format, and OpenMetrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tokenctl.telemetry.catalog import Metric
from tokenctl.telemetry.series import Series

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family


def prometheus(series: Sequence[Series]) -> str:
    """The text format 0.0.4; `series` in the order of their names."""
    return generate_latest(_Stored(series)).decode()


def pushed(series: Sequence[Series]) -> str:
    """The same for a Pushgateway, which writes the pushing job over every label `job`.

    So that of the series gets the name that Prometheus itself gives it when it meets a target's.
    """
    return generate_latest(_Stored(series, {"job": "exported_job"})).decode()


def openmetrics(series: Sequence[Series]) -> str:
    """OpenMetrics 1.0; `series` in the order of their names."""
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    return encode(_Stored(series)).decode()


class _Stored(Collector):
    """A collector that has its numbers already. It knows no creation times, so no `_created` appears."""

    def __init__(self, series: Sequence[Series], other_names: Mapping[str, str] | None = None) -> None:
        """`other_names` are labels' names that are told in another way."""
        self._series = series
        self._other_names = other_names or {}

    def collect(self) -> Iterator[Family]:
        for metric, members in groupby(self._series, key=lambda one: one.metric):
            yield _family(metric, [self._other_names.get(label, label) for label in metric.labels], members)


def _family(metric: Metric, labels: Sequence[str], members: Iterable[Series]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [floatToGoString(bound) for bound in (*metric.buckets, math.inf)]  # type: ignore[no-untyped-call]
        for one in members:
            # In the file a bucket has its own observations; here each also has those below it.
            histogram.add_metric(one.labels, list(zip(bounds, accumulate(one.counts), strict=True)), one.value)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=labels)
    for one in members:
        family.add_metric(one.labels, one.value)
    return family
