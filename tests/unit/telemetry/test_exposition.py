"""Series as Prometheus and OpenMetrics text."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

from tests import require
from tokenctl.telemetry import catalog, exposition
from tokenctl.telemetry.catalog import ALL
from tokenctl.telemetry.series import Series, with_present

STORED = [
    Series(catalog.ACCOUNT_BALANCE, (), 1_005_000.5, (1, 0, 0, 0, 2, 0, 1, 0, 3)),
    Series(catalog.BATCH_LAST_SUCCESS, ("daily",), 1_763_877_900.25),
    Series(catalog.DB_QUERIES, ("balance", "lock-held"), 1.0),
    Series(catalog.DB_QUERIES, ("balance", "ok"), 1_204.0),
]
GOLDEN = """\
# HELP tokenctl_account_balance_tokens Balances of accounts as they were asked for.
# TYPE tokenctl_account_balance_tokens histogram
tokenctl_account_balance_tokens_bucket{le="0.0"} 1.0
tokenctl_account_balance_tokens_bucket{le="10.0"} 1.0
tokenctl_account_balance_tokens_bucket{le="100.0"} 1.0
tokenctl_account_balance_tokens_bucket{le="1000.0"} 1.0
tokenctl_account_balance_tokens_bucket{le="10000.0"} 3.0
tokenctl_account_balance_tokens_bucket{le="100000.0"} 3.0
tokenctl_account_balance_tokens_bucket{le="1e+06"} 4.0
tokenctl_account_balance_tokens_bucket{le="1e+07"} 4.0
tokenctl_account_balance_tokens_bucket{le="+Inf"} 7.0
tokenctl_account_balance_tokens_count 7.0
tokenctl_account_balance_tokens_sum 1.0050005e+06
# HELP tokenctl_batch_last_success_timestamp_seconds When the job last succeeded, in Unix time.
# TYPE tokenctl_batch_last_success_timestamp_seconds gauge
tokenctl_batch_last_success_timestamp_seconds{job="daily"} 1.76387790025e+09
# HELP tokenctl_breaker_state 1 for the state that a circuit breaker is in, else 0.
# TYPE tokenctl_breaker_state gauge
tokenctl_breaker_state{breaker="gemini",state="closed"} 0.0
tokenctl_breaker_state{breaker="gemini",state="half_open"} 1.0
tokenctl_breaker_state{breaker="gemini",state="open"} 0.0
# HELP tokenctl_build_info Always 1; the label says which tokenctl this is.
# TYPE tokenctl_build_info gauge
tokenctl_build_info{version="1.2.3"} 1.0
# HELP tokenctl_db_queries_total Calls to the database.
# TYPE tokenctl_db_queries_total counter
tokenctl_db_queries_total{operation="balance",outcome="lock-held"} 1.0
tokenctl_db_queries_total{operation="balance",outcome="ok"} 1204.0
"""


def present() -> list[Series]:
    return with_present(STORED, version="1.2.3", breakers=[("gemini", "half_open")])


def one_of_each() -> list[Series]:
    """A series of every metric there is."""
    found = []
    for metric in ALL.values():
        counts = tuple(range(len(metric.buckets) + 1)) if metric.buckets else ()
        found.append(Series(metric, tuple("abcdefgh"[: len(metric.labels)]), 12.5, counts))
    return with_present(found, version="1.2.3", breakers=[("db", "open"), ("gemini", "closed")])


def test_the_text_format() -> None:
    assert exposition.prometheus(present()) == GOLDEN


def test_openmetrics_differs_in_names_of_counters_and_in_its_end() -> None:
    counter = "tokenctl_db_queries"
    expected = GOLDEN.replace(f"HELP {counter}_total", f"HELP {counter}").replace(
        f"TYPE {counter}_total", f"TYPE {counter}"
    )
    assert exposition.openmetrics(present()) == expected + "# EOF\n"


def test_a_pushed_series_keeps_its_job_beside_the_pushing_one() -> None:
    assert exposition.pushed(present()) == GOLDEN.replace('{job="daily"}', '{exported_job="daily"}')


def test_no_series_says_when_it_was_created() -> None:
    for text in (exposition.prometheus(one_of_each()), exposition.openmetrics(one_of_each())):
        assert "_created" not in text


def test_both_formats_are_understood_and_hold_the_same() -> None:
    text = {family.name: family for family in prometheus_families(exposition.prometheus(one_of_each()))}
    # The parser of OpenMetrics is strict: it refuses what is out of order, twice, or misnamed.
    strict = {family.name: family for family in openmetrics_families(exposition.openmetrics(one_of_each()))}  # type: ignore[no-untyped-call]
    assert len(text) == len(ALL)
    assert text.keys() == strict.keys()
    for name, family in text.items():
        assert family.type == strict[name].type
        assert [(s.name, s.labels, s.value) for s in family.samples] == [
            (s.name, s.labels, s.value) for s in strict[name].samples
        ]


def test_promtool_finds_nothing_to_say() -> None:
    promtool = require.tool("promtool", package="prometheus")
    for text in (GOLDEN, exposition.prometheus(one_of_each())):
        ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(operation=VALUES, outcome=VALUES, count=st.integers(0, 2**53))
def test_any_label_comes_back(operation: str, outcome: str, count: int) -> None:
    series = [Series(catalog.DB_QUERIES, (operation, outcome), float(count))]
    (family,) = prometheus_families(exposition.prometheus(series))
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"operation": operation, "outcome": outcome}, count)
    (strict,) = openmetrics_families(exposition.openmetrics(series))  # type: ignore[no-untyped-call]
    assert strict.samples[0].labels == sample.labels


@given(st.lists(st.integers(0, 2**40), min_size=9, max_size=9))
def test_buckets_are_cumulated_exactly(counts: list[int]) -> None:
    (family,) = prometheus_families(exposition.prometheus([Series(catalog.ACCOUNT_BALANCE, (), 1.5, tuple(counts))]))
    buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
    assert buckets == [sum(counts[: place + 1]) for place in range(9)]
    assert {s.name[31:]: s.value for s in family.samples[-2:]} == {"_count": sum(counts), "_sum": 1.5}
