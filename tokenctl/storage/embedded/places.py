"""The directories of the embedded server: whose they are, and that they are private.

The server trusts whoever reaches its socket, so the directory is the lock on the door.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tokenctl.errors import CannotCreate, NotAllowed
from tokenctl.storage.embedded.options import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOCKET_PATH_MAX = 107  # sun_path holds 108 bytes, and the last one is NUL
_OTHERS_WRITE = 0o022
_OTHERS = 0o077
_SHORT = Path("/tmp")  # noqa: S108 (what is made there is made private, and judged before every use)


def resolved(path: Path) -> Path:
    """`path` without links, so that one place has one name; NotAllowed for a link of somebody else's."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (links are looked at before they are followed)
    for part in [*reversed(absolute.parents), absolute]:
        with contextlib.suppress(OSError):
            found = part.lstat()
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in {0, os.geteuid()}:
                raise NotAllowed(
                    f"{part} is a link that belongs to {_name(found.st_uid)}.",
                    hint="Choose a data directory whose path nobody else can redirect.",
                )
    return Path(os.path.realpath(absolute))


@contextlib.contextmanager
def creating(path: Path) -> Iterator[None]:
    """Turn a failure to make or write something at `path` into an error that names it."""
    try:
        yield
    except PermissionError as error:
        raise NotAllowed(
            f"No permission to write {error.filename or path}.",
            hint="Give the directory to the user who runs tokenctl, or choose another with XDG_DATA_HOME.",
        ) from error
    except OSError as error:
        raise CannotCreate(
            f"Cannot make {error.filename or path}: {error.strerror}.",
            hint="Free some space there, or choose another place with XDG_DATA_HOME.",
        ) from error


def make_private(path: Path) -> None:
    """Make `path`, missing parents included, as a directory of ours with mode 0700; then `judge` it."""
    with creating(path):
        missing = [part for part in [*reversed(path.parents), path] if not part.exists()]
        for part in missing:
            part.mkdir(mode=0o700, exist_ok=True)
        judge(path, os.geteuid())
        if stat.S_IMODE(path.lstat().st_mode) & _OTHERS:
            # Others could look but not put anything here (judge refuses that), so closing it is enough.
            path.chmod(0o700)


def judge(path: Path, uid: int, *, forbidden: int = _OTHERS_WRITE) -> None:
    """Refuse `path` unless it is a directory of `uid` without the `forbidden` mode bits.

    What others could write they may have prepared: a configuration file that runs
    their program, or a socket behind which they listen. Raises NotAllowed, or
    CannotCreate when it is no directory; a missing path is fine.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotAllowed(
            f"Cannot look at {path}: {error.strerror}.",
            hint="Choose another data directory with XDG_DATA_HOME.",
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise CannotCreate(
            f"{path} is in the way: it is not a directory.",
            hint="Move it away; the embedded database keeps its files there.",
        )
    if found.st_uid != uid:
        raise NotAllowed(
            f"{path} belongs to {_name(found.st_uid)}, not to {_name(uid)}.",
            hint="Run tokenctl as that user, or choose another data directory with XDG_DATA_HOME.",
        )
    if stat.S_IMODE(found.st_mode) & forbidden:
        raise NotAllowed(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}).",
            hint=f"Look at what is in it, then close it with: chmod 700 '{path}'",
        )


def socket_dir(base: Path, uid: int) -> Path:
    """Where the server of `base` has its socket: in `base`, or in a short directory when that won't do.

    It follows from the arguments alone, so that a cron job finds what a login shell
    started. XDG_RUNTIME_DIR would not do: cron has none, and it is emptied at logout.
    """
    if _holds_socket(base):
        return base
    return _SHORT / f"tokenctl-{uid}-{digest(base)}"


def judge_socket_dir(directory: Path, base: Path, uid: int) -> None:
    """Refuse a socket directory in which somebody else could listen. Call it before every connection."""
    judge(directory, uid, forbidden=_OTHERS_WRITE if directory == base else _OTHERS)


def make_socket_dir(directory: Path, base: Path, uid: int, gid: int) -> None:
    """Make the short directory private to `uid`; what is there already is judged, never mended."""
    if directory != base:
        with creating(directory), contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            if uid != os.geteuid():
                os.chown(directory, uid, gid, follow_symlinks=False)
    judge_socket_dir(directory, base, uid)


def digest(path: Path) -> str:
    """Twelve hex digits that stand for `path`."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _holds_socket(directory: Path) -> bool:
    """Whether the path fits a socket address, and both PostgreSQL's and libpq's list syntax take it."""
    text = str(directory)
    if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) > _SOCKET_PATH_MAX:
        return False
    return text.isprintable() and not set(',"') & set(text) and text == text.strip()


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
