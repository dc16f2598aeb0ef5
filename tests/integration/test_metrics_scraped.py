"""What Prometheus's own programs make of the metrics: node_exporter and the Pushgateway."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import require
from tests.cli.running import run
from tests.waiting import until
from tokenctl import __version__
from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import SCHEMA, Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def state(home: Path) -> StateFile:
    """What the processes that this test starts will show."""
    return StateFile(home / "state" / "tokenctl" / "metrics.db", SCHEMA)


def fill(state: StateFile) -> None:
    kept = Metrics(state)
    kept.count(catalog.DB_QUERIES, 3, operation="balance", outcome="ok")
    for seconds in (0.002, 0.004, 7.0):
        kept.observe(catalog.DB_QUERY_DURATION, seconds, operation="balance")
    for number, job in enumerate(("daily", "weekly")):
        kept.set(catalog.BATCH_LAST_SUCCESS, 1_763_877_900.25 + number, job=job)
    assert kept.flush() is None


@contextmanager
def serving(*argv: str) -> Iterator[str]:
    """Run the server with a port of its own; yields the URL of its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    process = subprocess.Popen([*argv, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(f"http://{address}/metrics"), f"{argv[0]} answers")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return bool(scraped(url))
    except urllib.error.URLError:
        return False


def scraped(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 — a server of ours
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def series(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_node_exporter_reads_the_file(state: StateFile, tmp_path: Path) -> None:
    exporter = require.tool("prometheus-node-exporter")
    fill(state)
    file = tmp_path / "tokenctl.prom"
    only = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={tmp_path}")
    with serving(exporter, *only) as url:
        assert run("metrics", "--textfile", str(file)).code == 0
        found = scraped(f"{url}/metrics")
    assert found[series("node_textfile_scrape_error")] == 0
    assert series("node_textfile_mtime_seconds", file=str(file)) in found
    assert found[series("tokenctl_build_info", version=__version__)] == 1
    assert found[series("tokenctl_db_queries_total", operation="balance", outcome="ok")] == 3
    assert found[series("tokenctl_db_query_duration_seconds_bucket", operation="balance", le="0.005")] == 2
    assert found[series("tokenctl_db_query_duration_seconds_count", operation="balance")] == 3
    assert found[series("tokenctl_batch_last_success_timestamp_seconds", job="daily")] == 1_763_877_900.25


def test_the_pushgateway_keeps_what_is_pushed_and_nothing_older(state: StateFile) -> None:
    pushgateway = require.tool("prometheus-pushgateway")
    with serving(pushgateway) as url:
        push = ("metrics", "--push", url, "--job", "nightly")
        fill(state)
        ran = run(*push)
        assert (ran.code, ran.out, ran.err) == (0, b"", "")
        first = scraped(f"{url}/metrics")
        with state.transaction() as connection:  # as if a series had ended
            connection.execute("DELETE FROM series WHERE metric = ?", (catalog.DB_QUERIES.name,))
        assert run(*push).code == 0
        second = scraped(f"{url}/metrics")
    ours = {"instance": "", "job": "nightly"}
    queries = series("tokenctl_db_queries_total", operation="balance", outcome="ok", **ours)
    assert first[series("tokenctl_build_info", version=__version__, **ours)] == 1
    assert first[queries] == 3
    assert queries not in second
    for number, job in enumerate(("daily", "weekly")):  # both are there: the pushing job took nobody's place
        last = series("tokenctl_batch_last_success_timestamp_seconds", exported_job=job, **ours)
        assert first[last] == second[last] == 1_763_877_900.25 + number
    assert second[series("push_failure_time_seconds", **ours)] == 0


def test_a_gateway_that_has_gone_is_unavailable() -> None:
    pushgateway = require.tool("prometheus-pushgateway")
    with serving(pushgateway) as url:
        pass
    ran = run("metrics", "--push", url, "--job", "nightly")
    assert (ran.code, ran.out) == (69, b"")
    assert f"{url} cannot be reached: Connection refused" in ran.err
