"""`tokenctl metrics`: each format, the file, the push, and what refuses."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests import require
from tests.cli.running import (
    ENOUGH_S,
    TOKENCTL,
    Cli,
    CommandLine,
    environment,
    on_terminal,
    shell,
    without_escapes,
)
from tests.cli.test_help import imported
from tokenctl import __version__
from tokenctl.settings import Flags, load
from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import SCHEMA, Metrics

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def file() -> Path:
    """Where the test's commands keep their numbers."""
    return load(dict(os.environ), Flags()).state_dir / "metrics.db"


@pytest.fixture
def kept(file: Path) -> Metrics:
    """Some numbers, as earlier commands would have left them."""
    kept = Metrics(StateFile(file, SCHEMA))
    kept.count(catalog.DB_QUERIES, 1204, operation="balance", outcome="ok")
    for seconds in (0.002, 0.004, 0.004, 20.0):
        kept.observe(catalog.DB_QUERY_DURATION, seconds, operation="balance")
    kept.set(catalog.BATCH_LAST_SUCCESS, 1_763_877_900.25, job="daily")
    kept.set(catalog.BATCH_LAST_DURATION, 4.67, job="daily")
    kept.count(catalog.BREAKER_TRANSITIONS, breaker="db:1", state="open")
    assert kept.flush() is None
    return kept


def test_a_command_leaves_its_numbers(cli: Cli) -> None:
    assert cli.grant("u1", 500).code == 0
    assert cli("balance", "u1").code == 0
    text = cli("metrics").text
    assert 'tokenctl_operations_total{operation="grant-bonus",outcome="ok"} 1.0\n' in text
    assert 'tokenctl_operation_duration_seconds_count{operation="balance"} 1.0\n' in text
    assert 'tokenctl_bonus_granted_tokens_total{reason="other"} 500.0\n' in text
    assert not re.search(r'\bu1\b|_ms\b|user(_id)?="', text)
    assert "metrics_dropped" not in text


@pytest.mark.usefixtures("kept")
def test_without_a_terminal_it_is_prometheus_text(offline: CommandLine) -> None:
    for argv in (("metrics",), ("metrics", "--format", "prometheus")):
        got = offline(*argv)
        assert (got.code, got.err) == (0, "")
        lines = got.text.splitlines()
        assert 'tokenctl_db_queries_total{operation="balance",outcome="ok"} 1204.0' in lines
        assert f'tokenctl_build_info{{version="{__version__}"}} 1.0' in lines
        assert 'tokenctl_breaker_state{breaker="db:1",state="closed"} 1.0' in lines
        assert all(line.startswith(("# HELP tokenctl_", "# TYPE tokenctl_", "tokenctl_")) for line in lines)


@pytest.mark.usefixtures("kept")
def test_promtool_has_nothing_to_say() -> None:
    require.tool("promtool", package="prometheus")
    got = shell("tokenctl metrics | promtool check metrics")
    assert (got.code, got.out, got.err) == (0, b"", "")


@pytest.mark.usefixtures("kept")
def test_openmetrics(offline: CommandLine) -> None:
    text = offline("metrics", "--format", "openmetrics").text
    assert "# TYPE tokenctl_db_queries counter\n" in text
    assert text.endswith("# EOF\n")


@pytest.mark.usefixtures("kept")
def test_json(offline: CommandLine) -> None:
    got = offline("metrics", "--json").json
    assert got["schema"] == "tokenctl.metrics.v1"
    assert {"request_id", "profile", "took_ms", "warnings"} <= set(got["meta"])
    assert all(list(one) == ["name", "type", "labels", "value", "histogram"] for one in got["data"])
    found = {one["name"]: one for one in got["data"]}
    assert found["tokenctl_db_queries_total"] == {
        "name": "tokenctl_db_queries_total",
        "type": "counter",
        "labels": {"operation": "balance", "outcome": "ok"},
        "value": 1204,
        "histogram": None,
    }
    durations = found["tokenctl_db_query_duration_seconds"]
    assert durations["value"] is None
    buckets = durations["histogram"].pop("buckets")
    assert [(one["le"], one["count"]) for one in buckets[:3]] == [(0.001, 0), (0.0025, 1), (0.005, 3)]
    assert buckets[-1] == {"le": None, "count": 4}
    assert durations["histogram"] == {
        "count": 4, "sum": pytest.approx(20.01), "p50": None, "p95": None, "p99": None,
    }  # fmt: skip
    assert found["tokenctl_batch_last_success_timestamp_seconds"]["value"] == 1_763_877_900.25


TABLE = """\
 METRIC                                 LABELS                       VALUE
───────────────────────────────────────────────────────────────────────────
 batch_last_duration_seconds            daily                       4.67 s
 batch_last_success_timestamp_seconds   daily         2025-11-23 06:05 UTC
 breaker_state                          db:1 closed                      1
 breaker_transitions_total              db:1 open                        1
 build_info                             VERSION                          1
 db_queries_total                       balance ok                   1,204

 db_query_duration_seconds balance
 4 in all, mean 5 s
   up to 2.5 ms  1  █████████████████████████
   up to 5 ms    2  ██████████████████████████████████████████████████
   up to 10 ms   0
   up to 25 ms   0
   up to 50 ms   0
   up to 100 ms  0
   up to 250 ms  0
   up to 500 ms  0
   up to 1 s     0
   up to 2.5 s   0
   up to 5 s     0
   up to 10 s    0
   over 10 s     1  █████████████████████████
"""


@pytest.mark.usefixtures("kept")
def test_on_a_terminal_it_is_a_table_and_bars() -> None:
    got = on_terminal("metrics", "--no-color", columns=100)
    assert (got.code, got.text) == (0, TABLE.replace("VERSION", __version__.ljust(7)))
    coloured = on_terminal("metrics", "--no-input", columns=100).text
    assert "\x1b[1mdb_query_duration_seconds balance\x1b[0m" in coloured


@pytest.mark.usefixtures("kept")
def test_a_narrow_terminal_loses_nothing() -> None:
    lines = without_escapes(on_terminal("metrics", columns=60).text).splitlines()
    assert max(map(len, lines)) <= 60
    assert " METRIC  batch_last_success_timestamp_seconds" in lines
    assert " VALUE   2025-11-23 06:05 UTC" in lines
    assert "   over 10 s     1  " + "█" * 20 in lines


def test_before_anything_was_counted(offline: CommandLine) -> None:
    got = offline("metrics")
    assert got.code == 0
    assert [line.split("{")[0] for line in got.text.splitlines()][-1] == "tokenctl_build_info"
    assert len(got.text.splitlines()) == 3


@pytest.mark.parametrize("form", ["tsv", "jsonl", "value", "xml"])
def test_other_formats_are_refused(offline: CommandLine, form: str) -> None:
    got = offline("metrics", "--format", form)
    assert (got.code, got.out) == (2, b"")
    assert "one of table, prometheus, json, openmetrics" in got.err + got.text


@pytest.mark.parametrize("form", ["prometheus", "openmetrics"])
def test_no_other_command_has_these_formats(offline: CommandLine, form: str) -> None:
    for command in (("balance", "u1"), ("db", "status"), ("reverse", "u1:1", "--reason", "mistake", "--yes")):
        got = offline(*command, "--format", form)
        assert (got.code, got.out) == (2, b"")
        assert f"'{form}' (--format) is not a format of this command" in got.err
    offline.patch.setenv("TOKENCTL_FORMAT", form)  # a wish for every command, and passed over here
    assert offline("balance", "u1").code == 69
    assert offline("metrics").code == 0


def test_a_format_for_every_command_that_metrics_lacks_is_passed_over(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_FORMAT", "tsv")
    assert "# TYPE tokenctl_build_info gauge" in offline("metrics").text
    assert offline("metrics", "--json", "--format", "prometheus").code == 2


def test_nothing_is_loaded_that_is_not_needed() -> None:
    heavy = {"psycopg", "diskcache", "google", "rich"}
    assert imported("metrics") & (heavy | {"prometheus_client"}) == {"prometheus_client"}
    assert imported("metrics", "--json") & (heavy | {"prometheus_client"}) == set()


@pytest.mark.usefixtures("kept")
def test_the_file_is_whole_readable_and_alone_and_nothing_is_printed(tmp_path: Path) -> None:
    target = tmp_path / "t.prom"
    got = shell(f"umask 077; tokenctl metrics --textfile {target}", TOKENCTL_FORMAT="json")
    assert (got.code, got.out, got.err) == (0, b"", "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["t.prom"]
    lines = target.read_text(encoding="utf-8").splitlines()
    assert 'tokenctl_db_queries_total{operation="balance",outcome="ok"} 1204.0' in lines
    assert not [line for line in lines if not re.fullmatch(r"# .*|\w+(\{.*\})? [0-9.e+]+", line)]  # no timestamps


def test_a_file_is_renamed_into_its_place(tmp_path: Path) -> None:
    strace = require.tool("strace")
    argv = [strace, "-f", "-e", "trace=rename,renameat,renameat2", *TOKENCTL, "metrics", "--textfile", "t.prom"]
    ran = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=ENOUGH_S, env=environment(), cwd=tmp_path
    )
    assert re.search(r'rename.*"(?:\S*/)?\.t\.prom-\w+\.tmp".*"t\.prom"\) = 0', ran.stderr)
    assert [one.name for one in tmp_path.iterdir()] == ["t.prom"]


def test_where_no_file_can_be_made(offline: CommandLine, tmp_path: Path) -> None:
    for place in ("no/t.prom", "."):
        got = offline("metrics", "--textfile", str(tmp_path / place))
        assert (got.code, got.out) == (73, b"")
        assert str(tmp_path) in got.err
    assert offline("metrics", "--textfile", "").code == 2


def test_output_that_cannot_be_written() -> None:
    assert shell("tokenctl metrics > /dev/full").code == 74


def test_a_full_disk_is_told_and_leaves_nothing(offline: CommandLine, tmp_path: Path) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    offline.patch.setattr(os, "fsync", full)
    got = offline("metrics", "--textfile", str(tmp_path / "t.prom"))
    assert (got.code, got.out) == (74, b"")
    assert "t.prom could not be written (No space left on device)" in got.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--format=prometheus", "--format=json", "--json"])
def test_a_file_or_a_push_has_one_format(offline: CommandLine, tmp_path: Path, option: str) -> None:
    assert offline("metrics", option, "--textfile", str(tmp_path / "t.prom")).code == 2
    assert offline("metrics", option, "--push", NOBODY, "--job", "j").code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_push_needs_both_its_options(offline: CommandLine) -> None:
    for argv in (("--push", NOBODY), ("--job", "nightly")):
        got = offline("metrics", *argv)
        assert (got.code, got.out) == (2, b"")
        assert "--push and --job belong together" in got.err


@pytest.mark.parametrize("job", ["a/b", "..", "-x", "", "ö", "a" * 129])
def test_a_job_s_name_is_a_name(offline: CommandLine, job: str) -> None:
    assert offline("metrics", "--push", NOBODY, f"--job={job}").code == 2


@pytest.mark.parametrize("more", [(), ("--json",), ("-v",)])
@pytest.mark.parametrize(
    ("url", "code"), [("http://u:S3CRET@127.0.0.1:1", 69), ("ftp://u:S3CRET@h", 2), ("http://u@[S3CRET", 2)]
)
def test_a_password_is_never_shown(
    offline: CommandLine, tmp_path: Path, url: str, code: int, more: tuple[str, ...]
) -> None:
    offline.patch.setenv("TOKENCTL_LOG_FILE", str(tmp_path / "log"))
    offline.patch.setenv("TOKENCTL_DEBUG", "1")
    got = offline("metrics", "--push", url, "--job", "nightly", *more)
    assert got.code == (2 if "--json" in more else code)
    logged = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert "S3CRET" not in got.text + got.err + logged


def test_nobody_takes_the_push(offline: CommandLine) -> None:
    got = offline("metrics", "--push", NOBODY, "--job", "nightly")
    assert (got.code, got.out) == (69, b"")
    assert f"{NOBODY} cannot be reached: Connection refused" in got.err


def test_a_silent_gateway_is_not_waited_for_beyond_the_timeout(offline: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        got = offline("metrics", "--push", url, "--job", "nightly", "--timeout", "0.1")
    assert got.code == 69
    assert "did not answer within 0.1 s" in got.err


def test_the_file_is_written_before_the_push_is_tried(offline: CommandLine, tmp_path: Path) -> None:
    target = tmp_path / "t.prom"
    assert offline("metrics", "--textfile", str(target), "--push", NOBODY, "--job", "nightly").code == 69
    assert target.exists()


def test_numbers_that_cannot_be_read(offline: CommandLine, file: Path, tmp_path: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True)
    file.write_bytes(b"no database" * 500)
    got = offline("metrics", "--textfile", str(tmp_path / "t.prom"))
    assert (got.code, got.out) == (66, b"")
    assert "metrics.db" in got.err
    assert list(tmp_path.iterdir()) == []  # an old file is better than an empty one
    assert offline("metrics").code == 0


@pytest.mark.usefixtures("kept")
def test_without_the_breakers_file_the_rest_is_shown(offline: CommandLine, file: Path) -> None:
    StateFile(file.parent / "state.db", "CREATE TABLE IF NOT EXISTS other (a)").transaction()
    (file.parent / "state.db").write_bytes(b"no database" * 500)
    got = offline("metrics")
    assert got.code == 0
    assert "breakers are left out: " in got.err
    assert "tokenctl_db_queries_total" in got.text


def test_a_breaker_that_opened_is_among_the_metrics(offline: CommandLine) -> None:
    seen = [offline("balance", "u1", "--json").problem["type"] for _ in range(5)]
    assert seen[-1] == "urn:tokenctl:problem:breaker-open"
    lines = offline("metrics").text.splitlines()
    states = {line.split('state="')[1]: line for line in lines if line.startswith("tokenctl_breaker_state{")}
    assert states.keys() in (  # half open, should this have taken longer than the breaker stays open
        {'closed"} 0.0', 'half_open"} 0.0', 'open"} 1.0'},
        {'closed"} 0.0', 'half_open"} 1.0', 'open"} 0.0'},
    )
    assert [line for line in lines if line.startswith("tokenctl_breaker_refusals_total{breaker=")]
