"""Times and limits that people type."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.cli import forms
from tokenctl.output.text import moment, rfc3339

DAY = datetime(2026, 11, 23, tzinfo=UTC)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 — a zone is given


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2026-11-23T18:04:00Z", 18 + 4 / 60),
        ("2026-11-23t18:00:00Z", 18),
        ("2026-11-23 18:04 UTC", 18 + 4 / 60),
        ("2026-11-23 18:00", 18),
        ("2026-11-23T18:00:00.5Z", 18 + 0.5 / 3600),
        ("2026-11-23T18:00:00+02:00", 16),
        ("2026-11-23T18:00-05:30", 23.5),
        ("2026-11-23T00:00:00+02:00", -2),
    ],
)
def test_a_time_is_read_as_utc_unless_it_names_its_zone(text: str, hours: float) -> None:
    assert forms.since(text) == forms.until(text) == DAY + timedelta(hours=hours)
    assert forms.since(text).tzinfo is UTC


def test_a_date_is_a_whole_day_in_utc() -> None:
    assert forms.since("2026-11-23") == DAY
    assert forms.until("2026-11-23") == DAY + timedelta(days=1)
    assert forms.until("2999-12-31").year == 3000


@given(TIMES)
def test_what_is_printed_can_be_typed(when: datetime) -> None:
    assert forms.since(rfc3339(when)) == when
    assert forms.until(moment(when)) == when.replace(second=0, microsecond=0)
    tokyo = when.astimezone(timezone(timedelta(hours=9)))
    assert forms.since(tokyo.isoformat()) == when


WRONG = [
    "", "today", "23.11.2026", "2026-1-1", "2026-11-23T", "2026-11-23T18", "2026-11-23T18:04:00ZZ", "0001-01-01",
    "3000-01-01", "2026-02-30", "2026-13-01", "2026-11-23T25:00:00Z", "2026-11-23T18:60:00Z", "1763921049",
    "2026-11-23Z", "2026-11-23 UTC", "2026-11-23+02:00", "2026-11-23T18:04:00+99:00", "٢٠٢٦-11-23",
    "2026-11-23T18:04:00.1234567Z", " 2026-11-23", "2026-11-23\n", "2026-11-23T18:04:00 CET", "-1 day",
]  # fmt: skip


@pytest.mark.parametrize("read", [forms.since, forms.until])
@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_time_is_refused_with_a_sentence(read: Callable[[str], datetime], text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|calendar|no zone") as caught:
        read(text)
    assert str(caught.value).isprintable()


def test_a_limit_is_one_to_a_hundred_thousand() -> None:
    assert [forms.limit(text) for text in ("1", "50", "100000")] == [1, 50, 100_000]
    for text in ("0", "", "100001", "999999", "1000000", "01", "5.0", "1_000", "-1", "+5", " 5", "٣", "1e3"):
        with pytest.raises(ValueError, match="1 to 100000"):
            forms.limit(text)
