"""A file of lines that several processes write, kept under a size: `<name>`, and before it `<name>.1`.

A line is one write to a file opened for appending, so lines never mix and writers do not
wait for each other. Who finds the file full renames it, under a lock that the others wait for
at most a moment; they then see another file under the name and go over to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

# O_NONBLOCK: a pipe without a reader must not stop us; the last byte is read, hence O_RDWR.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: How often a line is written again because the file it went to was rotated away twice meanwhile.
_TRIES = 10
#: How often the lock is asked for, and how long apart, in seconds. Who rotates needs less than a
#: millisecond; on a busy machine it may have to wait for its turn, and a stopped one never ends.
_ASKS = 100
_PAUSE_S = 0.002


class LogFile:
    """Appends lines to `path` and its predecessor; what fails is told once, and then nothing is written."""

    def __init__(self, path: str, max_bytes: int, *, complain: Callable[[str], None]) -> None:
        """Open nothing yet. Each file is kept under `max_bytes`, but for a line or so of every process."""
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._complain = complain
        self._fd: int | None = None
        self._broken = False
        self._asks = _ASKS

    def append(self, line: str) -> None:
        """Write one line of ASCII and its end; never raises for what is wrong with the file."""
        if self._broken:
            return
        try:
            self._append(line.encode("ascii") + b"\n")
        except OSError as error:
            self._broken = True
            self.close()
            self._complain(f"tokenctl: nothing is logged: {self._path}: {_reason(error)}")

    def close(self) -> None:
        """Close what is open."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _append(self, data: bytes) -> None:
        for _ in range(_TRIES):
            fd = self._ready(len(data))
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if os.fstat(fd).st_nlink:  # otherwise it was thrown away while we wrote
                return

    def _ready(self, coming: int) -> int:
        """The descriptor of the file that has the name now and room for `coming` bytes."""
        fd = self._open() if self._fd is None else self._fd
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and not self._is_named(found):
            fd = self._open()
            found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size and found.st_size + coming > self._max_bytes:
            fd = self._rotated(fd)
        return fd

    def _rotated(self, fd: int) -> int:
        """Make room; when the lock does not come, the old file takes the line, wherever it is put."""
        if not self._locked(fd):
            return fd
        # Whoever holds the lock of the file under the name is the only one to rename it.
        if self._is_named(os.fstat(fd)):
            self._path.rename(f"{self._path}.1")
        return self._open()  # closing the old one gives up its lock

    def _locked(self, fd: int) -> bool:
        for _ in range(self._asks):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE_S)
            else:
                return True
        self._asks = 1  # a process that was stopped while it rotated is waited for once
        return False

    def _is_named(self, found: os.stat_result) -> bool:
        try:
            named = self._path.lstat()
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino)

    def _open(self) -> int:
        """Open the file that has the name, made with mode 0600, and its folder with 0700."""
        self.close()
        try:
            fd = os.open(self._path, _FLAGS, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, _FLAGS, 0o600)
        self._fd = fd
        found = _demand_file(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
            os.write(fd, b"\n")  # a full disk cut the last line short; the next one must not continue it
        return fd


def trouble(path: str) -> str | None:
    """Why no line could be kept in `path`, with nothing made or written; None when nothing shows."""
    try:
        fd = os.open(path, _FLAGS & ~os.O_CREAT)
        try:
            _demand_file(fd)
            os.write(fd, b"")
        finally:
            os.close(fd)
    except FileNotFoundError:
        there = next(folder for folder in Path(path).absolute().parents if os.path.lexists(folder))
        return None if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else f"it cannot be made in {there}"
    except OSError as error:
        return _reason(error)
    return None


def _demand_file(fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        raise OSError(errno.EINVAL, "it is no file")
    return found


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link; name the file itself, or - for standard error"
    return error.strerror or str(error)
