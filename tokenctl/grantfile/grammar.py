"""Judging many lines at a time: regular expressions for rows as programs write them.

What matches is exactly as good as what judge.GrantRow accepts. What doesn't match
may still be good, and is judged row by row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from tokenctl.grantfile.fields import AMOUNT, FREE_KEY, IGNORED, KINDS, REASON, TICKET, USER_ID, canonical
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.shape import Shape

_VALUES = {
    "user_id": USER_ID,
    "amount": AMOUNT,
    "reason": REASON,
    "idempotency_key": FREE_KEY,
    "ticket": TICKET,
    "kind": "|".join(KINDS),
}
#: ASCII control characters and the backslash, which COPY and JSON would want escaped.
_NOT_PLAIN = r"\x00-\x1f\x7f\\"
#: The most of an ignored cell that is passed over here; enough for a reject file's errors.
_IGNORED_CHARACTERS = 2000

#: Control characters that no good line has, as signs within it.
_DELIMITER_INSIDE, _BETWEEN = "\x01", "\x02"
#: Lines of JSON that are taken together.
_SOME_LINES = re.compile(r"(?:[^\n]*\n){1,1000}")

Columns = dict[str, Sequence[str]]


class Grammar(Protocol):
    """How good lines look in one file."""

    def run(self, text: str) -> re.Pattern[str]:
        """Return the pattern of lines that can be taken together out of `text`, as many as there are."""

    def columns(self, text: str) -> Columns:
        """Return the values of such lines by column; a line that isn't good has an empty user_id."""


def grammar_of(shape: Shape, options: CheckOptions) -> Grammar:
    """Build the grammar of a file."""
    required = {"user_id", "amount", "idempotency_key"}
    if options.default_reason is None:
        required.add("reason")
    return _CsvGrammar(shape, required) if shape.is_csv else _JsonGrammar(shape, required)


class _CsvGrammar:
    """Verifies by a pattern without groups and then splits, which is quicker than finding groups."""

    def __init__(self, shape: Shape, required: set[str]) -> None:
        self._delimiter = shape.delimiter
        self._names = [canonical(name) for name in shape.header]
        bare = [_cell(name, rf'"{self._delimiter}', required) for name in self._names]
        quoted = [_cell(name, '"', required) for name in self._names]
        either = [rf'(?:"{inner}"|{outer})' for inner, outer in zip(quoted, bare, strict=True)]
        self._bare_run = re.compile(rf"(?:{self._delimiter.join(bare)}\r?\n)*")
        self._run = re.compile(rf"(?:{self._delimiter.join(either)}\r?\n)*")

    def run(self, text: str) -> re.Pattern[str]:
        return self._run if '"' in text else self._bare_run

    def columns(self, text: str) -> Columns:
        quoted = '"' in text
        if quoted:
            text = self._without_quotes(text)
        flat = text.replace("\r", "").replace("\n", self._delimiter).split(self._delimiter)
        columns: Columns = {name: flat[index :: len(self._names)] for index, name in enumerate(self._names)}
        # What follows the last newline is an empty cell too many.
        columns[self._names[0]] = columns[self._names[0]][:-1]
        if quoted and "note" in columns:
            columns["note"] = "\n".join(columns["note"]).replace(_DELIMITER_INSIDE, self._delimiter).split("\n")
        return columns

    def _without_quotes(self, text: str) -> str:
        """Take the quotes off; a delimiter inside them becomes a character that no good line has.

        Quotes stand only around cells here, so every second piece was inside of them.
        """
        pieces = text.split('"')
        inside = _BETWEEN.join(pieces[1::2]).replace(self._delimiter, _DELIMITER_INSIDE)
        pieces[1::2] = inside.split(_BETWEEN)
        return "".join(pieces)


class _JsonGrammar:
    """Takes lines of any kind and finds the members of the good ones."""

    def __init__(self, shape: Shape, required: set[str]) -> None:
        self._names = [canonical(name) for name in shape.header]
        self._line = re.compile(rf"{_object(shape.header, required)}\r?\n|[^\n]*\n")

    def run(self, text: str) -> re.Pattern[str]:  # noqa: ARG002 — the same for every text
        return _SOME_LINES

    def columns(self, text: str) -> Columns:
        return dict(zip(self._names, zip(*self._line.findall(text), strict=True), strict=True))


def _cell(name: str, ends: str, required: set[str]) -> str:
    """A cell without the characters `ends`."""
    if name == IGNORED:
        return rf"[^{_NOT_PLAIN}{ends}]{{0,{_IGNORED_CHARACTERS}}}+"
    if name == "note":
        return rf"(?! )[^{_NOT_PLAIN}{ends}]{{0,500}}+(?<! )"
    return f"(?:{_VALUES[name]}){'' if name in required else '?'}"


def _object(names: Sequence[str], required: set[str]) -> str:
    """An object with these members in this order; all but the first and the required may be left out."""
    pattern = r"\{"
    for index, name in enumerate(names):
        needed = canonical(name) in required
        member = f'"{name}": ?{_member(canonical(name), needed=needed)}'
        if index:
            member = f", ?{member}" if needed else f"(?:, ?{member})?"
        pattern += member
    return pattern + r"\}"


def _member(column: str, *, needed: bool) -> str:
    if column == "amount":
        return f"({AMOUNT})"
    if column == "note":
        return rf'(?:"((?! )[^"{_NOT_PLAIN}]{{0,500}}+(?<! ))"|null)'
    if needed:
        return f'"({_VALUES[column]})"'
    return f'(?:"((?:{_VALUES[column]})?)"|null)'
