"""The catalogue of metrics, and every call in the program that measures one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenctl.telemetry import catalog
from tokenctl.telemetry.catalog import ALL, Metric, reason_label

PACKAGE = Path(__file__).parents[3] / "tokenctl"
CONSTANTS = {name: value for name, value in vars(catalog).items() if isinstance(value, Metric)}
KINDS = {"count": {"counter"}, "set": {"gauge"}, "rise": {"gauge"}, "observe": {"histogram"}}
NUMBERS = {"count": {"amount"}, "set": {"value"}, "rise": {"value"}, "observe": {"value"}}


@pytest.mark.parametrize("metric", ALL.values(), ids=ALL)
def test_a_metric_is_named_and_explained(metric: Metric) -> None:
    assert re.fullmatch(r"tokenctl_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.help.endswith(".")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(ms|milliseconds|count|sum|bucket|created)\b", metric.name)


@pytest.mark.parametrize("metric", ALL.values(), ids=ALL)
def test_labels_are_few_and_none_is_a_user(metric: Metric) -> None:
    assert len(metric.labels) <= 2
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    assert not {"user", "account", "key", "le", "metric", "value", "amount"} & set(metric.labels)


@pytest.mark.parametrize("metric", ALL.values(), ids=ALL)
def test_only_histograms_have_buckets_and_theirs_rise(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(bound >= 0 for bound in metric.buckets)


def test_all_has_every_constant_by_its_name() -> None:
    assert list(ALL.values()) == list(CONSTANTS.values())
    assert all(ALL[metric.name] is metric for metric in ALL.values())


def test_an_unlisted_reason_is_other() -> None:
    assert reason_label("goodwill", {"goodwill", "outage"}) == "goodwill"
    assert reason_label("whim", {"goodwill", "outage"}) == "other"
    assert reason_label("goodwill", None) == "other"


def measurements(source: str) -> Iterator[tuple[ast.Call, str, Metric]]:
    """The calls of Metrics' methods in a module, with the method's name and the metric."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first = node.args[0]
            name = first.attr if isinstance(first, ast.Attribute) else getattr(first, "id", None)
            if node.func.attr in KINDS and name in CONSTANTS:
                yield node, node.func.attr, CONSTANTS[name]


def mistakes(source: str) -> list[str]:
    """What is wrong with the measurements in a module."""
    found = []
    for call, method, metric in measurements(source):
        labels = {str(keyword.arg) for keyword in call.keywords} - NUMBERS[method]
        wanted = set(metric.labels)
        number = call.args[1] if len(call.args) > 1 else None
        if labels != wanted:
            found.append(f"line {call.lineno}: {metric.name} has the labels {sorted(wanted)}")
        if metric.kind not in KINDS[method]:
            found.append(f"line {call.lineno}: {metric.name} is a {metric.kind}")
        if method == "count" and isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub):
            found.append(f"line {call.lineno}: {metric.name} only rises")
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_measurement_fits_its_metric(file: Path) -> None:
    """At run time it would be dropped and counted, which nobody might see."""
    assert mistakes(file.read_text(encoding="utf-8")) == []


def test_measurements_are_found_and_mistakes_too() -> None:
    assert sum(len(list(measurements(file.read_text(encoding="utf-8")))) for file in FILES) >= 10
    assert mistakes("metrics.count(catalog.BALANCE_CHECKS, source='db')") == []
    assert mistakes("metrics.count(BALANCE_CHECKS, amount=2, source='db')") == []
    for wrong in (
        "metrics.count(catalog.BALANCE_CHECKS)",
        "metrics.count(catalog.BALANCE_CHECKS, source='db', user='u')",
        "metrics.count(catalog.BALANCE_CHECKS, -1, source='db')",
        "metrics.count(catalog.BALANCE_CHECKS, **labels)",
        "metrics.set(catalog.BALANCE_CHECKS, 1, source='db')",
        "metrics.count(catalog.GEMINI_REQUEST_DURATION, quality=q, outcome=o)",
    ):
        assert len(mistakes(wrong)) == 1, wrong
