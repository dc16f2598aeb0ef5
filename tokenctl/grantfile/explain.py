"""Why a value is refused, in words that name the remedy.

Nothing here decides: a value comes in after it was refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from tokenctl.grantfile.display import clean, shown
from tokenctl.grantfile.fields import KINDS, LENGTHS, MAX_AMOUNT, REASON, hidden_character, own_key
from tokenctl.grantfile.values import Number, Value

_WHOLE = "is not a whole number of tokens"
_MAX_DIGITS = len(str(MAX_AMOUNT))

_MISSING = {
    "user_id": "is missing",
    "amount": "is missing; write a whole number of tokens",
    "reason": "is missing; write one, or give --reason CODE for the rows without",
    "idempotency_key": "is missing; give every row a key, or --campaign NAME for one grant per user",
}
#: What a value is made of, and a pattern for one character that it may not have.
_MADE_OF = {
    "user_id": ("a user id has only letters, digits and . _ : @ -", re.compile(r"[^A-Za-z0-9._:@-]")),
    "reason": ("a reason has only a-z, digits, _ and -", re.compile(r"[^a-z0-9_-]")),
    "idempotency_key": ("a key has only letters, digits and . _ : @ / -", re.compile(r"[^A-Za-z0-9._:@/-]")),
    "ticket": ("a ticket has only letters, digits and . _ : @ / # -", re.compile(r"[^A-Za-z0-9._:@/#-]")),
}


def why(column: str, value: Value) -> str:
    """Say what is wrong with a value of `column`; an empty one counts as missing."""
    if value is None or value == "":
        return _MISSING[column]
    if column == "amount":
        return _amount(value)
    if not isinstance(value, str):
        return _not_text(value)
    return _blanks(value) or _too_long(column, value) or _text(column, value)


def unlisted_reason(reason: str, listed: Collection[str]) -> str:
    """Say that `reason` is not among the configured ones."""
    return f"{shown(reason)} is not among the configured reasons{did_you_mean(reason, listed)}"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A question that names the nearest of `known` words, or nothing."""
    import difflib

    close = difflib.get_close_matches(word[:64].lower(), sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _text(column: str, text: str) -> str:
    if column == "note":
        char = hidden_character(text)
        what = "a line break" if char in "\r\n\u2028\u2029" else "the control character"
        return f"has {what} {_code(char)} at character {text.index(char) + 1}; a note is one line of plain text"
    if column == "kind":
        return f"{shown(text)} is no kind that an import may post; write {' or '.join(KINDS)}"
    if column == "idempotency_key" and (prefix := own_key(text)):
        return f"{shown(text)} begins with '{prefix}', as only the ledger's own keys do"
    made_of, odd = _MADE_OF[column]
    if column == "reason" and re.fullmatch(REASON, text.lower()):
        return f"{shown(text)} has capitals; write '{text.lower()}'"
    if found := odd.search(text):
        return f"{shown(text)} has {_named(found[0])} at character {found.start() + 1}; {made_of}"
    return f"{shown(text)} begins with '{text[0]}'; {_FIRST[column]}"


_FIRST = {
    "user_id": "a user id begins with a letter, a digit or one of . _ : @",
    "reason": "a reason begins with a letter",
}


def _blanks(text: str) -> str:
    """Say where blanks stand around `text`, if any do; they are never cut off silently."""
    if text == text.strip():
        return ""
    if not text.strip():
        return f"{shown(text)} is only blanks; leave the cell empty or fill it"
    sides = [side for side, bare in (("before", text.lstrip()), ("after", text.rstrip())) if bare != text]
    return f"{shown(text)} has blanks {' and '.join(sides)} it; remove them"


def _too_long(column: str, text: str) -> str:
    longest = LENGTHS.get(column, len(text))
    return f"has {len(text):,} characters; at most {longest} are allowed" if len(text) > longest else ""


def _not_text(value: Value) -> str:
    if isinstance(value, Number):
        return f"{clean(value.text[:40])} is a number; put it in quotes"
    return f"is {_kind_of(value)}; write text in quotes"


def _kind_of(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a list" if isinstance(value, list) else "an object"


def _amount(value: Value) -> str:
    if isinstance(value, str):
        return f"{shown(value)} is in quotes; write the number without them"
    if not isinstance(value, Number):
        return f"is {_kind_of(value)}, not a number"
    text = value.text
    if blanks := _blanks(text):
        return blanks
    for pattern, explain in _AMOUNTS:
        if found := pattern.fullmatch(text):
            return f"{shown(text)} {explain(found)}"
    return f"{shown(text)} {_WHOLE}; write digits only, such as 500"


def _other_digits(found: re.Match[str]) -> str:
    return f"is not written with the digits 0 to 9; write {int(found[0])}"


def _grouped(found: re.Match[str]) -> str:
    whole = found[0].replace(found["sign"], "")
    cents = found["sign"] in ".," and whole.endswith("000") and len(whole) == len(found["first"]) + 3
    or_without_cents = f" or {found['first']}" if cents else ""
    return f"{_WHOLE}; write {whole}{or_without_cents}, without separators"


def _divided(found: re.Match[str]) -> str:
    remedy = f"write {found['first']}" if not found["rest"].strip("0") else "tokens are not divided"
    return f"{_WHOLE}; {remedy}"


def _scientific(found: re.Match[str]) -> str:
    zeros = int(found["zeros"])
    fits = len(found["first"]) + zeros <= _MAX_DIGITS
    return f"is in scientific notation; write {found['first'] + '0' * zeros if fits else 'it out'}"


#: Forms that numbers come in, and what to say of each; the first that fits is taken.
_AMOUNTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"0+"), lambda _: "grants nothing; the smallest amount is 1"),
    (re.compile(r"0+([1-9][0-9]*)"), lambda found: f"has a leading zero; write {found[1]}"),
    (
        re.compile(r"[0-9]{16,}"),
        lambda found: f"has {len(found[0])} digits; the largest amount is {MAX_AMOUNT}",
    ),
    (re.compile(r"\+([0-9]+)"), lambda found: f"has a sign; write {found[1]}"),
    (
        re.compile(r"[-\u2212\u2013][0-9].*"),
        lambda _: "is negative; an amount adds tokens, and `tokenctl reverse` takes them back",
    ),
    (re.compile(r"\d{1,15}"), _other_digits),
    (re.compile(r"(?P<first>[1-9][0-9]{0,2})(?P<sign>[_.,' \u00a0\u202f])[0-9]{3}(?:(?P=sign)[0-9]{3})*"), _grouped),
    (re.compile(r"(?P<first>[0-9]+)[.,](?P<rest>[0-9]+)"), _divided),
    (re.compile(r"(?P<first>[1-9][0-9]*)(?:\.0*)?[eE]\+?(?P<zeros>[0-9]{1,2})"), _scientific),
    (re.compile(r"nan|[+-]?inf(inity)?|null|none|n/a|true|false|-+", re.IGNORECASE), lambda _: "is not a number"),
)


def _named(char: str) -> str:
    if char == " ":
        return "a blank"
    return f"{shown(char)} ({_code(char)})" if char.isprintable() else _code(char)


def _code(char: str) -> str:
    return f"U+{ord(char):04X}"
