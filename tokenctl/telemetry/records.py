"""How an event becomes a line: one JSON object for programs, one sentence for people.

Safe by construction: a field is written out only when it is listed here, and a value
only when it is a plain one. Whatever a value holds, a line stays one line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from tokenctl.errors import TokenctlError
from tokenctl.telemetry.redaction import filtered

#: Which run a record belongs to: request_id, operation and operator, or nothing.
Bound = Mapping[str, str]
#: The name of our logger; every other one is a library's.
OURS = "tokenctl"
_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_HEAD = ("at", "level", "event", "request_id", "operation", "operator", "pid")
#: The fields that may be written out. A new one is added here by somebody who has looked what it can hold.
LISTED = frozenset(
    (
        # of an operation
        "exit_code", "code", "took_ms", "database", "profile", "version", "dry_run",
        # of the mechanisms' events
        "policy", "fault", "attempt", "wait_s", "breaker", "state", "action", "allowed", "namespace", "result",
        "what", "why", "query", "outcome", "duration_s",
        # of a call to Gemini; never the prompt, and of what Gemini says only its own words for a result
        "model", "model_version", "quality", "key", "project", "response_id", "http_status", "reason", "finish",
        "sent_bytes", "image_bytes", "width", "height", "output_tokens",
        # of a paid image
        "step", "generation", "user_id", "tokens", "transaction", "price_version",
        # of a verified ledger
        "scope", "findings", "rules", "users", "entries", "seal_no", "head",
        # of an error, and of a library's warning
        "error", "message", "sqlstate", "traceback", "library",
    )
)  # fmt: skip
_LONGEST_TEXT = 2_000
_MOST_ITEMS = 60
_MOST_FRAMES = 20  # of each error in a chain
_LARGEST = 2**53 - 1  # what every reader of JSON keeps
_PHRASES = {
    "retry": "retry {policy} attempt {attempt} in {wait_s} s",
    "breaker": "breaker {breaker} is {state}",
    "cache": "cache {namespace}: {result}",
    "query": "query {query}: {outcome} in {duration_s} s",
    "trouble": "{what}: {why}",
}


def number(level: str) -> int:
    """A level's number: the higher, the worse."""
    return _NUMBERS[level]


class Lines(logging.Handler):
    """Writes one line a record, by `form` and `write`; from libraries warnings only. Never raises."""

    def __init__(
        self,
        level: str,
        form: Callable[[logging.LogRecord, Bound], str],
        write: Callable[[str], None],
        bound: Callable[[], Bound],
    ) -> None:
        """`level` is the least that is written; `bound` tells the run that a record belongs to."""
        super().__init__(number(level))
        self._form = form
        self._write = write
        self._bound = bound

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line."""
        if record.name == OURS or record.levelno >= logging.WARNING:
            with contextlib.suppress(Exception):  # a log line is never worth a command
                self._write(self._form(record, self._bound()))


def json_line(record: logging.LogRecord, bound: Bound) -> str:
    """The record as one line of ASCII, without its end."""
    event, fields = _content(record)
    line = {
        "at": _utc(record.created),
        "level": record.levelname.lower(),
        "event": event,
        "request_id": plain(bound.get("request_id")),
        "operation": plain(bound.get("operation")),
        "operator": plain(bound.get("operator")),
        "pid": os.getpid(),
        **fields,
    }
    return json.dumps(line, allow_nan=False)


def human_line(record: logging.LogRecord, _bound: Bound) -> str:
    """The record for a person: the time in UTC, what happened, and its values; lists are for the file."""
    event, fields = _content(record)
    shown = {
        key: f"{value:.3g}" if isinstance(value, float) else str(value)
        for key, value in fields.items()
        if not isinstance(value, list)
    }
    try:
        said = _PHRASES[event].format_map(shown)
    except KeyError:
        said = " ".join([event, *(f"{key}={value}" for key, value in shown.items())])
    level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
    milliseconds = _utc(record.created)[11:23]
    return f"{milliseconds}Z {level}{said}"


def plain(value: object) -> Any:
    """A value that JSON can hold on one line, cut to a limit and without a secret of ours.

    What is no number, text, path or list of those becomes the name of its type: its text
    could hold anything.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else f"[a whole number of {value.bit_length()} bits]"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else f"[{float(value)}]"
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, list | tuple):
        items = [_type(item) if isinstance(item, list | tuple) else plain(item) for item in value[:_MOST_ITEMS]]
        return items if len(value) <= _MOST_ITEMS else [*items, f"[and {len(value) - _MOST_ITEMS} more]"]
    return _type(value)


def describe(error: BaseException) -> dict[str, Any]:
    """The fields that tell of an error: its type, and where it and its causes were raised."""
    lines: list[str] = []
    step: BaseException | None = error
    while step is not None and len(lines) < _MOST_ITEMS:
        lines.append(f"{type(step).__name__}: {_message(step)}".removesuffix(": "))
        frames = traceback.extract_tb(step.__traceback__, limit=-_MOST_FRAMES)
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    told = {"error": type(error).__name__, "message": _message(error), "traceback": lines}
    sqlstate = getattr(error, "sqlstate", None)
    return told | ({"sqlstate": sqlstate} if sqlstate else {})


def _message(error: BaseException) -> str:
    """What the error says, if it is ours or the system's: any other text may hold values and connection strings."""
    if isinstance(error, TokenctlError):
        return error.detail
    return (error.strerror or "") if isinstance(error, OSError) else ""


def _content(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The record's event and its fields, ready for JSON."""
    if record.name != OURS:
        # The text before its arguments are put in: those may be anything.
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return "library", {"library": plain(record.name), "message": plain(message)}
    given: dict[str, object] = getattr(record, "fields", {})
    fields = {
        _text(key): plain(value) if key in LISTED else "[unlisted]" for key, value in given.items() if key not in _HEAD
    }
    return _text(str(record.msg)), fields


def _type(value: object) -> str:
    return f"[{type(value).__name__}]"


def _text(text: str) -> str:
    """The text without our secrets, with half characters written out, cut to the limit."""
    known = filtered(text).encode("utf-8", "backslashreplace").decode()
    over = len(known) - _LONGEST_TEXT
    return known if over <= 0 else f"{known[:_LONGEST_TEXT]}[and {over} more]"


def _utc(seconds: float) -> str:
    """RFC 3339 with microseconds and Z; `seconds` since 1970."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{microseconds:06d}Z"
