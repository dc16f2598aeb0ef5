"""The state file between processes: many at once, a full disk, a lock that is kept, kill -9."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests import waiting
from tests.processes import eight, exit_code, fork, forked
from tests.unit.words_file import names, put, words, words_file
from tokenctl import statefile
from tokenctl.statefile import Damaged, StateFile, StateUnusable


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return words_file(tmp_path)


def _fill(file: StateFile, limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        put(file, word="w" * 100_000)
    except StateUnusable:
        os._exit(7)
    os._exit(0)


@pytest.mark.parametrize("limit_bytes", [0, 1000, 40_000])
@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk(file: StateFile, limit_bytes: int, exists: bool) -> None:
    if exists:
        put(file)
    child = forked(_fill, file, limit_bytes)
    assert exit_code(child) == 7
    assert words(file) == ({"a": "one"} if exists else {})
    assert names(file.path.parent) == {"state.db"}


def test_a_lock_that_somebody_keeps_costs_one_wait(
    file: StateFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(statefile, "monotonic", lambda: now)
    hurried = words_file(tmp_path, busy_s=0.01)
    with file.transaction():
        with pytest.raises(StateUnusable, match="database is locked"):
            put(hurried)
        with pytest.raises(StateUnusable, match="was locked a moment ago"):
            put(hurried)
    with pytest.raises(StateUnusable, match="was locked a moment ago"):
        put(hurried)
    now += statefile.REST_S
    put(hurried)
    assert names(file.path.parent) == {"state.db"}


def _count(file: StateFile, times: int) -> None:
    for _ in range(times):
        with file.transaction() as connection:
            connection.execute(
                "INSERT INTO words VALUES ('n', 1) ON CONFLICT DO UPDATE SET word = CAST(word AS INTEGER) + 1"
            )


def test_eight_processes_lose_nothing(file: StateFile) -> None:
    eight(_count, file, 50)
    assert words(file) == {"n": "400"}
    assert names(file.path.parent) == {"state.db"}


def _put_at_once(file: StateFile, together: Barrier) -> None:
    together.wait(60)
    put(file, name=str(os.getpid()))


def test_eight_processes_may_all_be_the_first(tmp_path: Path) -> None:
    for attempt in range(10):
        file = words_file(tmp_path / str(attempt))
        together = fork.Barrier(8)
        eight(_put_at_once, file, together)
        assert len(words(file)) == 8
        assert names(file.path.parent) == {"state.db"}


def _write_for_ever(file: StateFile) -> None:
    while True:
        put(file, "a", "w" * 5000)
        put(file, "a", "one")


def test_kill_9_while_writing(file: StateFile) -> None:
    for round_ in range(20):
        child = forked(_write_for_ever, file)
        waiting.until(lambda: file.path.exists() and words(file), "the first write")
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        assert words(file)["a"] in ("one", "w" * 5000)
        put(file, f"after {round_}")
    assert len(words(file)) == 21
    assert not any(".bad" in name for name in names(file.path.parent))


def test_kill_9_while_it_holds_the_lock(file: StateFile) -> None:
    put(file)
    ready = fork.Event()

    def hold() -> None:
        with file.transaction() as connection:
            connection.execute("DELETE FROM words")
            ready.set()
            signal.pause()

    child = forked(hold)
    assert ready.wait(60)
    child.kill()
    assert exit_code(child) == -signal.SIGKILL
    put(file, "b")
    assert words(file) == {"a": "one", "b": "one"}


def test_what_a_killed_writer_left_is_no_part_of_the_next_file(file: StateFile) -> None:
    put(file)

    def killed() -> None:
        with file.transaction() as connection:
            connection.execute("UPDATE words SET word = 'two'")
            connection.execute("COMMIT")  # now in the write-ahead log, and nowhere else
            os.kill(os.getpid(), signal.SIGKILL)

    child = forked(killed)
    assert exit_code(child) == -signal.SIGKILL
    assert "state.db-wal" in names(file.path.parent)
    with pytest.raises(Damaged), file.transaction():
        raise Damaged("so to speak")
    assert names(file.path.parent) == {"state.db.bad"}
    assert words(file) == {}


def test_a_look_at_the_file_frees_no_lock_of_another_thread(file: StateFile) -> None:
    """Closing any descriptor of a file frees all the locks that the process holds on it, by POSIX."""
    put(file)
    with file.transaction() as connection:
        connection.execute("UPDATE words SET word = 'two'")
        words(file)
        # No fork: SQLite's own idea of our locks would go along.
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM words').fetchall()"
        subprocess.run([sys.executable, "-c", look, file.path], check=True, timeout=60)
        # Without our lock it would have thought itself the last user, and cleared away what is in use.
        assert "state.db-wal" in names(file.path.parent)


def test_the_boot_has_a_name_and_a_clock_that_does_not_run_back() -> None:
    assert statefile.boot_id() == statefile.boot_id()
    assert statefile.monotonic() <= statefile.monotonic()
