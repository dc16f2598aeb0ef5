"""The files that commands lean on: the cache's and the state's directories, and the file of Gemini keys.

Nothing is made or mended here. None of these stops a command, except full disks and
unusable keys, so most of what is wrong is a warning.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Any

from tokenctl.services.health_report import Check, Gauge, Range
from tokenctl.services.health_rules import Problem, judged, size
from tokenctl.wording import counted

_FREE_WARN_BYTES, _FREE_CRIT_BYTES = 100_000_000, 10_000_000
_OTHERS, _OTHERS_WRITE = 0o077, 0o022
_BUSY_S = 0.25
_FILES_MAX = 50
_KEYS_MAX_BYTES = 1_000_000


def cache(directory: Path, *, ttl_s: float) -> Check:
    """The cache of balances; off with a `ttl_s` of 0, which is fine."""
    if not ttl_s:
        return judged("cache", ["off (cache.ttl_s is 0)"], [], values={"enabled": False})
    return _directory("cache", directory, {"enabled": True})


def state(directory: Path) -> Check:
    """What commands remember for each other: breakers, rate limits, counters."""
    from sqlite3 import sqlite_version

    return _directory("state", directory, {"sqlite": sqlite_version})


def keys(file: Path | None, *, single: bool, expected: bool) -> Check:
    """Gemini's keys, which are read and never shown: those of `file`, else whether a `single` one is set."""
    if file is not None:
        return _key_file(file)
    gauges = (Gauge("keys", int(single)),)
    if single:
        return judged("keys", ["1 key, from GEMINI_API_KEY"], [], gauges=gauges, values={"keys": 1, "file": None})
    problems = [("warning", "none configured, and health.expect_keys wants some")] if expected else []
    hint = "GEMINI_API_KEYS_FILE names a file of them"
    return judged("keys", ["none configured"], problems, gauges=gauges, values={"keys": 0, "file": None}, hint=hint)


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


def _key_file(file: Path) -> Check:
    """TOML with a [[key]] of `id`, `secret` and perhaps `project` for each; its text is never repeated.

    Whatever is wrong is critical, because keys are then refused.
    """
    values: dict[str, Any] = {"file": str(file), "keys": None, "mode": None}
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _KEYS_MAX_BYTES:
            return judged("keys", [], [("critical", f"{file} is no file of keys")], values=values)
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        return judged("keys", [], [("critical", f"{file}: {error.strerror}")], values=values)
    except UnicodeDecodeError:
        return judged("keys", [], [("critical", f"{file} is not UTF-8")], values=values)
    problems: list[Problem] = []
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OTHERS:
        problems.append(("critical", f"{file} is open to other users (mode {mode:04o})"))
    if found.st_uid != os.geteuid():
        problems.append(("critical", f"{file} belongs to another user"))
    number, wrong = _count_keys(content)
    problems += [("critical", f"{file} {wrong}")] if wrong else []
    values |= {"keys": number, "mode": f"{mode:04o}"}
    gauges = (Gauge("keys", number),)
    facts = [f"{counted(number, 'key')}, mode {mode:04o}"]
    hint = f"chmod 600 {file}" if mode & _OTHERS else ""
    return judged("keys", facts, problems, gauges=gauges, values=values, hint=hint)


def _count_keys(content: str) -> tuple[int, str]:
    """How many keys the text has, and what is wrong with it, without a word of it."""
    import tomllib  # only where there is such a file

    try:
        listed = tomllib.loads(content).get("key", [])
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line ([0-9]+)", str(error))
        return 0, "is not TOML" + (f" (line {line[1]})" if line else "")
    except (RecursionError, ValueError):  # nested a thousandfold; a number of thousands of digits
        return 0, "is not what a file of keys is"
    if not isinstance(listed, list) or not listed:
        return 0, "has no [[key]]"
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(n), str) and entry[n] for n in ("id", "secret")):
            return 0, f"has no id or no secret in key number {number}"
    if len({entry["id"] for entry in listed}) < len(listed):
        return 0, "has one id twice"
    return len(listed), ""
