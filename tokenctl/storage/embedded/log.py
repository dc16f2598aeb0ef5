"""The server's log: a file that its output goes to, kept small by whoever passes by.

The server writes to it directly. There is no process in between that could die and
leave the server writing into a closed pipe, so cutting is up to tokenctl.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_BYTES = 4 * 1024 * 1024
KEPT_BYTES = 256 * 1024


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`, which is made when missing."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def bound(path: Path) -> None:
    """Cut `path` when it passes LIMIT_BYTES; its end is kept in `<path>.old`.

    The server appends, so after the cut it goes on at the beginning. Losing a line
    that comes in between is the price. A log that cannot be cut stops nobody.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > LIMIT_BYTES:
            path.with_name(f"{path.name}.old").write_bytes(_end(path, KEPT_BYTES))
            os.truncate(path, 0)


def size(path: Path) -> int:
    """Bytes in the log so far; 0 without one."""
    return path.stat().st_size if path.exists() else 0


def last_lines(path: Path, *, since: int, count: int = 5) -> str:
    """The last lines written after the first `since` bytes, as one line."""
    with path.open("rb") as file:
        file.seek(since)
        lines = file.read(KEPT_BYTES).decode(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-count:]) or "it wrote nothing"


def _end(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(limit, path.stat().st_size), os.SEEK_END)
        return file.read(limit)
