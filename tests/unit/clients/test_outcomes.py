"""Every row of what a call to Gemini may come to, and what is done about it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.clients.outcomes import FOR_EVER, Act, Ended, Kind, Scope, Verdict, classify, refused, until_reset_s

NOW = datetime(2027, 1, 15, 12, 0, tzinfo=UTC)
HOUR_S = 3600.0
#: From noon UTC, which is four in the morning there, to midnight in Los Angeles.
TO_MIDNIGHT_S = 20 * HOUR_S


def rpc(status: str = "", message: str = "", *details: dict[str, Any]) -> dict[str, Any]:
    """The JSON of an error as Google's services write it."""
    return {"error": {"status": status, "message": message, "details": list(details)}}


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry_info(delay: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota(quota_id: str, value: Any = "60") -> dict[str, Any]:
    violation = {"quotaMetric": "generate_content", "quotaId": quota_id, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"

ROWS: dict[str, tuple[int, dict[str, Any], Verdict]] = {
    "400 invalid key": (
        400, rpc("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info("API_KEY_INVALID")),
        Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER),
    ),
    "400 expired key, told in words only": (
        400, rpc("INVALID_ARGUMENT", "API key expired. Please renew the API key."),
        Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER),
    ),
    "401": (
        401, rpc("UNAUTHENTICATED", "no credentials"), Verdict("key_rejected", Act.ROTATE, Scope.KEY, HOUR_S),
    ),
    "403 restricted key": (
        403, rpc("PERMISSION_DENIED", "blocked", info("API_KEY_SERVICE_BLOCKED")),
        Verdict("key_rejected", Act.ROTATE, Scope.KEY, HOUR_S),
    ),
    "403 leaked key": (
        403, rpc("PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
        Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER),
    ),
    "403 service disabled": (
        403, rpc("PERMISSION_DENIED", "not used before", info("SERVICE_DISABLED")),
        Verdict("project_refused", Act.ROTATE, Scope.PROJECT, HOUR_S),
    ),
    "403 consumer suspended": (
        403, rpc("PERMISSION_DENIED", "suspended", info("CONSUMER_SUSPENDED")),
        Verdict("project_refused", Act.ROTATE, Scope.PROJECT, HOUR_S),
    ),
    "403 billing": (
        403, rpc("PERMISSION_DENIED", "This API method requires billing to be enabled."),
        Verdict("project_refused", Act.ROTATE, Scope.PROJECT, HOUR_S),
    ),
    "402": (402, rpc("", "pay"), Verdict("project_refused", Act.ROTATE, Scope.PROJECT, HOUR_S)),
    "429 without details": (
        429, rpc("RESOURCE_EXHAUSTED"), Verdict("quota_minute", Act.ROTATE, Scope.PROJECT, 30.0),
    ),
    "429 of a minute with a hint": (
        429, rpc("RESOURCE_EXHAUSTED", "", quota(PER_MINUTE), retry_info("37.5s")),
        Verdict("quota_minute", Act.ROTATE, Scope.PROJECT, 37.5),
    ),
    "429 of a minute that wants no wait": (
        429, rpc("RESOURCE_EXHAUSTED", "", quota(PER_MINUTE), retry_info("0s")),
        Verdict("quota_minute", Act.ROTATE, Scope.PROJECT, 1.0),
    ),
    "429 of a day with a misleading hint": (
        429, rpc("RESOURCE_EXHAUSTED", "", quota(PER_MINUTE), quota(PER_DAY), retry_info("3s")),
        Verdict("quota_day", Act.ROTATE, Scope.PROJECT, TO_MIDNIGHT_S),
    ),
    "429 of a model that the project may not use at all": (
        429, rpc("RESOURCE_EXHAUSTED", "", quota(PER_MINUTE, "0"), retry_info("3s")),
        Verdict("quota_day", Act.ROTATE, Scope.PROJECT, TO_MIDNIGHT_S),
    ),
    "429 with a zero that is a number": (
        429, rpc("RESOURCE_EXHAUSTED", "", quota(PER_MINUTE, 0)),
        Verdict("quota_day", Act.ROTATE, Scope.PROJECT, TO_MIDNIGHT_S),
    ),
    "503 with a hint": (
        503, rpc("UNAVAILABLE", "overloaded", retry_info("7s")),
        Verdict("server_error", Act.RETRY, Scope.MODEL, wait_s=7.0),
    ),
    "400 wrong request": (400, rpc("INVALID_ARGUMENT", "imageSize"), Verdict("bad_request", Act.FAIL)),
    "400 wrong place": (
        400, rpc("FAILED_PRECONDITION", "User location is not supported for the API use."),
        Verdict("precondition", Act.FAIL),
    ),
    "404": (404, rpc("NOT_FOUND", "models/x is not found"), Verdict("not_found", Act.FAIL)),
    "413": (413, rpc("", "too large"), Verdict("bad_request", Act.FAIL)),
    "499": (499, rpc("CANCELLED"), Verdict("bad_request", Act.FAIL)),
    "302": (302, {}, Verdict("bad_answer", Act.RETRY, Scope.ENDPOINT, repeats=1)),
    "201": (201, {}, Verdict("bad_answer", Act.RETRY, Scope.ENDPOINT, repeats=1)),
    **{
        str(code): (code, rpc("INTERNAL"), Verdict("server_error", Act.RETRY, Scope.MODEL))
        for code in (408, 500, 501, 502, 503, 504, 529)
    },
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_refusal_is_classified(row: str) -> None:
    code, body, verdict = ROWS[row]
    assert classify(refused(code, body, {}, now=NOW), now=NOW) == verdict


CONTENT = (
    "SAFETY", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION",
    "IMAGE_RECITATION", "LANGUAGE",
)  # fmt: skip


@pytest.mark.parametrize("reason", CONTENT)
def test_content_that_was_refused_is_never_sent_again(reason: str) -> None:
    assert classify(Ended(Kind.ANSWERED, finish=reason), now=NOW) == Verdict("blocked", Act.FAIL)


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "JAILBREAK", "SOMETHING_NEW"])
def test_a_blocked_prompt_is_never_sent_again(reason: str) -> None:
    assert classify(Ended(Kind.ANSWERED, blocked=reason), now=NOW) == Verdict("blocked", Act.FAIL)


@pytest.mark.parametrize(
    "reason", ["", "STOP", "NO_IMAGE", "IMAGE_OTHER", "OTHER", "MAX_TOKENS", "MALFORMED_RESPONSE", "SOMETHING_NEW"]
)
def test_an_answer_without_an_image_is_worth_one_more_call(reason: str) -> None:
    assert classify(Ended(Kind.ANSWERED, finish=reason), now=NOW) == Verdict("no_image", Act.RETRY, repeats=1)


def test_an_account_that_was_limited_is_the_projects_fault() -> None:
    verdict = classify(Ended(Kind.ANSWERED, finish="PUP_LIMITED_DISABLED"), now=NOW)
    assert verdict == Verdict("project_refused", Act.ROTATE, Scope.PROJECT, HOUR_S)


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (Kind.UNSENT, Verdict("unreachable", Act.RETRY, Scope.ENDPOINT)),
        (Kind.LOST, Verdict("ambiguous", Act.RETRY, Scope.ENDPOINT, repeats=1)),
        (Kind.UNREADABLE, Verdict("bad_answer", Act.RETRY, Scope.ENDPOINT, repeats=1)),
        (Kind.UNTRUSTED, Verdict("untrusted", Act.FAIL, Scope.ENDPOINT)),
    ],
)
def test_a_call_without_an_answer_is_classified(kind: Kind, verdict: Verdict) -> None:
    assert classify(Ended(kind), now=NOW) == verdict


def test_an_image_is_a_success_whatever_else_is_said() -> None:
    assert classify(Ended(Kind.ANSWERED, image=True, finish="STOP"), now=NOW) == Verdict("success", Act.DONE)


@pytest.mark.parametrize(
    ("body", "header", "seconds"),
    [
        (rpc("", "Please retry in 12.25s.", retry_info("37.5s")), "5", 37.5),
        (rpc("", "Please retry in 12.25s."), "5", 5.0),
        (rpc("", "Please retry in 12.25s."), "", 12.25),
        (rpc("", "", retry_info("soon")), " 8 ", 8.0),
        (rpc(), "Fri, 15 Jan 2027 12:01:30 GMT", 90.0),
        (rpc(), "Fri, 15 Jan 2027 12:01:30 -0000", 90.0),
        (rpc(), "Fri, 15 Jan 2027 11:00:00 GMT", 0.0),
        (rpc(), "Fri, 15 Jan 9027 11:00:00 GMT", 86_400.0),
        (rpc("", "", retry_info("999999999s")), "", 86_400.0),
        (rpc("", "", retry_info("-3s")), "", None),
        (rpc("", "", retry_info("nan")), "inf", None),
        (rpc("", "", retry_info({"seconds": 3})), "", None),
        (rpc(), "", None),
    ],
)
def test_the_hint_how_long_to_wait_is_read_in_this_order(
    body: dict[str, Any], header: str, seconds: float | None
) -> None:
    assert refused(503, body, {"retry-after": header}, now=NOW).retry_after_s == seconds


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (datetime(2027, 1, 15, 7, 0, tzinfo=UTC), 1),
        (datetime(2027, 1, 15, 8, 0, tzinfo=UTC), 24),
        (datetime(2027, 7, 15, 7, 0, tzinfo=UTC), 24),
        (datetime(2027, 3, 14, 8, 0, tzinfo=UTC), 23),  # the night that summer time begins
        (datetime(2027, 11, 7, 7, 0, tzinfo=UTC), 25),
    ],
)
def test_a_quota_of_a_day_begins_anew_at_midnight_in_los_angeles(now: datetime, hours: int) -> None:
    assert until_reset_s(now) == hours * HOUR_S


def test_without_time_zones_it_is_at_most_an_hour_late(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    assert until_reset_s(datetime(2027, 1, 15, 7, 0, tzinfo=UTC)) == HOUR_S
    assert until_reset_s(datetime(2027, 7, 15, 6, 0, tzinfo=UTC)) == 2 * HOUR_S


def test_what_gemini_says_is_cut_to_one_short_printable_line() -> None:
    ended = refused(400, rpc("BAD\x1b[31m", "first\nsecond"), {}, now=NOW)
    assert (ended.status, ended.message) == ("BAD?[31m", "first")
    assert len(refused(400, rpc("", "x" * 10_000), {}, now=NOW).message) == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "status", "details", "violations", "reason", "quotaId", "quotaValue", "retryDelay"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.integers(201, 599), JSON, st.text(max_size=40))
def test_any_body_and_header_are_classified(code: int, body: Any, header: str) -> None:
    ended = refused(code, body, {"retry-after": header}, now=NOW)
    verdict = classify(ended, now=NOW)
    assert verdict.act is not Act.DONE
    assert 0 <= verdict.wait_s <= 86_400
    assert verdict.cooldown_s is None or 0 < verdict.cooldown_s <= 25 * HOUR_S or math.isinf(verdict.cooldown_s)
    assert all(text.isprintable() and len(text) <= 200 for text in (ended.message, ended.status, ended.reason))
