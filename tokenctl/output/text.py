"""Texts for people and programs: cleaned, grouped, in UTC."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

#: What stands for a symbol where the terminal's encoding lacks it.
_PLAIN = {"▸": ">", "✓": "ok", "→": "->", "─": "-", "…": "...", "—": "-"}


def clean(text: str) -> str:
    r"""The text with every character that could steer a terminal written out.

    Those are Unicode's categories C (control, format, surrogate, private) and the
    line and paragraph separators; ESC becomes \x1b, U+202E becomes \u202e.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(c) if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"  # noqa: PLR2004


def count(number: int) -> str:
    """A number for people: 1,500."""
    return f"{number:,}"


def moment(when: datetime) -> str:
    """A time for people, with its zone: 2026-11-23 18:04 UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def distance(when: datetime, now: datetime) -> str:
    """How far a time is from now, in its largest unit: 3 d; ahead of now: 20 min left."""
    seconds = int(abs((now - when).total_seconds()))
    units = (("d", 86_400), ("h", 3_600), ("min", 60))
    number, unit = next(((seconds // length, unit) for unit, length in units if seconds >= length), (seconds, "s"))
    return f"{number} {unit}" + (" left" if when > now else "")


def rfc3339(when: datetime) -> str:
    """A time for programs: 2026-11-23T18:04:09.123456Z."""
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def plain(text: str, encoding: str) -> str:
    """The text as the encoding can show it: symbols replaced, the rest escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for symbol, instead in _PLAIN.items():
            text = text.replace(symbol, instead)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def can_show(characters: str, encoding: str) -> bool:
    """Whether the encoding has these characters."""
    try:
        characters.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
