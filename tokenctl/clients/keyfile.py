"""Where Gemini's keys come from: a file of them, else one from the environment; never a flag.

The file is TOML, ours alone (mode 0600), and its text is never repeated in an error:

    [[key]]
    id = "main"
    project = "images-eu"
    secret = "..."
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenctl.errors import ConfigError
from tokenctl.telemetry import logs

_MAX_BYTES = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"[!-~]{16,512}")
_FIELDS = {"id": _NAME, "project": _NAME, "secret": _SECRET}
_RULES = {
    "id": "1 to 64 letters, digits and . _ -",
    "project": "1 to 64 letters, digits and . _ -",
    "secret": "16 to 512 printable ASCII characters without blanks",
}
_OTHERS = 0o077
#: What the one key from the environment is called, and its project.
_FROM_ENVIRONMENT = "env"


@dataclass(frozen=True)
class Key:
    """One key. Keys of one `project` share its quota, so only another project's key helps against a full one."""

    id: str
    project: str
    secret: str = field(repr=False)

    @property
    def last4(self) -> str:
        """What people may see of the secret."""
        return self.secret[-4:]

    @property
    def fingerprint(self) -> str:
        """12 hex digits that name this secret and tell nothing of it: a new secret under an old id is another key."""
        return hashlib.sha256(self.secret.encode()).hexdigest()[:12]


def load(file: Path | None, single: str | None) -> tuple[Key, ...]:
    """The keys in `file`, in its order; without a file the `single` one. Raises ConfigError.

    From now on no log line holds a secret of theirs.
    """
    if file is not None:
        keys = _read(file)
    elif single is None:
        raise ConfigError(
            "no Gemini key is configured",
            hint="GEMINI_API_KEYS_FILE or gemini.keys_file names a file of keys; GEMINI_API_KEY is one",
        )
    elif not _SECRET.fullmatch(single):
        raise ConfigError(f"GEMINI_API_KEY is no key: one has {_RULES['secret']}")
    else:
        keys = (Key(_FROM_ENVIRONMENT, _FROM_ENVIRONMENT, single),)
    for key in keys:
        logs.hide(key.secret)
    return keys


def _read(file: Path) -> tuple[Key, ...]:
    import tomllib  # only where there is such a file

    content = _content(file)
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line ([0-9]+)", str(error))  # the rest of its text may repeat a part of a secret
        raise ConfigError(f"{file} is not TOML" + (f": look at line {line[1]}" if line else "")) from None
    except (RecursionError, ValueError):  # nested a thousandfold; a number of thousands of digits
        raise ConfigError(f"{file} is no file of keys") from None
    entries = document.pop("key", [])
    mistakes = ["there may be nothing beside the [[key]] tables"] if document else []
    if not isinstance(entries, list) or not entries:
        mistakes.append("there is no [[key]] table")
        entries = []
    for number, entry in enumerate(entries, 1):
        mistakes += [f"key {number}: {why}" for why in _wrong(entry)]
    if not mistakes:
        for name in ("id", "secret"):
            if len({entry[name] for entry in entries}) < len(entries):
                mistakes.append(f"two keys have the same {name}")
    if mistakes:
        raise ConfigError("\n".join(f"{file}: {why}" for why in mistakes), hint="each [[key]] has id, project, secret")
    return tuple(Key(entry["id"], entry.get("project", entry["id"]), entry["secret"]) for entry in entries)


def _wrong(entry: Any) -> list[str]:
    """What is wrong with one entry; without a project a key counts as one of its own."""
    if not isinstance(entry, dict):
        return ["is not a table"]
    unknown = [f"it has a name beside {', '.join(_FIELDS)}"] if entry.keys() - _FIELDS.keys() else []
    missing = [f"{name} is missing" for name in ("id", "secret") if name not in entry]
    bad = [
        f"{name} must be {_RULES[name]}"
        for name, pattern in _FIELDS.items()
        if name in entry and not (isinstance(entry[name], str) and pattern.fullmatch(entry[name]))
    ]
    return unknown + missing + bad


def _content(file: Path) -> str:
    """The text of a regular file that is ours alone; it is asked what it is after it was opened."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not make us wait
        with os.fdopen(fd, "rb") as opened:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                raise ConfigError(f"{file} is no file of keys")
            if found.st_uid != os.geteuid():
                raise ConfigError(f"{file} belongs to another user", hint="keys are read from a file of your own only")
            if stat.S_IMODE(found.st_mode) & _OTHERS:
                mode = stat.S_IMODE(found.st_mode)
                raise ConfigError(f"{file} is open to other users (mode {mode:04o})", hint=f"chmod 600 {file}")
            return opened.read(_MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"the file of Gemini keys, {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8") from None
