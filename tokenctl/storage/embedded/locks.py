"""Two locks of the kernel, which frees them whatever becomes of their holder.

`start.lock` is held by the process that starts or stops the server. `server.lock` is
held by the server itself, handed down as an open file: as long as any of its
processes lives the lock is taken. That is true in another container too, where a
pid in postmaster.pid means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from tokenctl.errors import LockHeld

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S = 0.01


@contextlib.contextmanager
def exclusive(path: Path, *, deadline: float) -> Iterator[None]:
    """Hold the lock at `path`; LockHeld, naming the holder, when it is not free by `deadline`."""
    while (descriptor := try_hold(path)) is None:
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"{_holder(path)} is starting or stopping the embedded database ({path}).",
                hint="Try again when it is done, or end that process: its lock goes with it.",
            )
        time.sleep(_POLL_S)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def try_hold(path: Path) -> int | None:
    """An open descriptor that holds the lock at `path`, made when missing; None when it is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if _locked(descriptor, fcntl.LOCK_EX) and _still_at(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Whether anybody holds the lock at `path`; a missing file is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the file we locked: it may have been removed while we waited."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    pid = path.read_text(encoding="utf-8", errors="replace").strip()
    return f"Process {pid}" if pid else "Another process"
