"""diskcache without what makes it dangerous: no pickle, no side files, no settings from the disk, no long waits.

As it comes, a row of its table can run code (CVE-2025-69872), name any file to be read or
deleted, or expand without limit, and opening waits up to a minute for a locked file. Here a
row is one checksummed blob of limited length and nothing else; whatever differs is damage.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diskcache  # type: ignore[import-untyped]
from diskcache.core import ENOVAL, MODE_RAW, UNKNOWN  # type: ignore[import-untyped]

from tokenctl.statefile import StateUnusable, private_dir

#: Bytes of a row's value at most.
ROW_BYTES = 64 * 1024
#: Bytes of the whole cache; beyond it the rows that were stored first go.
SIZE_LIMIT = 16 * 1024**2
#: No file of ours grows to so many bytes; one that did is not read.
_FILE_BYTES = 4 * SIZE_LIMIT
#: Seconds that one call may wait for other processes, and the share of it that SQLite waits at a time.
BUDGET_S = 0.5
_BUSY_S = 0.05
_MAGIC = b"tkc\x01"
_HEAD = len(_MAGIC) + 4
# All that diskcache knows, so that nothing is left to what the file says.
_SETTINGS: dict[str, int | str] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",  # with "none" the size limit would not be kept
    "size_limit": SIZE_LIMIT,
    "cull_limit": 10,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # a mapped file that somebody cuts kills the process
    "sqlite_synchronous": 0,
    "disk_min_file_size": 2**31,
    "disk_pickle_protocol": 0,
}
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# What is wrong with the machine and not with the file: another run may find it well again.
_ENVIRONMENT = _BUSY | {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
}
# So too of the many input and output errors; a damaged file causes others, such as a short read.
_ENVIRONMENT_IO = frozenset({
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_NOMEM,
})  # fmt: skip
# File systems on which SQLite's shared memory does not work between machines.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs", "lustre", "gpfs"}


class Damaged(Exception):  # noqa: N818 — it says more than a suffix Error
    """The file holds what we never write."""


class _NotBegun(Exception):  # noqa: N818 — only its cause is of interest
    """A transaction could not begin, and not because others were at it."""


class SafeDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text, values are bytes with a checksum, inside the row; all else is damage."""

    def put(self, key: object) -> tuple[str, bool]:
        """The key's columns."""
        assert type(key) is str  # noqa: S101 — other keys would be pickled
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key of a row. Raises Damaged."""
        if type(key) is not str or raw != 1:
            raise Damaged("a key of another kind")
        return key

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, None, memoryview]:  # noqa: ARG002, FBT001 — diskcache's signature
        """The value's columns: size of a side file, mode, side file, blob."""
        assert type(value) is bytes  # noqa: S101 — other values would be pickled
        assert len(value) <= ROW_BYTES - _HEAD  # noqa: S101 — `fits` was not asked
        return 0, MODE_RAW, None, memoryview(_MAGIC + zlib.crc32(value).to_bytes(4, "big") + value)

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:  # noqa: FBT001 — diskcache's signature
        """The value of a row. Raises Damaged."""
        if read or mode != MODE_RAW or filename is not None or type(value) is not bytes:
            raise Damaged("a row of another kind")
        if len(value) > ROW_BYTES or not value.startswith(_MAGIC):
            raise Damaged("a value of another kind")
        if zlib.crc32(value[_HEAD:]) != int.from_bytes(value[len(_MAGIC) : _HEAD], "big"):
            raise Damaged("a wrong checksum")
        return value[_HEAD:]

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> tuple[str, str]:  # noqa: ARG002 — diskcache's signature
        """No row has a file."""
        raise Damaged("a row with a file")

    def remove(self, file_path: object) -> None:
        """Delete nothing: no row has a file, and one that names one names somebody else's."""


def fits(value: bytes) -> bool:
    """Whether a value is short enough for a row."""
    return len(value) <= ROW_BYTES - _HEAD


class Store(diskcache.Cache):  # type: ignore[misc]
    """The open cache; `limit` before each use of it."""

    def __init__(self, directory: Path) -> None:
        """Open the files in `directory`, which is ours alone; makes them when there are none."""
        self.limit()
        try:
            super().__init__(str(directory), timeout=_BUSY_S, disk=SafeDisk, **_SETTINGS)
        except BaseException:
            self.close()
            raise

    def limit(self) -> None:
        """From now on wait for others no longer than BUDGET_S seconds altogether."""
        self._until = time.monotonic() + BUDGET_S

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:  # noqa: FBT001, FBT002 — diskcache's signature
        """Take over a setting, by default the one in the file; it would become a pragma or an attribute of ours."""
        if value is not ENOVAL and (key not in _SETTINGS or _SETTINGS[key] != value):
            raise Damaged("a setting of somebody else's")
        found = super().reset(key, value, update)
        # Rows have no files, so their sizes sum to 0; another number would make room for them for ever.
        if value is ENOVAL and (type(found) is not int or (key == "size" and found)):
            raise Damaged("a wrong count")
        return found

    @property
    def _sql(self) -> Any:
        """What runs a statement. diskcache's own loops around it end with the time that `limit` gives."""
        execute = self._con.execute

        def bounded(statement: str, *values: Any) -> Any:
            try:
                return execute(statement, *values)
            except sqlite3.OperationalError as error:
                if _code(error) & 0xFF in _BUSY:
                    if time.monotonic() > self._until:
                        raise diskcache.Timeout from error
                elif statement.startswith("BEGIN"):  # diskcache would try again for ever
                    raise _NotBegun from error
                raise

        return bounded


def open_store(directory: Path) -> Store:
    """Open the cache in `directory`, made with mode 0700 if need be.

    Raises StateUnusable for a directory that cannot be trusted or used, Damaged, or what SQLite says.
    """
    for folder in (directory.parent, directory):
        private_dir(folder)
    if "$" in str(directory):
        raise StateUnusable(f"{directory}: a dollar sign would be read as a variable")
    if remote(directory):
        raise StateUnusable(f"{directory} is on a network's file system")
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # of another command, which has closed the cache since
                continue
            if not stat.S_ISREG(found.st_mode) or found.st_size > _FILE_BYTES:
                raise Damaged(f"{entry.name} is no file of ours")
    with _private_files():
        return Store(directory)


def is_environment(error: Exception, directory: Path) -> bool:
    """Whether the files in `directory` may be fine, and cannot be used just now or by us."""
    if isinstance(error, _NotBegun) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, sqlite3.Error):
        code = _code(error)
        if code & 0xFF == sqlite3.SQLITE_READONLY and code != sqlite3.SQLITE_READONLY_DBMOVED:
            return not _writable(directory)
        return code & 0xFF in _ENVIRONMENT or code in _ENVIRONMENT_IO
    return isinstance(error, (StateUnusable, OSError, MemoryError, diskcache.Timeout))


def is_busy(error: Exception) -> bool:
    """Whether others were at it for too long."""
    return isinstance(error, diskcache.Timeout) or (isinstance(error, sqlite3.Error) and _code(error) & 0xFF in _BUSY)


def damage(error: Exception) -> str:
    """What is wrong with the file, without what is in it: texts of SQLite and Python may repeat values."""
    return str(error) if isinstance(error, Damaged) else getattr(error, "sqlite_errorname", type(error).__name__)


def put_aside(directory: Path) -> None:
    """Rename a damaged cache, so that the next run begins with an empty one. One such is kept, to be looked at."""
    drop_aside(directory)
    with contextlib.suppress(OSError):
        directory.rename(directory.with_name(f"{directory.name}.bad-{int(time.time())}-{os.getpid()}"))


def drop_aside(directory: Path) -> None:
    """Delete what was put aside earlier."""
    with contextlib.suppress(OSError):
        for old in directory.parent.glob(f"{directory.name}.bad-*"):
            shutil.rmtree(old, ignore_errors=True)  # it follows no link


def remote(directory: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether `directory` is on a network's file system; False where that cannot be told."""
    device = directory.stat().st_dev
    if os.major(device):  # a disk
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(" ")
            if fields[2] == wanted:
                return fields[fields.index("-") + 1] in _REMOTE
    return False


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """What is made meanwhile can be read by nobody else."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _writable(directory: Path) -> bool:
    """Whether we may write here. A damaged header can say that nobody may, for ever."""
    return all(os.access(path, os.W_OK) for path in (directory, *directory.glob("cache.db*")))


def _code(error: sqlite3.Error) -> int:
    """SQLite's extended code; 0 for an error that Python found by itself."""
    return int(getattr(error, "sqlite_errorcode", 0))
