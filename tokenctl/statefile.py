"""A small SQLite file that short-lived processes share: breakers, rate limits, counters.

It must never be in the way of a command. Whatever is wrong with the file or its directory
is one exception, StateUnusable, upon which callers go on without; a damaged file is
renamed once, so that the next command begins with an empty one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

#: How long to wait for other processes, in seconds; each writes for less than a millisecond.
BUSY_S = 0.25
# What SQLite says of a file that is fine and cannot be used just now, or by us.
_ENVIRONMENT = ("locked", "busy", "readonly", "unable to open", "full", "locking protocol", "disk i/o")


class StateUnusable(Exception):  # noqa: N818 — it says more than a suffix Error
    """The file cannot be used; the text says why, without a secret."""


def private_dir(path: Path) -> None:
    """Make `path` with mode 0700; close one that others could read, refuse one that they could write.

    Raises StateUnusable: it is no directory, is another user's, is writable to others, or can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StateUnusable(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StateUnusable(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise StateUnusable(f"{path} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise StateUnusable(f"{path} can be written by other users; look what is in it, then chmod 700 {path}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        with contextlib.suppress(OSError):
            path.chmod(0o700)


class StateFile:
    """The file `path`, made with `schema` when it is new. Open and close are cheap: 0.2 ms."""

    def __init__(self, path: Path, schema: str, *, busy_s: float = BUSY_S) -> None:
        """Open nothing yet. `schema` is CREATE … IF NOT EXISTS statements; `busy_s` bounds each wait, in seconds."""
        self.path = path
        self._schema = schema
        self._busy_s = busy_s

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end unless an exception leaves it.

        A writer has the file to itself from the start (BEGIN IMMEDIATE). Raises StateUnusable; a
        damaged file is put aside as `<name>.bad` first.
        """
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()  # rolls back what is not committed

    def _open(self) -> sqlite3.Connection:
        private_dir(self.path.parent)
        try:
            # Made by ourselves: no link is followed, and nobody else reads it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StateUnusable(f"{self.path}: {error.strerror}") from error
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None)
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                # WAL: readers never wait. What a power cut may lose is a few seconds of hints.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN IMMEDIATE; {self._schema}; PRAGMA user_version = 1; COMMIT;")
            connection.execute("PRAGMA synchronous = OFF")
        except (sqlite3.Error, UnicodeError) as error:
            if connection is not None:
                connection.close()
            raise self._unusable(error) from error
        return connection

    def _unusable(self, error: Exception) -> StateUnusable:
        text = str(error).lower()
        if not any(words in text for words in _ENVIRONMENT):
            self._put_aside()
        return StateUnusable(f"{self.path}: {error}")

    def _put_aside(self) -> None:
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_name(f"{self.path.name}.bad"))
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink()


def boot_id() -> str:
    """The running boot's name: monotonic times of another boot mean nothing. Empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def monotonic() -> float:
    """Seconds that never run backwards and are the same in every process of this boot."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
