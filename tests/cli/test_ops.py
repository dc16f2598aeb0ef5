"""What ops/ offers: the units and rules are accepted, and every command line in it does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import require
from tests.cli.running import ROOT, Cli, shell
from tokenctl.errors import TryLater
from tokenctl.telemetry import catalog

OPS = ROOT / "ops"
UNITS = ["tokenctl-import@daily.service", "tokenctl-verify.service", "tokenctl-metrics.service"]
TIMERS = ["tokenctl-import@daily.timer", "tokenctl-verify.timer", "tokenctl-metrics.timer"]


def analyze(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the units in `folder`; it needs no running systemd."""
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_LOG_TARGET": "console"}
    program = require.tool("systemd-analyze", package="systemd")
    return subprocess.run(
        [program, *argv], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that this machine has."""
    folder = tmp_path / "units"
    shutil.copytree(OPS / "systemd", folder)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text().replace("/usr/local/bin/tokenctl", "/bin/true"))
    return folder


def test_systemd_takes_the_units(units: Path) -> None:
    got = analyze(units, "verify", "--man=no", *(f"./{name}" for name in [*UNITS, *TIMERS]))
    assert (got.returncode, got.stderr) == (0, "")
    shared = units / "tokenctl-.service.d/surroundings.conf"
    shared.write_text(shared.read_text().replace("ProtectSystem=strict", "ProtectSysten=strict"))
    assert "ProtectSysten" in analyze(units, "verify", "--man=no", f"./{UNITS[1]}").stderr


@pytest.mark.parametrize("unit", UNITS)
def test_what_a_unit_may_do_is_little(units: Path, unit: str) -> None:
    got = analyze(units, "security", "--offline=true", "--no-pager", "--threshold=20", unit)  # 2.0 of 10
    assert got.returncode == 0, got.stdout


def test_systemd_s_name_for_try_later_is_ours(units: Path) -> None:
    assert re.search(
        rf"^TEMPFAIL +{TryLater.exit_code} ", analyze(units, "exit-status", "TEMPFAIL").stdout, re.MULTILINE
    )


def commands() -> list[str]:
    """Every command line of the units and of the crontab, as a line of sh."""
    services = "\n".join(path.read_text() for path in sorted((OPS / "systemd").glob("*.service")))
    started = [line.replace("/usr/local/bin/", "") for line in re.findall(r"^ExecStart=(.*)", services, re.MULTILINE)]
    lines = (OPS / "crontab").read_text().splitlines()
    jobs = [line for line in lines if line and not line.startswith("#") and not re.match(r"[A-Z]+[A-Z_]*=", line)]
    assert [job for job in jobs if not re.match(r"([0-9*/]+ +){5}\S", job) or re.search(r"(?<!\\)%", job)] == []
    return [line.replace("%i", "daily") for line in started] + [job.split(None, 5)[5] for job in jobs]


def test_every_command_line_does_its_work_in_silence(cli: Cli, tmp_path: Path) -> None:
    cli.login("batch1")
    (tmp_path / "daily.csv").write_text("user_id,amount,reason,idempotency_key\nu_9,50,goodwill,daily:1\n")
    lines = commands()
    assert [line.split()[1] for line in lines if line.startswith("tokenctl ")] == [
        "batch-import", "metrics", "verify", "verify", "metrics", "health",
    ]  # fmt: skip
    for line in lines:
        here = line.replace("/srv/tokenctl", str(tmp_path))
        got = shell(here.replace("/var/lib/prometheus/node-exporter", str(tmp_path)))
        assert (line, got.code, got.text, got.err) == (line, 0, "", "")
    assert cli.balance("u_9") == 50
    written = (tmp_path / "tokenctl.prom").read_text()
    assert 'tokenctl_batch_rows{job="batch-import",result="replayed"}' in written


def test_cron_s_import_waits_for_a_file_and_tells_of_a_bad_one(cli: Cli, tmp_path: Path) -> None:
    (line,) = (line.replace("/srv/tokenctl", str(tmp_path)) for line in commands() if line.startswith("test ! -e"))
    cli.login("batch1")
    assert (shell(line).code, shell(line).err) == (0, "")
    (tmp_path / "daily.csv").write_text("user_id,amount,reason,idempotency_key\nu_9,1.5,goodwill,daily:1\n")
    got = shell(line)
    assert got.code != 0
    assert "daily.csv:2: amount:" in got.err
    cli.patch.setenv("TOKENCTL_DATABASE_URL", "postgresql://127.0.0.1:1/x?connect_timeout=1")
    assert shell(line.replace("--quiet", "--quiet --timeout 1")).err != ""


def test_prometheus_takes_the_rules_and_they_fire(tmp_path: Path) -> None:
    promtool = require.tool("promtool", package="prometheus")
    rules = OPS / "prometheus" / "tokenctl.rules.yml"
    cases = tmp_path / "cases.yml"
    cases.write_text(CASES.format(rules=rules))
    for argv in (["check", "rules", str(rules)], ["test", "rules", str(cases)]):
        done = subprocess.run([promtool, *argv], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    names = set(re.findall(r"\btokenctl_[a-z_]+", "\n".join(re.findall("expr: (.*)", rules.read_text()))))
    assert names
    assert names <= set(catalog.ALL)


CASES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1h
    input_series:
      - {{series: 'tokenctl_batch_last_success_timestamp_seconds{{job="batch-import"}}', values: '0+0x60'}}
      - {{series: 'tokenctl_batch_rows{{job="batch-import",result="rejected"}}', values: '3+0x60'}}
      - {{series: 'tokenctl_batch_rows{{job="batch-import",result="applied"}}', values: '9+0x60'}}
      - {{series: 'tokenctl_verify_findings{{scope="all"}}', values: '0+0x10 1+0x50'}}
      - {{series: 'tokenctl_verify_last_success_timestamp_seconds{{scope="all"}}', values: '0+0x60'}}
    alert_rule_test:
      - {{eval_time: 25h, alertname: TokenctlImportOverdue, exp_alerts: []}}
      - {{eval_time: 25h, alertname: TokenctlVerifyOverdue, exp_alerts: []}}
      - {{eval_time: 5h, alertname: TokenctlLedgerBroken, exp_alerts: []}}
    promql_expr_test:
      - expr: count(ALERTS{{alertname="TokenctlImportOverdue"}})
        eval_time: 27h
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname="TokenctlImportRejectsRows"}})
        eval_time: 1h
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname="TokenctlLedgerBroken"}})
        eval_time: 12h
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname="TokenctlVerifyOverdue"}})
        eval_time: 51h
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname=~"Tokenctl.*Never"}})
        eval_time: 60h
        exp_samples: []
  - interval: 1h
    input_series:
      - {{series: 'tokenctl_batch_rows{{job="batch-import",result="rejected"}}', values: '3+0x60'}}
      - {{series: 'tokenctl_verify_last_success_timestamp_seconds{{scope="user"}}', values: '0+0x60'}}
    promql_expr_test:
      - expr: count(ALERTS{{alertname=~"Tokenctl.*Never",alertstate="firing"}})
        eval_time: 25h
        exp_samples: []
      - expr: count(ALERTS{{alertname="TokenctlImportNever",alertstate="firing"}})
        eval_time: 27h
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname="TokenctlVerifyNever",alertstate="firing"}})
        eval_time: 51h
        exp_samples: [{{value: 1}}]
  - interval: 1m
    input_series:
      - {{series: 'tokenctl_breaker_state{{breaker="db:1",state="open"}}', values: '0 1 1 1 1 1 1 1 1 1'}}
      - {{series: 'tokenctl_breaker_state{{breaker="db:1",state="closed"}}', values: '1+0x10'}}
      - {{series: 'node_textfile_mtime_seconds{{file="/x/tokenctl.prom"}}', values: '0+0x20'}}
    alert_rule_test:
      - {{eval_time: 3m, alertname: TokenctlMetricsStale, exp_alerts: []}}
    promql_expr_test:
      - expr: count(ALERTS{{alertname="TokenctlBreakerOpen",alertstate="firing"}})
        eval_time: 4m
        exp_samples: []
      - expr: count(ALERTS{{alertname="TokenctlBreakerOpen",alertstate="firing"}})
        eval_time: 7m
        exp_samples: [{{value: 1}}]
      - expr: count(ALERTS{{alertname="TokenctlMetricsStale"}})
        eval_time: 16m
        exp_samples: [{{value: 1}}]
"""


def test_the_image_has_what_it_copies_and_no_root() -> None:
    lines = re.sub(r" \\\n", " ", (OPS / "Containerfile").read_text()).splitlines()
    steps = [line.split() for line in lines if line and not line.startswith("#")]
    copied = [source for step in steps if step[0] == "COPY" and "--from" not in step[1] for source in step[1:-1]]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    # What the wheel is made of, as pyproject.toml names it.
    assert {"pyproject.toml", "README.md", "LICENSE", "tokenctl", "sql", "completions", "man"} <= set(copied)
    users = [step[1] for step in steps if step[0] == "USER"]
    assert users
    assert "0" not in users[-1].split(":")
    assert "root" not in users
    (installing,) = (" ".join(step) for step in steps if "pip --python" in " ".join(step))
    assert "--no-index" in installing
    assert "--compile" in installing
    (fetching,) = (" ".join(step) for step in steps if "pip download" in " ".join(step))
    assert "--require-hashes" in fetching
