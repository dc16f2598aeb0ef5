"""The files that commands lean on: the cache's and the state's directories, and the file of Gemini keys.

Nothing is made or mended here. None of these stops a command, except full disks and
unusable keys, so most of what is wrong is a warning.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from tokenctl.errors import ConfigError
from tokenctl.services.health_report import Check, Gauge, Range
from tokenctl.services.health_rules import Problem, judged, size
from tokenctl.wording import counted

_FREE_WARN_BYTES, _FREE_CRIT_BYTES = 100_000_000, 10_000_000
_OTHERS, _OTHERS_WRITE = 0o077, 0o022
_BUSY_S = 0.25
_FILES_MAX = 50


def cache(directory: Path, *, ttl_s: float) -> Check:
    """The cache of balances; off with a `ttl_s` of 0, which is fine."""
    if not ttl_s:
        return judged("cache", ["off (cache.ttl_s is 0)"], [], values={"enabled": False})
    return _directory("cache", directory, {"enabled": True})


def state(directory: Path) -> Check:
    """What commands remember for each other: breakers, rate limits, counters."""
    from sqlite3 import sqlite_version

    return _directory("state", directory, {"sqlite": sqlite_version})


def keys(file: Path | None, single: str | None, *, expected: bool) -> Check:
    """Gemini's keys, judged as by every command that uses them and never shown: those of `file`, else the `single` one.

    Whatever is wrong is critical, because all of them are refused then.
    """
    from tokenctl.clients import keyfile

    values: dict[str, Any] = {"file": None if file is None else str(file), "keys": 0, "mode": _mode(file)}
    if file is None and not single:
        problems = [("warning", "none configured, and health.expect_keys wants some")] if expected else []
        hint = "GEMINI_API_KEYS_FILE names a file of them"
        return judged("keys", ["none configured"], problems, gauges=(Gauge("keys", 0),), values=values, hint=hint)
    try:
        number = len(keyfile.load(file, single))
    except ConfigError as error:
        wrong = "; ".join(error.detail.splitlines())
        values["keys"] = None
        return judged("keys", [], [("critical", wrong)], gauges=(Gauge("keys", 0),), values=values, hint=error.hint)
    facts = [f"{counted(number, 'key')}, {'from GEMINI_API_KEY' if file is None else 'mode ' + str(values['mode'])}"]
    return judged("keys", facts, [], gauges=(Gauge("keys", number),), values={**values, "keys": number})


def _mode(file: Path | None) -> str | None:
    try:
        return None if file is None else f"{stat.S_IMODE(file.stat().st_mode):04o}"
    except OSError:
        return None


def _directory(name: str, path: Path, values: dict[str, Any]) -> Check:
    values = {"path": str(path), **values}
    problems: list[Problem] = []
    facts: list[str] = []
    try:
        found = path.lstat()
    except FileNotFoundError:
        facts.append("not made yet")
        problems += _makeable(path)
    except OSError as error:
        problems.append(("warning", f"{path}: {error.strerror}"))
    else:
        problems += _private(path, found)
        if not problems:
            damaged = [file.name for file in _databases(path) if not _opens(file)]
            problems += [("warning", f"{path}: {name} cannot be opened, or is damaged") for name in damaged]
            facts.append("private")
    free = _free_bytes(path)
    if free is None:
        return judged(name, facts, problems, values=values)
    room = f"{size(free)} free"
    gauge = Gauge(
        f"{name}_free",
        free,
        "B",
        warn=Range(_FREE_WARN_BYTES),
        crit=Range(_FREE_CRIT_BYTES),
        alarm=f"{path}: {room}",
    )
    hint = "commands work without it, and slower or more carelessly"
    return judged(name, [*facts, room], problems, gauges=(gauge,), values={**values, "free_bytes": free}, hint=hint)


def _private(path: Path, found: os.stat_result) -> list[Problem]:
    """The rules of statefile.private_dir, which closes what others can only read."""
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return [("warning", f"{path} is not a directory, so it is not used")]
    if found.st_uid != os.geteuid():
        return [("warning", f"{path} belongs to another user, so it is not used")]
    if mode & _OTHERS_WRITE:
        return [("warning", f"{path} can be written by other users (mode {mode:04o}), so it is not used")]
    if mode & _OTHERS:
        return [("warning", f"{path} can be read by other users (mode {mode:04o})")]
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [("warning", f"{path} cannot be written (mode {mode:04o})")]
    return []


def _makeable(path: Path) -> list[Problem]:
    parent = _existing(path)
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return []
    return [("warning", f"{path} cannot be made in {parent}")]


def _databases(path: Path) -> list[Path]:
    """The SQLite files in a directory and in its own directories, up to a limit."""
    return sorted([*path.glob("*.db"), *path.glob("*/*.db")])[:_FILES_MAX]


def _opens(file: Path) -> bool:
    """Whether SQLite can use it.

    SQLite itself opens it: if we did, closing would free the locks that other threads of ours have on it.
    """
    import sqlite3

    try:
        mode = file.lstat().st_mode
    except OSError:  # renamed a moment ago, as those that are damaged are
        return True
    if not stat.S_ISREG(mode) or not os.access(file, os.R_OK | os.W_OK):
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY
    return True


def _free_bytes(path: Path) -> int | None:
    """Bytes that we may still write where `path` is or would be."""
    try:
        space = os.statvfs(_existing(path))
    except OSError:
        return None
    return space.f_bavail * space.f_frsize


def _existing(path: Path) -> Path:
    # os.access, because Path.exists raises where a directory on the way is closed to us.
    return next((part for part in (path, *path.parents) if os.access(part, os.F_OK)), Path("/"))
