"""The configuration file: TOML with known keys, each mistake told with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenctl import address, commandline
from tokenctl.errors import CannotCreate, ConfigError

_POSITIVE = "a whole number above zero, of 15 digits at most"
_SECONDS = "a number of seconds above zero and below a million"
_SECONDS_OR_NONE = "a number of seconds below a million, 0 for none"
_COUNT_OR_NONE = "a whole number of 15 digits at most, 0 for no limit"
_ADDRESS = "an https address, or an http one of 127.0.0.1 or localhost"
_MODEL = "a model's name"
_VERSION = "a version such as v1beta"
_LABEL = "a short name such as 2026-11"
_PROFILE = "a profile's name: letters, digits, _ and -"
_DATABASE = "an address in quotes"


class Key(NamedTuple):
    """What a key wants, how it may look (its default, where it has one), and what it is for."""

    wants: str
    example: str
    says: str


#: By their names in the file; a * is a name of your own.
KEYS: dict[str, Key] = {
    "profile": Key(_PROFILE, '"prod"', "The profile that is used unless --profile or TOKENCTL_PROFILE names another."),
    "timeout": Key(_SECONDS, "30", "Seconds that a command may take; of batch-import and the like, one step."),
    "reasons": Key("a list of reason codes", '["goodwill", "mistake", "outage"]', "The only reasons that are taken."),
    "profiles.*.database": Key(_DATABASE, '"service=tokens-prod"', "A libpq connection string; leave passwords out."),
    "profiles.*.protected": Key(
        "true or false", "true", "Severe steps need --confirm, and another host a certificate."
    ),
    "limits.grant": Key(_POSITIVE, "5000", "Tokens of one grant or reversal that need no more than a yes."),
    "limits.batch_total": Key(
        _POSITIVE, "200000", "Tokens of one import or of the reversal of many that need no more than a yes."
    ),
    "limits.import_rows": Key(_POSITIVE, "50000000", "Rows of one import."),
    "cache.ttl_s": Key(_SECONDS_OR_NONE, "30", "How old a balance may be that is shown."),
    "completion.remember_ids": Key("true or false", "false", "Whether a TAB completes ids that you had to do with."),
    "health.expect_keys": Key("true or false", "false", "Whether Gemini's keys must be there."),
    "health.import_max_age_s": Key(_SECONDS, "90000", "Within how many seconds an import must have finished."),
    "rate_limits.*.limit": Key(_COUNT_OR_NONE, "600", "Runs of the command in the brackets, for each user."),
    "rate_limits.*.window_s": Key(_SECONDS, "60", "The seconds in which they are counted."),
    "log.file": Key("a text", '"/var/log/tokenctl.log"', "Where log lines go, as JSON; - is standard error."),
    "log.level": Key("one of debug, info, warning, error", '"info"', "The least that is logged."),
    "log.max_bytes": Key(_POSITIVE, "10000000", "How large the file may grow."),
    "gemini.keys_file": Key("a text", '"/etc/tokenctl/gemini-keys.toml"', "Gemini's keys, in a file of mode 0600."),
    "gemini.base_url": Key(_ADDRESS, '"https://generativelanguage.googleapis.com"', "Where Gemini is."),
    "gemini.api_version": Key(_VERSION, '"v1beta"', "The version of its interface."),
    "generate.model": Key(_MODEL, '"gemini-3-pro-image"', "The model that makes images."),
    "prices.version": Key(_LABEL, '"2026-11"', "The name of this price list, which every charge keeps."),
    "prices.1K": Key(_POSITIVE, "40", "Tokens that an image of 1K costs."),
    "prices.2K": Key(_POSITIVE, "60", "Tokens that an image of 2K costs."),
    "prices.4K": Key(_POSITIVE, "120", "Tokens that an image of 4K costs."),
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
    _LABEL: re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
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
    except (RecursionError, ValueError) as error:  # nested a thousandfold; a number of thousands of digits
        raise ConfigError(f"{path}: no configuration is nested so deeply or has such numbers") from error
    values: dict[str, Any] = {}
    mistakes = [
        f"{path}:{_line_of(text, key)}: {why}"
        for key, value in _flatten(document)
        if (why := _judge(key, value, values))
    ]
    if mistakes:
        heading = [f"{len(mistakes)} mistakes in the configuration"] if len(mistakes) > 1 else []
        raise ConfigError(
            "\n".join([*heading, *mistakes]), hint=f"{commandline.line('config', 'init', '-')} shows every key"
        )
    return values


def example() -> str:
    """A file to begin with: every key with what it is for, and all of them commented out."""
    lines = ["# The configuration of tokenctl. A line counts once its # is gone.", ""]
    table = ""
    for key, (_, value, says) in KEYS.items():
        *tables, name = key.replace("rate_limits.*", "rate_limits.grant-bonus").replace("*", "prod").split(".")
        if ".".join(tables) != table:
            table = ".".join(tables)
            lines += ["", f"#[{table}]"]
        lines += [f"# {says}", f"#{name} = {value}"]
    return "\n".join(lines) + "\n"


def write_example(path: Path) -> None:
    """Write it, for its user only; raises CannotCreate where a file is, or none can be made."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError as error:
        raise CannotCreate(
            f"{path} is there and is left as it is", hint=f"{commandline.line('config', 'init', '-')} shows the example"
        ) from error
    except OSError as error:
        raise CannotCreate(f"{path} cannot be made: {error.strerror}") from error


def demand_address(text: str, origin: str) -> str:
    """The address, if keys may be sent there: https, or http to this machine.

    Raises ConfigError, without repeating what may hold a password.
    """
    if not _PATTERNS[_ADDRESS].fullmatch(text):
        raise ConfigError(
            f"{origin.removeprefix('env:')} is not an address that keys are sent to",
            hint="https://…, or http:// to 127.0.0.1 or localhost; without a user, a password or a query",
        )
    return text


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
    if value == {} and any(known.startswith(f"{pattern}.") for known in KEYS):
        return None  # a section whose keys are all commented out
    if pattern not in KEYS:
        import difflib

        near = difflib.get_close_matches(pattern, KEYS, 1, 0.7)
        told = f"unknown key '{key}'" if re.fullmatch(r"[\w.-]+", key) else "unknown key, which is no name"
        return told + (f"; did you mean '{near[0]}'?" if near else "")
    wanted = KEYS[pattern].wants
    good = {
        **{what: isinstance(value, str) and bool(like.fullmatch(value)) for what, like in _PATTERNS.items()},
        "a text": isinstance(value, str) and value != "",
        _DATABASE: isinstance(value, str) and value != "",
        "true or false": isinstance(value, bool),
        _POSITIVE: type(value) is int and 0 < value < 10**15,
        _SECONDS: type(value) in (int, float) and 0 < value < 10**6,
        _SECONDS_OR_NONE: type(value) in (int, float) and 0 <= value < 10**6,
        _COUNT_OR_NONE: type(value) is int and 0 <= value < 10**15,
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
