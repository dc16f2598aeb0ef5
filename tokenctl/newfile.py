"""A file that takes its place in one step: whoever reads it sees the old one or the whole new one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tokenctl.errors import CannotCreate, OutputFailed


@contextlib.contextmanager
def replacing(path: Path, *, mode: int) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file `path` once the block has ended well; `mode` holds whatever the umask.

    Raises CannotCreate when no file can be made there, OutputFailed when it cannot be
    written. However the block ends otherwise, the old file stays, and nothing else is left
    behind; only a kill leaves a hidden `.tmp` file.
    """
    _check(path)
    try:
        # Not the name with something behind it: node_exporter must not read *.prom half written.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _cannot_create(path, error) from error
    temporary = Path(name)
    try:
        with _filling(path), os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        try:
            temporary.replace(path)
        except OSError as error:
            raise _cannot_create(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the file is there; only a power cut in this moment could lose it
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


@contextlib.contextmanager
def _filling(path: Path) -> Iterator[None]:
    try:
        yield
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
