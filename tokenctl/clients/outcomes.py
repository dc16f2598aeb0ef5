"""What a call to Gemini came to, and what to do about it: one table, as a function of plain values.

A call that ends with HTTP 200 may have made no image, and one that ends without an answer
may have made one that is billed. Nothing here knows a library, a clock or a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How a call ended, as far as the wire is concerned."""

    ANSWERED = "answered"  # 200, and readable: an image, or a reason why there is none
    REFUSED = "refused"  # any other status
    UNSENT = "unsent"  # no connection, so nothing was asked
    LOST = "lost"  # asked, and no whole answer came: nobody knows whether an image was made
    UNREADABLE = "unreadable"  # 200, and not an answer of Gemini's
    UNTRUSTED = "untrusted"  # the certificate is not one that this machine trusts


@dataclass(frozen=True)
class Ended:
    """How a call ended. Texts are Gemini's own: short, printable, and to be shown to people only."""

    kind: Kind
    #: Of REFUSED: the HTTP status, Google's name for it, and what stands in the details.
    http_status: int = 200
    status: str = ""
    reason: str = ""
    quota: str = ""
    quota_is_zero: bool = False
    message: str = ""
    retry_after_s: float | None = None
    #: Of ANSWERED: whether an image came, and how the model says that it ended.
    image: bool = False
    finish: str = ""
    blocked: str = ""


class Act(StrEnum):
    """What to do next."""

    DONE = "done"
    ROTATE = "rotate"  # ask again with another key
    RETRY = "retry"  # ask again
    FAIL = "fail"  # to ask again would change nothing


class Scope(StrEnum):
    """Whose fault it was: who is left alone for a while."""

    KEY = "key"
    PROJECT = "project"  # quotas belong to a project and a model, however many keys there are
    MODEL = "model"
    ENDPOINT = "endpoint"
    NOBODY = "nobody"


#: For a scope that is to be left alone until a person changes something.
FOR_EVER = math.inf


@dataclass(frozen=True)
class Verdict:
    """What to do. `label` names the outcome in metrics and logs.

    `cooldown_s` is for how long its scope is left alone; None counts a failure of it instead.
    `wait_s` is the least time before the next call. `repeats` is how many further calls of the
    same request this outcome is worth.
    """

    label: str
    act: Act
    scope: Scope = Scope.NOBODY
    cooldown_s: float | None = None
    wait_s: float = 0.0
    repeats: int = 2


_HOUR_S = 3600.0
_QUOTA_WAIT_S = 30.0  # when Gemini does not say how long
_LEAST_QUOTA_WAIT_S = 1.0  # when it says "at once" and refuses all the same
_LONGEST_HINT_S = 86_400.0
#: What the content was refused for. To send it again would be refused again, with any key.
_CONTENT = frozenset(
    (
        "SAFETY", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "SPII",
        "RECITATION", "IMAGE_RECITATION", "LANGUAGE", "MODEL_ARMOR", "JAILBREAK",
    )
)  # fmt: skip
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"
_PROJECT_REASONS = frozenset(("SERVICE_DISABLED", "CONSUMER_SUSPENDED", "CONSUMER_INVALID", "BILLING_DISABLED"))
_INVALID_KEY = re.compile(r"api key (?:not valid|expired|not found)", re.IGNORECASE)
_LEAKED = re.compile(r"leaked", re.IGNORECASE)
_BILLING = re.compile(r"billing", re.IGNORECASE)


def classify(ended: Ended, *, now: datetime) -> Verdict:
    """What to do after a call that ended like this; `now` is an aware time, for quotas of a day."""
    match ended.kind:
        case Kind.ANSWERED:
            return _answered(ended)
        case Kind.REFUSED:
            return _refused(ended, now)
        case Kind.UNSENT:
            return Verdict("unreachable", Act.RETRY, Scope.ENDPOINT)
        case Kind.LOST:
            return Verdict("ambiguous", Act.RETRY, Scope.ENDPOINT, repeats=1)
        case Kind.UNREADABLE:
            return Verdict("bad_answer", Act.RETRY, Scope.ENDPOINT, repeats=1)
        case Kind.UNTRUSTED:
            return Verdict("untrusted", Act.FAIL, Scope.ENDPOINT)


def _answered(ended: Ended) -> Verdict:
    if ended.image:
        return Verdict("success", Act.DONE)
    if ended.finish == _ACCOUNT_LIMITED:
        return Verdict("project_refused", Act.ROTATE, Scope.PROJECT, _HOUR_S)
    if ended.blocked or ended.finish in _CONTENT:
        return Verdict("blocked", Act.FAIL)
    return Verdict("no_image", Act.RETRY, repeats=1)


def _refused(ended: Ended, now: datetime) -> Verdict:
    code = ended.http_status
    if code == 429:
        return _quota(ended, now)
    if code == 408 or code >= 500:
        return Verdict("server_error", Act.RETRY, Scope.MODEL, wait_s=ended.retry_after_s or 0.0)
    if code < 400:
        return Verdict("bad_answer", Act.RETRY, Scope.ENDPOINT, repeats=1)
    if ended.reason == "API_KEY_INVALID" or (code == 400 and _INVALID_KEY.search(ended.message)):
        return Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER)
    if code in (402, 403) and (code == 402 or _is_the_projects(ended)):
        return Verdict("project_refused", Act.ROTATE, Scope.PROJECT, _HOUR_S)
    if code in (401, 403):
        for_good = _LEAKED.search(ended.message)
        return Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER if for_good else _HOUR_S)
    if code == 404:
        return Verdict("not_found", Act.FAIL)
    if code == 400 and ended.status == "FAILED_PRECONDITION":
        return Verdict("precondition", Act.FAIL)
    return Verdict("bad_request", Act.FAIL)


def _is_the_projects(ended: Ended) -> bool:
    return ended.reason in _PROJECT_REASONS or bool(_BILLING.search(ended.message))


def _quota(ended: Ended, now: datetime) -> Verdict:
    # With a quota of a day Gemini sends a hint of seconds all the same.
    if ended.quota_is_zero or "PerDay" in ended.quota:
        return Verdict("quota_day", Act.ROTATE, Scope.PROJECT, until_reset_s(now))
    wait_s = _QUOTA_WAIT_S if ended.retry_after_s is None else max(ended.retry_after_s, _LEAST_QUOTA_WAIT_S)
    return Verdict("quota_minute", Act.ROTATE, Scope.PROJECT, wait_s)


def until_reset_s(now: datetime) -> float:
    """Seconds until quotas of a day begin anew: midnight in Los Angeles."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        there = now.astimezone(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:  # a machine without time zones: in summer an hour late
        there = now.astimezone(UTC) - timedelta(hours=8)
    midnight = (there + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight.astimezone(UTC) - there.astimezone(UTC)).total_seconds()


def refused(http_status: int, body: Any, headers: Mapping[str, str], *, now: datetime) -> Ended:
    """How a call ended whose answer has another status than 200.

    `body` is the parsed JSON, or whatever stood there instead; nothing of its shape is relied on.
    """
    error = _table(_table(body).get("error", body))
    message = _text(error.get("message"))
    details = [_table(one) for one in error["details"]] if isinstance(error.get("details"), list) else []
    quotas = [_table(one) for detail in details for one in _list(detail.get("violations"))]
    return Ended(
        Kind.REFUSED,
        http_status=http_status,
        status=_text(error.get("status")),
        reason=next((_text(detail["reason"]) for detail in details if "reason" in detail), ""),
        quota=" ".join(_text(one.get("quotaId")) for one in quotas)[:_TEXT_CHARACTERS],
        quota_is_zero=any(str(one.get("quotaValue")) == "0" for one in quotas),
        message=message,
        retry_after_s=_hint(details, headers.get("retry-after", ""), message, now),
    )


_TEXT_CHARACTERS = 200
_SECONDS = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)s?\s*")
_RETRY_IN = re.compile(r"retry in ([0-9]{1,9}(?:\.[0-9]{1,9})?) ?s", re.IGNORECASE)


def _hint(details: list[dict[str, Any]], header: str, message: str, now: datetime) -> float | None:
    """In how many seconds Gemini wants to be asked again: from RetryInfo, the header, or its sentence."""
    for told in (*(detail.get("retryDelay") for detail in details), header):
        if isinstance(told, str) and (match := _SECONDS.fullmatch(told)):
            return min(float(match[1]), _LONGEST_HINT_S)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        match = _RETRY_IN.search(message)
        return min(float(match[1]), _LONGEST_HINT_S) if match else None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), _LONGEST_HINT_S)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """The first line of a text that a peer sent, short and without what a terminal would obey."""
    line = next(iter(value.strip().splitlines()), "") if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "?" for c in line[:_TEXT_CHARACTERS])
