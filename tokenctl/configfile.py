"""The configuration file: TOML with known keys, each mistake told with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenctl import address
from tokenctl.errors import ConfigError

_POSITIVE = "a whole number above zero"
_SECONDS = "a number of seconds above zero"
_ADDRESS = "an https address, or an http one of 127.0.0.1 or localhost"
_MODEL = "a model's name"
_VERSION = "a version such as v1beta"
_PROFILE = "a profile's name: letters, digits, _ and -"
_DATABASE = "an address in quotes"
_KEYS: dict[str, str] = {
    "profile": _PROFILE,
    "timeout": _SECONDS,
    "reasons": "a list of reason codes",
    "limits.grant": _POSITIVE,
    "limits.batch_total": _POSITIVE,
    "limits.import_rows": _POSITIVE,
    "cache.ttl_s": "a number of seconds, 0 for none",
    "completion.remember_ids": "true or false",
    "health.expect_keys": "true or false",
    "health.import_max_age_s": _SECONDS,
    "rate_limits.*.limit": "a whole number, 0 for no limit",
    "rate_limits.*.window_s": _SECONDS,
    "log.file": "a text",
    "gemini.keys_file": "a text",
    "gemini.base_url": _ADDRESS,
    "gemini.api_version": _VERSION,
    "generate.model": _MODEL,
    "log.level": "one of debug, info, warning, error",
    "log.max_bytes": _POSITIVE,
    "profiles.*.database": _DATABASE,
    "profiles.*.protected": "true or false",
}
_LEVELS = ("debug", "info", "warning", "error")
_REASON = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# What goes into an address that a key is sent to; no name or password can stand in it.
_PATTERNS = {
    _ADDRESS: re.compile(
        r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
    ),
    _MODEL: re.compile(r"[a-z0-9][a-z0-9._-]{0,63}"),
    _VERSION: re.compile(r"v[0-9][a-z0-9]{0,15}"),
    _PROFILE: re.compile(r"\w[\w-]{0,63}"),
}


def read(path: Path, *, required: bool) -> dict[str, Any]:
    """The keys of the file and their values; nothing when it is missing and not `required`.

    Raises ConfigError with every mistake and its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise ConfigError(
                f"the configuration file {path} does not exist", hint="name another with --config"
            ) from error
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
    import tomllib  # only when there is a file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at [^()]*\)$", str(error))
        wrong = f"wrong TOML {place[0] if place else ''}" if re.search("://|@", str(error)) else str(error)
        raise ConfigError(f"{path}: {wrong}") from error
    values: dict[str, Any] = {}
    mistakes = [
        f"{path}:{_line_of(text, key)}: {why}"
        for key, value in _flatten(document)
        if (why := _judge(key, value, values))
    ]
    if mistakes:
        heading = [f"{len(mistakes)} mistakes in the configuration"] if len(mistakes) > 1 else []
        raise ConfigError("\n".join([*heading, *mistakes]), hint="CONTRIBUTING.md and the README list the keys")
    return values


def demand_name(profile: str, origin: str) -> None:
    """Raise ConfigError for what is no name of a profile, without a word of it: an address may stand there."""
    if not _PATTERNS[_PROFILE].fullmatch(profile):
        raise ConfigError(f"{address.told(profile)} ({origin}) is not {_PROFILE}")


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        key = f"{prefix}{name}"
        found += _flatten(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
    return found


def _judge(key: str, value: Any, values: dict[str, Any]) -> str | None:
    """Keep a good value; say what is wrong with a bad one."""
    pattern = re.sub(r"^(profiles|rate_limits)\.[^.]+", r"\1.*", key)
    if value == {} and any(known.startswith(f"{pattern}.") for known in _KEYS):
        return None  # a section whose keys are all commented out
    wanted = _KEYS.get(pattern)
    if wanted is None:
        import difflib

        near = difflib.get_close_matches(pattern, _KEYS, 1, 0.7)
        told = f"unknown key '{key}'" if re.fullmatch(r"[\w.-]+", key) else "unknown key, which is no name"
        return told + (f"; did you mean '{near[0]}'?" if near else "")
    good = {
        **{what: isinstance(value, str) and bool(like.fullmatch(value)) for what, like in _PATTERNS.items()},
        "a text": isinstance(value, str) and value != "",
        _DATABASE: isinstance(value, str) and value != "",
        "true or false": isinstance(value, bool),
        _POSITIVE: type(value) is int and 0 < value < 10**15,
        _SECONDS: type(value) in (int, float) and 0 < value < 10**6,
        "a number of seconds, 0 for none": type(value) in (int, float) and 0 <= value < 10**6,
        "a whole number, 0 for no limit": type(value) is int and 0 <= value < 10**15,
        "one of debug, info, warning, error": value in _LEVELS,
        "a list of reason codes": isinstance(value, list)
        and all(isinstance(r, str) and _REASON.fullmatch(r) for r in value),
    }[wanted]
    if not good:
        # A database's address is told by nothing but its key: a piece of it may be its password.
        given = "what stands there" if wanted == _DATABASE else address.told(value)
        return f"{key}: {given} is not {wanted}"
    values[key] = value
    return None


def _line_of(text: str, key: str) -> int:
    """The line of a key, or of the table it is in: tomllib keeps no lines, so the text is searched."""
    table, nearest = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            name = re.sub(r"[\s\"']", "", header[1])
            table = f"{name}."
        elif pair := re.match(r"([\w.\s\"'-]+)=", line):
            name = table + re.sub(r"[\s\"']", "", pair[1])
        else:
            continue
        if name == key:
            return number
        if key.startswith(f"{name}."):
            nearest = number
    return nearest
