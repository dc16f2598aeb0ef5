"""Which processes are our server's, and how to end them and nobody else.

A pid in postmaster.pid outlives its process and is handed out again, so a process is
ours only when its own command line or working directory names our data directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_POLL_S = 0.01
_PS_TIMEOUT_S = 5


def recorded_pid(data_dir: Path) -> int | None:
    """The pid in postmaster.pid, whoever has it now; None without that file."""
    return _first_line_pid(data_dir / "postmaster.pid")


def forget_recycled(lock_file: Path, data_dir: Path) -> None:
    """Remove a lock file of a killed server whose pid now belongs to some other process.

    PostgreSQL looks only whether the pid lives, and would refuse to start. Where the
    pid is dead it clears up by itself, more thoroughly than we could. Call it only
    with the server lock held: then no server of ours lives.
    """
    pid = _first_line_pid(lock_file)
    if pid is not None and _lives(pid) and not is_postmaster(pid, data_dir):
        lock_file.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _first_line_pid(file_path: Path) -> int | None:
    try:
        # Root may read here in a dropped user's directory: no link is followed, no FIFO waited for.
        descriptor = os.open(file_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        first = file.readline(32).strip()
    return int(first) if first.isdigit() and int(first) > 1 else None


def postmaster(data_dir: Path) -> int | None:
    """The pid of the live server of `data_dir`, or None."""
    pid = recorded_pid(data_dir)
    return pid if pid is not None and is_postmaster(pid, data_dir) else None


def is_postmaster(pid: int, data_dir: Path) -> bool:
    """Whether `pid` is a postgres server that was started for `data_dir` or works in it."""
    return _is_server(pid, command_line(pid), data_dir)


def postmasters(data_dir: Path) -> list[int]:
    """Every live server that was ever started for `data_dir`, also when that data is gone since."""
    return [pid for pid, command in _all_commands() if _is_server(pid, command, data_dir)]


def end(pid: int, data_dir: Path, how: signal.Signals, *, deadline: float) -> bool:
    """Signal the server `pid` of `data_dir` and wait; whether it is gone by `deadline`.

    The process is pinned before it is looked at, so a pid that changes hands in
    between never gets the signal.
    """
    with _pinned(pid) as pinned:
        if not is_postmaster(pid, data_dir):
            return True
        with contextlib.suppress(ProcessLookupError):
            if pinned is None:
                os.kill(pid, how)
            else:
                signal.pidfd_send_signal(pinned, how)
        gone = _gone(pid, pinned, deadline)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # it may be our own child, started by this very process
    return gone


def end_orphans(data_dir: Path) -> None:
    """Make those processes quit whose server was killed.

    They end by themselves when they next wait for something. One in the middle of a
    long computation would lock the data until then, though its client is long gone.
    """
    family = {pid: command for pid, command in _all_commands() if _works_in(pid, data_dir)}
    for pid, command in family.items():
        if command.startswith("postgres: ") and _parent(pid) not in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)


def command_line(pid: int) -> str:
    """The arguments of `pid`, joined by blanks; empty when it is gone."""
    if not (_PROC / "self").exists():
        return _ps("-o", "command=", "-p", str(pid))
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(raw.rstrip(b"\0").replace(b"\0", b" "))


def _all_commands() -> Iterator[tuple[int, str]]:
    if (_PROC / "self").exists():
        for entry in _PROC.glob("[0-9]*"):
            yield int(entry.name), command_line(int(entry.name))
        return
    for line in _ps("-A", "-o", "pid=,command=").splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), command.strip()


def _ps(*options: str) -> str:
    """What ps says, for systems without /proc."""
    done = subprocess.run(["/bin/ps", "-ww", *options], capture_output=True, timeout=_PS_TIMEOUT_S, check=False)
    return os.fsdecode(done.stdout).strip()


def _is_server(pid: int, command: str, data_dir: Path) -> bool:
    program, _, arguments = command.partition(" -D ")
    if Path(program).name != "postgres":
        return False
    # Blanks part the arguments, and a path may hold some: what follows ours must be an option.
    named = f"{arguments} -".startswith(f"{data_dir} -")
    return named or _works_in(pid, data_dir)


def _works_in(pid: int, data_dir: Path) -> bool:
    """By the working directory; where that cannot be read it is no evidence."""
    try:
        return str((_PROC / str(pid) / "cwd").readlink()) == str(data_dir)
    except OSError:
        return False


def _parent(pid: int) -> int:
    """The parent's pid; 0 when `pid` is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return 0
    # The name in parentheses may hold anything; the parent is the second field after it.
    return int(text.rpartition(")")[2].split()[1])


@contextlib.contextmanager
def _pinned(pid: int) -> Iterator[int | None]:
    """A pidfd, which keeps meaning this process; None where there is no such thing."""
    try:
        descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:  # gone already, or a kernel or a sandbox without pidfd
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _gone(pid: int, pinned: int | None, deadline: float) -> bool:
    """Wait until the process has ended; whether it has by `deadline`."""
    if pinned is not None:
        poll = select.poll()
        poll.register(pinned, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    while command_line(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
