"""A small SQLite file that short-lived processes share: breakers, rate limits, counters.

It must never be in the way of a command. Whatever is wrong with the file or its directory
is one exception, StateUnusable, upon which callers go on without; a damaged file is
renamed once, so that the next use begins with an empty one.
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
#: Who waited that long in vain asks nothing for as many seconds: a long import must not wait at every slice.
REST_S = 5.0
# What SQLite says of a file that is fine and cannot be used just now, or by us. All else is damage.
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_ENVIRONMENT = _BUSY | {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
# No version will ever be higher: what says so is damaged, not newer.
_LAST_VERSION = 99
_SIDE_FILES = ("-wal", "-shm", "-journal")


class StateUnusable(Exception):  # noqa: N818 — it says more than a suffix Error
    """The file cannot be used; the text says why, without a secret."""


class Damaged(StateUnusable):
    """What the file holds makes no sense. Raised inside a transaction, it puts the file aside."""


def private_dir(path: Path) -> None:
    """Make `path` with mode 0700; close one that others could read, refuse one that they could write.

    Raises StateUnusable: it is no directory, is another user's, is writable to others, or can't be made.
    """
    try:
        found = _made(path)
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


def _made(path: Path) -> os.stat_result:
    """What stands at `path`, after making it where nothing does; its parents are private too, as XDG wants."""
    try:
        return path.lstat()
    except FileNotFoundError:
        if not os.path.lexists(path.parent):
            _made(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        return path.lstat()


class StateFile:
    """The file `path`, made with `schema` when it is new. To open, read and close it takes 0.3 ms."""

    def __init__(self, path: Path, schema: str, *, version: int = 1, busy_s: float = BUSY_S) -> None:
        """Open nothing yet.

        `schema` is CREATE … IF NOT EXISTS statements, which are run again on a file of an older
        `version`; a file of a newer one is left alone. `busy_s` bounds each wait, in seconds.
        """
        self.path = path
        self._schema = schema
        self._version = version
        self._busy_s = busy_s
        self._rests_until = 0.0

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end unless an exception leaves it.

        A writer has the file to itself from the start (BEGIN IMMEDIATE). Raises StateUnusable; a
        damaged file is put aside as `<name>.bad` first.
        """
        if monotonic() < self._rests_until:
            raise StateUnusable(f"{self.path} was locked a moment ago")
        private_dir(self.path.parent)
        file = self._found() or self._create()
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect(self.path)
            self._demand_version(connection)
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        except Damaged:
            self._put_aside(file)
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._unusable(error, file) from error
        finally:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()  # rolls back what is not committed

    def _found(self) -> os.stat_result | None:
        """The file as it stands, a regular one of ours with mode 0600; None when there is none (any more).

        It is not opened for that: closing it would free the locks that another thread of ours holds on it.
        """
        try:
            found = self.path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                self._put_aside(found)
                return None
            if stat.S_IMODE(found.st_mode) != 0o600:  # noqa: PLR2004 — a mode is best read as it is
                self.path.chmod(0o600)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnusable(f"{self.path}: {error.strerror}") from error
        return found

    def _create(self) -> os.stat_result:
        """Make the file under another name, complete, and give it its own unless somebody else was first.

        So nobody ever sees half of it; and a change to WAL, in place, fails when eight processes try it at once.
        """
        new = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}.new")
        try:
            os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(self._connect(new)) as connection:
                connection.executescript(self._script())
                # WAL: readers never wait. What a power cut may lose is a few seconds of hints.
                connection.execute("PRAGMA journal_mode = WAL")
            with contextlib.suppress(FileExistsError):
                os.link(new, self.path)
            return self.path.lstat()
        except OSError as error:
            raise StateUnusable(f"{self.path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StateUnusable(f"{self.path}: {error}") from error
        finally:
            discard(new)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=self._busy_s, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _demand_version(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == self._version:
            return
        if not 1 <= found <= _LAST_VERSION:
            raise Damaged(f"{self.path} is not a state file of tokenctl")
        if found > self._version:
            raise StateUnusable(f"{self.path} was made by a newer tokenctl")
        connection.executescript(self._script())

    def _script(self) -> str:
        return f"BEGIN IMMEDIATE; {self._schema}; PRAGMA user_version = {self._version}; COMMIT;"

    def _unusable(self, error: Exception, file: os.stat_result) -> StateUnusable:
        # Absent where Python itself complains, of text that is not UTF-8 for instance.
        code = getattr(error, "sqlite_errorcode", -1) & 0xFF
        if code in _BUSY:
            self._rests_until = monotonic() + REST_S
        # A header may say "read only" by mistake; the mode is ours, so only the file system may say so.
        lies = code == sqlite3.SQLITE_READONLY and all(os.access(p, os.W_OK) for p in (self.path, self.path.parent))
        if lies or code not in _ENVIRONMENT:
            self._put_aside(file)
        return StateUnusable(f"{self.path}: {error}")

    def _put_aside(self, file: os.stat_result) -> None:
        """Rename `file` unless another process did that already; an earlier one put aside is replaced."""
        with contextlib.suppress(OSError):
            if not os.path.samestat(self.path.lstat(), file):
                return
        for suffix in _SIDE_FILES:  # first, because they would be taken for those of the next file
            discard(self.path.with_name(self.path.name + suffix))
        for name in (f"{self.path.name}.bad", f"{self.path.name}.bad-{os.urandom(4).hex()}"):
            with contextlib.suppress(OSError):  # a directory takes no file's name
                self.path.rename(self.path.with_name(name))
                return


def discard(path: Path) -> None:
    """Remove a file that is there, or not."""
    with contextlib.suppress(OSError):
        path.unlink()


def boot_id() -> str:
    """The running boot's name: monotonic times of another boot mean nothing. Empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def monotonic() -> float:
    """Seconds that never run backwards and are the same in every process of this boot."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
