"""A file for node_exporter's textfile collector, replaced in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from tokenctl.errors import CannotCreate, OutputFailed

#: node_exporter is another user; what it reads is in no way secret.
_MODE = 0o644


def write(path: Path, text: str) -> None:
    """Make `text` the content of `path`, mode 0644 whatever the umask: a reader sees the old file or the new one.

    Raises CannotCreate when no file can be made there, OutputFailed when it cannot be
    written. Either way the old file stays, and nothing else is left behind.
    """
    _check(path)
    try:
        # Not named *.prom: node_exporter must not read it half written.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _cannot_create(path, error) from error
    temporary = Path(name)
    try:
        _fill(descriptor, text, path)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_create(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # the file is there; whether it outlives a power cut is of no matter in a minute
        _sync_folder(path.parent)


def _check(path: Path) -> None:
    """Refuse what must not be replaced by a file, such as /dev/stdout."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_create(path, error) from error
    if not stat.S_ISREG(mode):
        raise CannotCreate(f"{path} is there and is no ordinary file", hint="name the file itself")


def _fill(descriptor: int, text: str, path: Path) -> None:
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(descriptor, _MODE)
            os.fsync(descriptor)
    except OSError as error:
        raise OutputFailed(
            f"{path} could not be written ({error.strerror})", hint="the old file is unchanged"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_create(path: Path, error: OSError) -> CannotCreate:
    return CannotCreate(f"{path} cannot be made: {error.strerror}", hint="its folder must exist and be yours to write")
