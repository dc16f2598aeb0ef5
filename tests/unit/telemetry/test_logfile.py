"""The log's file: small, private, shared by processes, and never in the way of a command."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.require import missing
from tokenctl.telemetry.logfile import LogFile

ENOUGH_S = 60
PROCESSES = 8
LINES = 300
# Begins when its standard input is closed, so that all of them begin at once.
WRITER = """
import json, sys
from tokenctl.telemetry.logfile import LogFile
path, max_bytes, me, lines = sys.argv[1], *map(int, sys.argv[2:])
file = LogFile(path, max_bytes, complain=lambda line: sys.exit(line))
file.append(json.dumps({"me": me, "n": 0, "text": ""}))
print("ready", flush=True)
sys.stdin.read()
for n in range(1, lines):
    file.append(json.dumps({"me": me, "n": n, "text": "x" * (me * n * 37 % 1500)}))
"""


@pytest.fixture
def complaints() -> list[str]:
    return []


def texts(*paths: Path) -> list[str]:
    return [line for path in paths if path.exists() for line in path.read_text().splitlines()]


def race(path: Path, max_bytes: int) -> None:
    """Eight processes write to the file at once, each its numbered lines."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(max_bytes), str(me), str(LINES)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for me in range(PROCESSES)
    ]  # fmt: skip
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()
        for writer in writers:
            assert writer.stderr is not None
            assert (writer.wait(ENOUGH_S), writer.stderr.read()) == (0, "")
    finally:
        for writer in writers:
            with contextlib.ExitStack() as closing:
                for stream in (writer.stdin, writer.stdout, writer.stderr):
                    closing.callback(stream.close if stream else int)
                writer.kill()
                writer.wait()


def numbered(path: Path) -> dict[int, list[int]]:
    """The numbers that each process's lines have, in the order in which they stand in both files."""
    found: dict[int, list[int]] = {}
    for line in texts(path.with_name("log.1"), path):
        if line:  # nothing is ever torn, so each can be read
            written = json.loads(line)
            found.setdefault(written["me"], []).append(written["n"])
    return found


def test_eight_processes_lose_no_line_over_a_rotation(tmp_path: Path) -> None:
    """The size is chosen so that there is one: both files together hold every line."""
    race(tmp_path / "log", 1_400_000)
    assert numbered(tmp_path / "log") == {me: list(range(LINES)) for me in range(PROCESSES)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_eight_processes_keep_it_small_and_leave_no_gap(tmp_path: Path) -> None:
    """With a rotation every few lines only old ones go: what is left of a process has no gap."""
    race(tmp_path / "log", 20_000)
    left = numbered(tmp_path / "log")
    assert any(numbers[-1] == LINES - 1 for numbers in left.values())
    for me, numbers in left.items():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), me
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"log", "log.1"}
    assert max(sizes.values()) < 20_000 + 2 * PROCESSES * 1_600


def test_it_rotates_into_one_predecessor(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    file = LogFile(str(path), 30, complain=complaints.append)
    for n in range(7):
        file.append(f"line {n} of ten")  # 15 bytes with its end
    assert texts(path) == ["line 6 of ten"]
    assert texts(tmp_path / "log.1") == ["line 4 of ten", "line 5 of ten"]
    file.append("x" * 100)  # longer than all may be: alone in its file
    assert texts(path) == ["x" * 100]
    assert (complaints, len(list(tmp_path.iterdir()))) == ([], 2)
    file.close()


def test_a_rotation_by_another_process_is_followed(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    file = LogFile(str(path), 1000, complain=complaints.append)
    file.append("one")
    path.rename(tmp_path / "log.1")
    file.append("two")
    path.rename(tmp_path / "log.1")
    path.write_text("another's\n")
    file.append("three")
    assert texts(path) == ["another's", "three"]
    path.unlink()
    file.append("four")
    assert (texts(path), complaints) == (["four"], [])
    file.close()


def test_a_line_that_went_into_a_file_being_thrown_away_is_written_again(
    tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    file = LogFile(str(path), 1000, complain=complaints.append)
    file.append("one")
    write = os.write

    def late(fd: int, data: bytes) -> int:
        if data == b"two\n" and texts(path) == ["one"]:
            path.unlink()  # as two rotations by others do, between our look and our write
            path.write_text("another's\n")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", late)
        file.append("two")
    assert (texts(path), complaints) == (["another's", "two"], [])
    file.close()


def test_who_holds_the_lock_is_waited_for_once(
    tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it rotated stops no other one, and no line is lost."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    path = tmp_path / "log"
    path.write_text("full\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        file = LogFile(str(path), 5, complain=complaints.append)
        file.append("meanwhile")
        assert sum(waits) == pytest.approx(0.2)
        file.append("again")
        assert sum(waits) < 0.21
        assert texts(path) == ["full", "meanwhile", "again"]
    file.append("after")
    assert (texts(path), texts(tmp_path / "log.1"), complaints) == (["after"], ["full", "meanwhile", "again"], [])
    file.close()


def test_files_and_missing_folders_are_private(tmp_path: Path, complaints: list[str]) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "logs" / "log"
    file = LogFile(str(path), 1000, complain=complaints.append)
    assert not path.parent.exists()  # nothing is made before there is a line
    file.append("x")
    file.close()
    modes = [where.stat().st_mode & 0o777 for where in (tmp_path, path.parent, path)]
    assert (modes, complaints) == ([0o755, 0o700, 0o600], [])


@pytest.mark.parametrize(
    "trap", ["link", "dangling link", "folder", "pipe", "below a file", "too long", "proc", "below a device"]
)
def test_what_is_no_file_is_told_once_and_not_touched(tmp_path: Path, complaints: list[str], trap: str) -> None:
    path, victim = tmp_path / "log", tmp_path / "victim"
    if trap == "folder":
        path.mkdir()
    elif trap == "pipe":
        os.mkfifo(path)
    elif trap == "below a file":
        victim.write_text("")
        path = victim / "log"
    elif trap == "too long":
        path = tmp_path / ("x" * 300)
    elif trap == "proc":
        path = Path("/proc/nowhere/log")
    elif trap == "below a device":
        path = Path("/dev/null/x")
    else:
        if trap == "link":
            victim.write_text("untouched")
        path.symlink_to(victim)
    before = sorted(tmp_path.iterdir())
    file = LogFile(str(path), 1000, complain=complaints.append)
    for _ in range(3):
        file.append("x")
    assert len(complaints) == 1
    assert complaints[0].startswith(f"tokenctl: nothing is logged: {path}: ")
    assert ("symbolic link" in complaints[0]) == ("link" in trap)
    assert sorted(tmp_path.iterdir()) == before
    assert trap != "link" or victim.read_text() == "untouched"


@pytest.fixture
def full() -> str:
    """A device to which nothing can be written."""
    if not Path("/dev/full").is_char_device():
        missing("this system has no /dev/full")
    return "/dev/full"


def test_a_full_disk_is_told_once(full: str, complaints: list[str]) -> None:
    file = LogFile(full, 1000, complain=complaints.append)
    file.append("x")
    file.append("x")
    assert complaints == ["tokenctl: nothing is logged: /dev/full: No space left on device"]


def test_a_line_that_a_full_disk_cut_short_spoils_no_other(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    limited = (
        "import resource, sys; from tokenctl.telemetry.logfile import LogFile;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20));"
        "file = LogFile(sys.argv[1], 1000, complain=print);"
        "[file.append(f'line {n} of ten') for n in range(3)]"
    )
    ran = subprocess.run(
        [sys.executable, "-c", limited, str(path)], capture_output=True, text=True, timeout=ENOUGH_S, check=True
    )
    assert ran.stdout == f"tokenctl: nothing is logged: {path}: No space left on device\n"
    file = LogFile(str(path), 1000, complain=complaints.append)
    file.append("whole")
    file.close()
    assert (texts(path), complaints) == (["line 0 of ten", "line 1", "whole"], [])


def test_a_place_where_nothing_can_be_renamed_ends_the_log_at_its_size(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "x").write_text("")
    file = LogFile(str(path), 5, complain=complaints.append)
    for _ in range(3):
        file.append("1234")
    assert (texts(path), len(complaints)) == (["1234"], 1)


def test_a_process_without_descriptors_goes_on(tmp_path: Path, complaints: list[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        LogFile(str(tmp_path / "log"), 5, complain=complaints.append).append("x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert complaints == [f"tokenctl: nothing is logged: {tmp_path}/log: Too many open files"]
