"""Counting in memory and adding it to the file."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog, metrics
from tokenctl.telemetry.metrics import MAX_LABEL_CHARACTERS, MAX_SERIES, SCHEMA, Metrics
from tokenctl.telemetry.series import Series


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state" / "metrics.db", SCHEMA)


def stored(state: StateFile) -> dict[tuple[str, ...], float]:
    """The values in the file by the metric's name and labels."""
    return {(one.metric.name, *one.labels): one.value for one in Metrics(state).stored()}


def only(state: StateFile, metric: catalog.Metric) -> Series:
    (found,) = [one for one in Metrics(state).stored() if one.metric is metric]
    return found


def test_what_is_counted_is_in_the_file_after_a_flush(state: StateFile) -> None:
    kept = Metrics(state)
    kept.count(catalog.BALANCE_CHECKS, source="db")
    kept.count(catalog.BALANCE_CHECKS, source="db")
    kept.count(catalog.BONUS_GRANTED_TOKENS, amount=9_007_199_254_740_991, reason="goodwill")
    kept.set(catalog.BATCH_ROWS, value=7, job="batch-import", result="applied")
    assert stored(state) == {}
    assert kept.flush() is None
    assert stored(state) == {
        ("tokenctl_balance_checks_total", "db"): 2,
        ("tokenctl_bonus_granted_tokens_total", "goodwill"): 9_007_199_254_740_991,
        ("tokenctl_batch_rows", "batch-import", "applied"): 7,
    }


def test_a_second_flush_adds_only_what_is_new(state: StateFile) -> None:
    first, second = Metrics(state), Metrics(state)
    for kept, amount, rows in ((first, 1, 5), (second, 10, 3), (first, 100, 4)):
        kept.count(catalog.BALANCE_CHECKS, amount, source="db")
        kept.set(catalog.BATCH_ROWS, rows, job="j", result="applied")
        assert kept.flush() is None
        assert kept.flush() is None
    assert stored(state) == {
        ("tokenctl_balance_checks_total", "db"): 111,
        ("tokenctl_batch_rows", "j", "applied"): 4,  # a gauge is what was said last
    }


def test_what_rises_keeps_the_greatest_value(state: StateFile) -> None:
    for values, greatest in (((5.0, 3.0), 5.0), ((4.0,), 5.0), ((6.0,), 6.0)):
        kept = Metrics(state)
        for value in values:
            kept.rise(catalog.BATCH_LAST_SUCCESS, value, job="j")
        assert kept.flush() is None
        assert stored(state) == {("tokenctl_batch_last_success_timestamp_seconds", "j"): greatest}


def test_without_numbers_no_file_is_made(state: StateFile) -> None:
    assert Metrics(state).flush() is None
    assert not state.path.parent.exists()


def test_without_a_file_everything_is_forgotten() -> None:
    kept = Metrics(None)
    kept.count(catalog.BALANCE_CHECKS, source="db")
    assert kept.flush() is None
    assert kept.stored() == []


def test_a_bucket_holds_what_is_up_to_its_bound(state: StateFile) -> None:
    kept = Metrics(state)
    for value in (0, 0.5, 10, 10.5, 10_000_000, 10_000_001, 1e300):
        kept.observe(catalog.ACCOUNT_BALANCE, value)
    assert kept.flush() is None
    kept.observe(catalog.ACCOUNT_BALANCE, 100)
    assert kept.flush() is None
    found = only(state, catalog.ACCOUNT_BALANCE)
    assert found.counts == (1, 2, 2, 0, 0, 0, 0, 1, 2)
    assert found.count == 8
    assert found.value == pytest.approx(1e300)


MISUSES: dict[str, Callable[[Metrics], None]] = {
    "a label too few": lambda m: m.count(catalog.BALANCE_CHECKS),
    "a label too many": lambda m: m.count(catalog.BALANCE_CHECKS, source="db", user="u_42"),
    "another label": lambda m: m.count(catalog.BALANCE_CHECKS, origin="db"),
    "a counter that falls": lambda m: m.count(catalog.BALANCE_CHECKS, -1, source="db"),
    "a counter that is set": lambda m: m.set(catalog.BALANCE_CHECKS, 1, source="db"),
    "a gauge that is counted": lambda m: m.count(catalog.BATCH_LAST_RUN, 1, job="j"),
    "a histogram that is counted": lambda m: m.count(catalog.ACCOUNT_BALANCE),
    "a negative observation": lambda m: m.observe(catalog.ACCOUNT_BALANCE, -1),
    "infinity": lambda m: m.observe(catalog.ACCOUNT_BALANCE, math.inf),
    "no number": lambda m: m.set(catalog.BATCH_LAST_RUN, math.nan, job="j"),
}


@pytest.mark.parametrize("wrong", MISUSES.values(), ids=MISUSES.keys())
def test_what_does_not_fit_is_dropped_and_counted(state: StateFile, wrong: Callable[[Metrics], None]) -> None:
    kept = Metrics(state)
    wrong(kept)
    assert kept.flush() is None
    assert stored(state) == {("tokenctl_metrics_dropped_total", "misuse"): 1}


def test_the_file_keeps_so_many_series_and_no_more(state: StateFile) -> None:
    kept = Metrics(state)
    kept.count(catalog.BALANCE_CHECKS, source="known")
    kept.flush()
    for number in range(MAX_SERIES + 4):
        kept.count(catalog.BREAKER_REFUSALS, breaker=str(number))
    kept.set(catalog.BATCH_LAST_RUN, 1, job="late")
    kept.observe(catalog.DB_QUERY_DURATION, 1, operation="late")
    kept.count(catalog.BALANCE_CHECKS, source="known")
    assert kept.flush() is None
    found = stored(state)
    assert found[("tokenctl_balance_checks_total", "known")] == 2
    # One was there, so one fewer has room, and the gauge and the histogram have none.
    assert found.pop(("tokenctl_metrics_dropped_total", "limit")) == 4 + 1 + 2
    assert len(found) == MAX_SERIES
    with state.transaction(write=False) as connection:
        assert connection.execute("SELECT count(*) FROM buckets").fetchone() == (0,)


def test_a_label_is_short_text_that_everyone_can_read(state: StateFile) -> None:
    kept = Metrics(state)
    kept.count(catalog.BREAKER_REFUSALS, breaker="x" * 1000)
    kept.count(catalog.BREAKER_REFUSALS, breaker="\ud800")
    kept.count(catalog.BREAKER_REFUSALS, breaker="\udfff")
    kept.count(catalog.BREAKER_REFUSALS, breaker='söz "日本" \\ \n')
    assert kept.flush() is None
    name = "tokenctl_breaker_refusals_total"
    assert stored(state) == {(name, "x" * MAX_LABEL_CHARACTERS): 1, (name, "?"): 2, (name, 'söz "日本" \\ \n'): 1}


def test_threads_lose_nothing(state: StateFile) -> None:
    kept = Metrics(state)

    def work() -> None:
        for _ in range(2000):
            kept.count(catalog.BALANCE_CHECKS, source="db")
            kept.observe(catalog.ACCOUNT_BALANCE, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert kept.flush() is None
    finally:
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join()
    kept.flush()
    assert only(state, catalog.BALANCE_CHECKS).value == 16_000
    assert only(state, catalog.ACCOUNT_BALANCE).counts[1] == 16_000


def test_a_thread_adds_while_no_other_does(state: StateFile) -> None:
    """An interpreter may go on with another thread between reading a number and writing the sum."""
    kept = Metrics(state)
    reading, added = threading.Event(), threading.Event()

    class Slow(float):
        def __radd__(self, before: float) -> float:
            reading.set()
            added.wait(0.05)  # in vain, as long as the other thread has to wait for us
            return before + 1.0

    def other() -> None:
        reading.wait()
        kept.count(catalog.BALANCE_CHECKS, 10, source="db")
        added.set()

    thread = threading.Thread(target=other)
    thread.start()
    kept.count(catalog.BALANCE_CHECKS, Slow(1), source="db")
    thread.join()
    kept.flush()
    assert stored(state) == {("tokenctl_balance_checks_total", "db"): 11}


def test_a_flush_that_cannot_write_says_why_and_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    kept = Metrics(StateFile(tmp_path / "state" / "metrics.db", SCHEMA))
    kept.count(catalog.BALANCE_CHECKS, source="db")
    assert str(tmp_path / "state") in (kept.flush() or "")
    assert kept.flush() is None  # the numbers are lost, so that none can be added twice


def test_a_locked_file_is_not_waited_for_long(state: StateFile) -> None:
    Metrics(state).stored()
    kept = Metrics(StateFile(state.path, SCHEMA, busy_s=0.0))
    kept.count(catalog.BALANCE_CHECKS, source="db")
    with state.transaction():
        assert "locked" in (kept.flush() or "")
    assert stored(state) == {}


def test_a_damaged_file_costs_one_flush(state: StateFile) -> None:
    state.path.parent.mkdir(mode=0o700)
    state.path.write_bytes(b"this is no database at all" * 100)
    kept = Metrics(state)
    kept.count(catalog.BALANCE_CHECKS, source="db")
    assert kept.flush()
    kept.count(catalog.BALANCE_CHECKS, source="db")
    assert kept.flush() is None
    assert stored(state) == {("tokenctl_balance_checks_total", "db"): 1}


def test_a_flush_is_one_transaction(state: StateFile) -> None:
    kept = Metrics(state)
    kept.count(catalog.BALANCE_CHECKS, source="db")
    kept.flush()
    with state.transaction() as connection:
        connection.execute("DROP TABLE buckets")
    kept.count(catalog.BALANCE_CHECKS, source="db")
    kept.observe(catalog.ACCOUNT_BALANCE, 1)
    assert "buckets" in (kept.flush() or "")
    names = [f"{state.path}", f"{state.path}.bad"]  # a file without its tables may have been put aside
    (left,) = [name for name in names if Path(name).exists()]
    with sqlite3.connect(left) as connection:
        assert connection.execute("SELECT value FROM series").fetchall() == [(1.0,)]


def test_what_another_version_or_a_person_wrote_is_passed_over(state: StateFile) -> None:
    kept = Metrics(state)
    kept.observe(catalog.ACCOUNT_BALANCE, 5)
    kept.flush()
    strange = [
        ("tokenctl_gone_total", "[]", 1.0),
        ("tokenctl_balance_checks_total", "[]", 1.0),
        ("tokenctl_balance_checks_total", '["a", "b"]', 1.0),
        ("tokenctl_balance_checks_total", '{"db": 1}', 1.0),
        ("tokenctl_balance_checks_total", "[1]", 1.0),
        ("tokenctl_balance_checks_total", "7", 1.0),
        ("tokenctl_balance_checks_total", "nothing", 1.0),
        ("tokenctl_balance_checks_total", r'["\ud800"]', 1.0),
        ("tokenctl_balance_checks_total", '["text"]', "text"),
        ("tokenctl_balance_checks_total", '["endless"]', math.inf),
    ]
    with state.transaction() as connection:
        connection.executemany("INSERT INTO series VALUES (?, ?, ?)", strange)
        connection.executemany(
            "INSERT INTO buckets VALUES ('tokenctl_account_balance_tokens', '[]', ?, ?)",
            # Bounds that this version lacks count towards the next one above.
            [(3.5, 2), (20_000_000.0, 4), (11.0, -5), (12.0, "many"), ("wide", 1)],
        )
    (found,) = Metrics(state).stored()
    assert found == Series(catalog.ACCOUNT_BALANCE, (), 5.0, (0, 3, 0, 0, 0, 0, 0, 0, 4))


def test_measuring_imports_nothing_that_costs() -> None:
    program = (
        "import sys; from tokenctl.telemetry import catalog; from tokenctl.telemetry.metrics import Metrics\n"
        "kept = Metrics(None)\n"
        "kept.count(catalog.BALANCE_CHECKS, source='db'); kept.observe(catalog.ACCOUNT_BALANCE, 1)\n"
        "kept.flush(); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert metrics.__name__ in ran.stdout.split()
    assert {"sqlite3", "prometheus_client", "tokenctl.statefile"} & set(ran.stdout.split()) == set()
