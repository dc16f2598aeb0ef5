"""What people type, judged as the rows of a grant file are, and in the same words.

Each function answers the value or raises ValueError with a sentence for people. The
same rules stand as constraints in sql/migrations/0001_ledger.sql.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from tokenctl.grantfile import fields
from tokenctl.grantfile.display import shown
from tokenctl.grantfile.explain import why
from tokenctl.grantfile.values import Number
from tokenctl.services.health_report import Range

#: Rows that a list shows at most.
MOST_ROWS = 100_000
#: Characters of an operator's name at most.
MOST_OPERATOR = 128
# RFC 3339, or as times are shown: 2026-11-23 18:04 UTC.
_MOMENT = re.compile(
    r"([12]\d{3}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?))? ?(Z|UTC|[+-]\d\d:\d\d)?", re.ASCII
)


def user_id(text: str) -> str:
    """A user id: 1 to 128 letters, digits and . _ : @ - with no hyphen at the front."""
    return _text("user_id", fields.USER_ID, text)


def amount(text: str) -> int:
    """A number of tokens, 1 to 999,999,999,999,999: ASCII digits only, so that 1.000 is not read as 1."""
    if not re.fullmatch(fields.AMOUNT, text):
        raise ValueError(why("amount", Number(text)) if text else "is empty (an unset variable?)")
    return int(text)


def reason(text: str) -> str:
    """A reason code: a small letter, then up to 31 of a-z, digits, _ and -."""
    return _text("reason", fields.REASON, text)


def key(text: str) -> str:
    """An idempotency key: 1 to 128 letters, digits and . _ : @ / -."""
    return _text("idempotency_key", fields.KEY, text)


def campaign(text: str) -> str:
    """A campaign: `bonus:<campaign>` must be a key."""
    if not text or not re.fullmatch(fields.KEY, fields.campaign_key(text)):
        raise ValueError(f"{shown(text)} is no campaign's name: 1 to 122 letters, digits and . _ : @ / -")
    return text


def ticket(text: str) -> str:
    """A ticket's id: 1 to 64 letters, digits and . _ : @ / # -."""
    return _text("ticket", fields.TICKET, text)


def note(text: str) -> str:
    """A note: one line of 1 to 500 characters, none of them hidden."""
    if not text or text != text.strip() or len(text) > fields.LENGTHS["note"] or fields.hidden_character(text):
        raise ValueError(why("note", text) if text else "is empty")
    return text


def transaction(text: str) -> str:
    """A transaction's name, USER:SEQ, where USER may have colons of its own."""
    user, colon, seq = text.rpartition(":")
    if not colon or not re.fullmatch(fields.AMOUNT, seq):
        raise ValueError(f"{shown(text)} is no transaction; they are named USER:SEQ, like u_42:17")
    user_id(user)
    return text


def split_transaction(name: str) -> tuple[str, int]:
    """User and seq of a transaction's name, which is split at the last colon."""
    user, _, seq = name.rpartition(":")
    return user, int(seq)


def batch(text: str) -> str:
    """A batch id: 12 hex digits."""
    if not re.fullmatch(r"[0-9a-f]{12}", text):
        raise ValueError(f"{shown(text)} is no batch; batches are named by 12 of 0-9 a-f")
    return text


def operator(text: str) -> str:
    """A database role, a user or user@host, as the ledger has it: up to 128 characters, none of them hidden."""
    if not text or text != text.strip() or len(text) > MOST_OPERATOR or fields.hidden_character(text):
        raise ValueError(f"{shown(text)} is no operator; a database role, a user name or user@host")
    return text


def head(text: str) -> str:
    """A seal's head: 64 hex digits."""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{shown(text)} is no head of a seal; heads are 64 of 0-9 a-f, as verify --seal prints them")
    return text


def hold(text: str) -> str:
    """A hold's id, which is that of its generation: 12 hex digits."""
    if not re.fullmatch(r"[0-9a-f]{12}", text):
        raise ValueError(f"{shown(text)} is no hold; holds are named by 12 of 0-9 a-f")
    return text


def seconds(text: str) -> float:
    """A time in seconds above zero, to the millisecond."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or float(text) <= 0:
        raise ValueError(f"{shown(text)} is not a number of seconds from 0.001 to 999999.999")
    return float(text)


def job(text: str) -> str:
    """A job's name for a Pushgateway: 1 to 128 letters, digits and . _ : - with a letter or digit at the front."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", text):
        raise ValueError(f"{shown(text)} is no job's name: 1 to 128 letters, digits and . _ : -")
    return text


def count(text: str) -> int:
    """How many, zero included: digits only, up to 10^18 - 1."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise ValueError(f"{shown(text)} is not a whole number of 18 digits at most, without separators")
    return int(text)


def since(text: str) -> datetime:
    """A time in UTC from which on something counts; a date is its first moment."""
    return _moment(text)[0]


def until(text: str) -> datetime:
    """A time in UTC before which something counts; a date counts to its end."""
    when, is_date = _moment(text)
    return when + timedelta(days=1) if is_date else when


def month(text: str) -> datetime:
    """The first moment of a month, in UTC."""
    if not re.fullmatch(r"[12][0-9]{3}-(0[1-9]|1[0-2])", text):
        raise ValueError(f"{shown(text)} is no month; write 2026-11")
    return datetime.fromisoformat(f"{text}-01T00:00+00:00")


def as_of(text: str) -> datetime:
    """A moment in UTC; a date is its last one."""
    when, is_date = _moment(text)
    return when + timedelta(days=1, microseconds=-1) if is_date else when


def _moment(text: str) -> tuple[datetime, bool]:
    """The time, and whether it is a whole day. Without a zone it is UTC, as on the screen."""
    if not (found := _MOMENT.fullmatch(text)):
        raise ValueError(f"{shown(text)} is no time; write 2026-11-23 or 2026-11-23T18:04:00Z, in UTC")
    day, clock, zone = found.groups()
    offset = zone if zone and zone not in ("Z", "UTC") else "+00:00"
    try:
        when = datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}").astimezone(UTC)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is not on the calendar or the clock") from error
    if zone and not clock:
        raise ValueError(f"{shown(text)}: a date has no zone; days are those of UTC")
    return when, clock is None


def limit(text: str) -> int:
    """How many rows of a list, 1 to 100,000."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > MOST_ROWS:
        raise ValueError(f"{shown(text)} is not a number of rows; 1 to {MOST_ROWS}, digits only")
    return int(text)


def _text(column: str, pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(why(column, text) if text else "is empty (an unset variable?)")
    return text


def named_range(text: str) -> tuple[str, Range]:
    """NAME=RANGE with a range of Monitoring Plugins: 10, 10:, ~:10, 5:10, and @ before one that is not normal."""
    name, _, written = text.partition("=")
    number = r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?"
    match = re.fullmatch(rf"(@?)(?:(~|{number})?:)?({number})?", written)
    if not name or not match or not written.strip("@"):
        raise ValueError(f"{shown(text)} is no NAME=RANGE")
    inside, start, end = match.groups()
    normal = Range(
        -math.inf if start == "~" else float(start or 0), math.inf if end is None else float(end), bool(inside)
    )
    if normal.start > normal.end:
        raise ValueError(f"{shown(text)}: the range ends before it begins")
    return name, normal
