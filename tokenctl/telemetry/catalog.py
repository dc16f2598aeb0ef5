"""Every metric that tokenctl keeps: its name, help, labels, kind and buckets.

Names follow Prometheus: base units, `_total` for counters. A label has few values and
never a user's id. How to add one is in CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

PREFIX = "tokenctl_"


@dataclass(frozen=True)
class Metric:
    """One metric; `buckets` are upper bounds in the unit that ends its name, rising, without infinity."""

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}_total", text, "counter", labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}", text, "gauge", labels)


DB_QUERIES = _counter("db_queries", "Calls to the database.", "operation", "outcome")
DB_QUERY_DURATION = Metric(
    f"{PREFIX}db_query_duration_seconds",
    "How long calls to the database took.",
    "histogram",
    ("operation",),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
GEMINI_REQUEST_DURATION = Metric(
    f"{PREFIX}gemini_request_duration_seconds",
    "How long requests to Gemini took.",
    "histogram",
    ("quality", "outcome"),
    (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0),
)

GENERATIONS = _counter("generations", "Images that were asked for, by what came of it.", "quality", "outcome")
GENERATION_TOKENS = _counter("generation_tokens", "Tokens of images that were held, captured or released.", "step")
GENERATION_SMALLER = _counter(
    "generation_smaller_images", "Paid images with fewer pixels than their quality promises.", "quality"
)

BALANCE_CHECKS = _counter("balance_checks", "Balances that were asked for, by where the answer came from.", "source")
ACCOUNT_BALANCE = Metric(
    f"{PREFIX}account_balance_tokens",
    "Balances of accounts as they were asked for.",
    "histogram",
    (),
    (0.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0),
)
BONUS_GRANTS = _counter("bonus_grants", "Bonuses that were granted; replays are not counted.", "reason")
BONUS_GRANTED_TOKENS = _counter("bonus_granted_tokens", "Tokens granted as bonuses.", "reason")
BONUS_GRANT_FAILURES = _counter("bonus_grant_failures", "Bonuses that were not granted, by the error's code.", "cause")

BREAKER_STATE = _gauge("breaker_state", "1 for the state that a circuit breaker is in, else 0.", "breaker", "state")
BREAKER_TRANSITIONS = _counter("breaker_transitions", "Moves of circuit breakers to a state.", "breaker", "state")
BREAKER_REFUSALS = _counter("breaker_refusals", "Calls that an open circuit breaker refused.", "breaker")
CACHE_REQUESTS = _counter("cache_requests", "Questions to the cache, by its answer.", "namespace", "result")
RETRIES = _counter("retries", "Attempts after the first one.", "policy", "fault")
RATE_LIMIT_CHECKS = _counter("rate_limit_checks", "Questions to rate limits.", "action", "outcome")
STATE_TROUBLES = _counter("state_troubles", "Files of state that could not be used.", "what")

OPERATIONS = _counter("operations", "Commands that were run.", "operation", "outcome")
OPERATION_DURATION = Metric(
    f"{PREFIX}operation_duration_seconds",
    "How long commands took.",
    "histogram",
    ("operation",),
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)

# What a batch job's last run was like. Gauges, because an alert asks how the last run
# went and when; who sets the rows sets every result, zeros too, or an old number stays.
# A file that was imported before is no new success, and may be older than the newest: last
# success only rises.
BATCH_LAST_SUCCESS = _gauge("batch_last_success_timestamp_seconds", "When the job last succeeded, in Unix time.", "job")
BATCH_LAST_RUN = _gauge("batch_last_run_timestamp_seconds", "When the job last ended, in Unix time.", "job")
BATCH_LAST_DURATION = _gauge("batch_last_duration_seconds", "How long the job's last run took.", "job")
BATCH_ROWS = _gauge("batch_rows", "Rows of the job's last run, by what became of them.", "job", "result")

# What `verify` found last, by scope: all, or since-last (users with entries since the last seal).
VERIFY_FINDINGS = _gauge("verify_findings", "Findings of the last verify; zero when all is well.", "scope")
VERIFY_LAST_SUCCESS = _gauge(
    "verify_last_success_timestamp_seconds", "When verify last found nothing, in Unix time.", "scope"
)
VERIFY_ROWS = _counter("verify_rows", "Entries that verify looked at.", "scope")

BUILD_INFO = _gauge("build_info", "Always 1; the label says which tokenctl this is.", "version")
METRICS_DROPPED = _counter(
    "metrics_dropped",
    "Measurements that were not kept: too many series (limit), or labels and values that do not fit (misuse).",
    "cause",
)

#: Every metric by its name.
ALL: dict[str, Metric] = {metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)}


def reason_label(reason: str, listed: Collection[str] | None) -> str:
    """What a label says of a grant's reason: one that the configuration lists, else `other`.

    Reasons are free text otherwise, and every new one would be a series for ever.
    """
    return reason if listed is not None and reason in listed else "other"
