"""The forms of what people type and files hold: ids, amounts, reasons, keys, notes.

Each function answers the value or raises ValueError with a sentence for people.
The same rules stand as constraints in sql/migrations/0001_ledger.sql.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_USER = re.compile(r"[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}")
_AMOUNT = re.compile(r"[1-9][0-9]{0,14}")
_REASON = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_KEY = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")
_CAMPAIGN = re.compile(r"[A-Za-z0-9._:@/-]{1,100}")
_TICKET = re.compile(r"[A-Za-z0-9._:@/#-]{1,64}")
_BATCH = re.compile(r"[0-9a-f]{12}")
_GROUPED = re.compile(r"[1-9][0-9]{0,2}([.,_' ][0-9]{3})+")
#: Characters of a note.
NOTE_LENGTH = 500


def user_id(text: str) -> str:
    """A user id: 1 to 128 of A-Z a-z 0-9 . _ : @ - and no hyphen at the front."""
    if not text:
        raise ValueError("a user id is empty (an unset variable?)")
    if not _USER.fullmatch(text):
        raise ValueError(f"{text!r} is no user id: 1 to 128 of A-Z a-z 0-9 . _ : @ - and no hyphen at the front")
    return text


def amount(text: str) -> int:
    """A number of tokens, 1 to 999,999,999,999,999: ASCII digits only, so that 1.000 is not read as 1."""
    if _AMOUNT.fullmatch(text):
        return int(text)
    if text.isascii() and text.isdigit() and text.strip("0"):
        if text[0] != "0":
            raise ValueError(f"{text!r} is too large; at most 999999999999999 tokens")
        raise ValueError(
            f"{text!r} is not a whole number of tokens; write {text.lstrip('0')}, without zeros at the front"
        )
    if _GROUPED.fullmatch(text):
        short, _, _ = re.sub(r"[.,_' ]", "|", text).partition("|")
        digits = re.sub(r"[.,_' ]", "", text)
        either = f"{digits} or {short}" if text.count(text[len(short)]) == 1 and text[len(short)] in ".," else digits
        raise ValueError(f"{text!r} is not a whole number of tokens; write {either}, without separators")
    raise ValueError(f"{text!r} is not a whole number of tokens above zero; digits only")


def reason(text: str) -> str:
    """A reason code: a small letter, then up to 31 of a-z 0-9 _ -."""
    if not _REASON.fullmatch(text):
        raise ValueError(f"{text!r} is no reason code: a small letter, then up to 31 of a-z 0-9 _ -")
    return text


def key(text: str) -> str:
    """An idempotency key: 1 to 128 of A-Z a-z 0-9 . _ : @ / -."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no key: 1 to 128 of A-Z a-z 0-9 . _ : @ / -")
    return text


def campaign(text: str) -> str:
    """A campaign: 1 to 100 of the characters of a key, since `bonus:<campaign>` is one."""
    if not _CAMPAIGN.fullmatch(text):
        raise ValueError(f"{text!r} is no campaign: 1 to 100 of A-Z a-z 0-9 . _ : @ / -")
    return text


def ticket(text: str) -> str:
    """A ticket's id: 1 to 64 of A-Z a-z 0-9 . _ : @ / # -."""
    if not _TICKET.fullmatch(text):
        raise ValueError(f"{text!r} is no ticket: 1 to 64 of A-Z a-z 0-9 . _ : @ / # -")
    return text


def note(text: str) -> str:
    """A note: 1 to 500 characters, none of Unicode's category C (control, format, surrogate)."""
    if not 1 <= len(text) <= NOTE_LENGTH:
        raise ValueError(f"a note has 1 to {NOTE_LENGTH} characters, this one has {len(text)}")
    if not text.isprintable():
        for place, character in enumerate(text, 1):
            if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029":
                raise ValueError(f"a note has no control characters; character {place} is U+{ord(character):04X}")
    return text


@dataclass(frozen=True)
class TransactionName:
    """What people call a transaction: USER:SEQ."""

    user_id: str
    seq: int


def transaction(text: str) -> TransactionName:
    """A transaction's name, USER:SEQ, split at the last colon."""
    user, colon, seq = text.rpartition(":")
    if not colon or not _AMOUNT.fullmatch(seq):
        raise ValueError(f"{text!r} is no transaction; they are named USER:SEQ, like u_42:17")
    return TransactionName(user_id(user), int(seq))


def batch(text: str) -> str:
    """A batch id: 12 hex digits."""
    if not _BATCH.fullmatch(text):
        raise ValueError(f"{text!r} is no batch; batches are named by 12 of 0-9 a-f")
    return text
