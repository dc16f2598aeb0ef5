"""Several processes count into one file, and some of them are killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.waiting import until
from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import SCHEMA, Metrics

PROCESSES = 8
ENOUGH_S = 60.0
# Each flush is acknowledged with a line; the last line says what could not be written.
COUNTING = """
import sys
from pathlib import Path
from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import SCHEMA, Metrics

file, name, flushes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kept = Metrics(StateFile(file, SCHEMA, busy_s=30.0))
for number in range(flushes):
    kept.count(catalog.BALANCE_CHECKS, source="shared")
    kept.count(catalog.BREAKER_REFUSALS, breaker=name)
    kept.observe(catalog.ACCOUNT_BALANCE, number % 20)
    why = kept.flush()
    print(why or "kept", flush=True)
"""

HOLDING = """
import sys
from pathlib import Path
from tokenctl.statefile import StateFile
from tokenctl.telemetry.metrics import SCHEMA

with StateFile(Path(sys.argv[1]), SCHEMA).transaction() as connection:
    connection.execute("INSERT INTO series VALUES ('tokenctl_account_balance_tokens', '[]', 7)")
    print("holding", flush=True)
    input()
"""


def start(file: Path, name: str, flushes: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", COUNTING, str(file), name, str(flushes)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(file: Path) -> dict[tuple[str, ...], tuple[float, int]]:
    """Value and number of observations by the metric's name and labels."""
    found = Metrics(StateFile(file, SCHEMA)).stored()
    return {(one.metric.name, *one.labels): (one.value, one.count) for one in found}


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    file, flushes = tmp_path / "state" / "metrics.db", 200
    running = [start(file, str(number), flushes) for number in range(PROCESSES)]
    ended = [one.communicate(timeout=ENOUGH_S) for one in running]
    assert [(out.split(), err) for out, err in ended] == [(["kept"] * flushes, "")] * PROCESSES
    found, total = stored(file), PROCESSES * flushes
    assert found[(catalog.BALANCE_CHECKS.name, "shared")] == (total, 0)
    assert found[(catalog.ACCOUNT_BALANCE.name,)] == (total * 9.5, total)
    for number in range(PROCESSES):
        assert found[(catalog.BREAKER_REFUSALS.name, str(number))] == (flushes, 0)


def test_after_kill_9_the_file_has_what_was_acknowledged(tmp_path: Path) -> None:
    file = tmp_path / "state" / "metrics.db"
    acknowledged: dict[str, int] = {}
    for batch in range(5):
        running = {f"{batch}.{number}": start(file, f"{batch}.{number}", 1_000_000) for number in range(4)}
        for number, (name, process) in enumerate(running.items()):
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5 + 7 * number)]
            process.kill()
            with process:  # closes its pipes and waits
                lines += process.stdout.readlines()
            assert {line for line in lines if line.endswith("\n")} == {"kept\n"}
            acknowledged[name] = lines.count("kept\n")
    found = stored(file)
    kept = {name: int(found[(catalog.BREAKER_REFUSALS.name, name)][0]) for name in acknowledged}
    # A process may die after its flush and before it says so: one more than acknowledged, never one less.
    assert {count - acknowledged[name] for name, count in kept.items()} <= {0, 1}
    total = sum(kept.values())
    assert found[(catalog.BALANCE_CHECKS.name, "shared")] == (total, 0)
    assert found[(catalog.ACCOUNT_BALANCE.name,)][1] == total
    with StateFile(file, SCHEMA).transaction() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_killed_writer_holds_nobody_up(tmp_path: Path) -> None:
    file = tmp_path / "state" / "metrics.db"
    argv = [sys.executable, "-c", HOLDING, str(file)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    process.kill()
    process.communicate(timeout=ENOUGH_S)
    kept = Metrics(StateFile(file, SCHEMA))

    def flushed() -> bool:
        kept.count(catalog.BALANCE_CHECKS, source="db")
        return kept.flush() is None

    until(flushed, "the killed writer's lock is gone")
    assert stored(file) == {(catalog.BALANCE_CHECKS.name, "db"): (1, 0)}
