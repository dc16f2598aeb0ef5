"""A statement page by page: every entry once, in order, and cursors that belong to one list."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.entries import NOW
from tokenctl.errors import UsageError, UserNotFound
from tokenctl.models import Balance, Entry
from tokenctl.services import history
from tokenctl.services.history import Wanted
from tokenctl.storage.history import History
from tokenctl.storage.ledger import Ledger

KINDS = ("bonus", "purchase", "generation", "adjustment")


def entry(seq: int, kind: str = "bonus") -> Entry:
    return Entry(
        "u1", seq, 5, 5 * seq, NOW + timedelta(hours=seq), kind, "test", None, None, None, "support1", "me", "r",
        f"k{seq}", None, None, None,
    )  # fmt: skip


class Rows:
    """Entries 1 to `newest` of u1 as the storage gives them, and how often and how many it was asked for."""

    def __init__(self, newest: int) -> None:
        self.every = [entry(seq, KINDS[seq % 4]) for seq in range(1, newest + 1)]
        self.asked: list[int] = []

    def page(
        self, user_id: str, *, below: int, upto: int, until: datetime | None, kind: str | None, rows: int
    ) -> list[Entry]:
        assert (user_id, upto) == ("u1", 2**63 - 1)
        self.asked.append(rows)
        found = [
            e
            for e in reversed(self.every)
            if e.seq < below and (until is None or e.created_at < until) and kind in (None, e.kind)
        ]
        return found[:rows]


class Accounts:
    """A ledger that knows u1."""

    def balances(self, users: list[str]) -> dict[str, Balance]:
        return {user: Balance(user, 0, 0, 0, None) for user in users if user == "u1"}

    def nearest(self, _user_id: str) -> list[str]:
        return ["u1"]


MOMENTS = st.one_of(st.none(), st.integers(-1, 42).map(lambda hours: NOW + timedelta(hours=hours)))


def read(rows: Rows, wanted: Wanted) -> tuple[list[int], str | None]:
    statement = history.read(cast(History, rows), cast(Ledger, Accounts()), wanted, ledger_name="env")
    return [e.seq for e in statement], statement.next_cursor


@given(
    st.integers(0, 40),
    st.integers(1, 45),
    st.sampled_from([None, *KINDS]),
    st.tuples(MOMENTS, MOMENTS),
    st.integers(1, 9),
)
def test_cursors_lead_through_every_entry_once(
    newest: int, limit: int, kind: str | None, times: tuple[datetime | None, datetime | None], page: int
) -> None:
    since, until = times
    if since is not None and until is not None and since >= until:
        return
    rows = Rows(newest)
    expected = [
        e.seq
        for e in reversed(rows.every)
        if kind in (None, e.kind)
        and (since is None or e.created_at >= since)
        and (until is None or e.created_at < until)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "PAGE_ROWS", page)
        seen, cursor = read(rows, Wanted("u1", since, until, kind, limit))
        while cursor is not None:
            assert len(seen) % limit == 0
            more, cursor = read(rows, Wanted("u1", since, until, kind, limit, cursor))
            assert more
            seen += more
    assert seen == expected


def test_nothing_is_read_beyond_what_is_asked_for() -> None:
    rows = Rows(30)
    assert read(rows, Wanted("u1", limit=10))[0] == list(range(30, 20, -1))
    assert rows.asked == [11]
    rows = Rows(30)
    read(rows, Wanted("u1", limit=50))
    assert rows.asked == [51]


def test_a_time_ends_the_reading_where_it_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_ROWS", 5)
    rows = Rows(1000)
    seen, cursor = read(rows, Wanted("u1", since=NOW + timedelta(hours=993), limit=100))
    assert (seen, cursor) == (list(range(1000, 992, -1)), None)
    assert rows.asked == [5, 5]


def test_pages_are_read_only_as_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_ROWS", 5)
    rows = Rows(1000)
    statement = history.read(cast(History, rows), cast(Ledger, Accounts()), Wanted("u1", limit=900), ledger_name="env")
    first = next(iter(statement))
    assert (first.seq, rows.asked) == (1000, [5])


CURSORS = st.one_of(st.text(), st.from_regex(r"[0-9]{1,20}-[0-9a-f]{8}", fullmatch=True))


@given(CURSORS)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    _, real = read(Rows(30), Wanted("u1", limit=10))
    if text != real:
        with pytest.raises(UsageError, match="--cursor"):
            read(Rows(30), Wanted("u1", limit=10, cursor=text))


@pytest.mark.parametrize("other", [{"kind": "bonus"}, {"since": NOW}, {"until": NOW + timedelta(days=9)}])
def test_a_cursor_belongs_to_its_filters_and_not_to_its_limit(other: dict[str, object]) -> None:
    _, cursor = read(Rows(30), Wanted("u1", limit=10))
    assert read(Rows(30), Wanted("u1", limit=3, cursor=cursor))[0] == [20, 19, 18]
    with pytest.raises(UsageError, match="--cursor"):
        read(Rows(30), Wanted("u1", cursor=cursor, **other))  # type: ignore[arg-type]  # fields by name


def test_a_cursor_belongs_to_its_user() -> None:
    _, cursor = read(Rows(30), Wanted("u1", limit=10))
    with pytest.raises(UsageError, match="--cursor"):
        history.read(cast(History, Rows(30)), cast(Ledger, Accounts()), Wanted("u2", cursor=cursor), ledger_name="env")


def test_no_entries_are_no_failure_and_no_user_is_one() -> None:
    assert read(Rows(0), Wanted("u1")) == ([], None)
    empty = cast(History, type("Nobody", (), {"page": lambda *_, **__: []})())
    with pytest.raises(UserNotFound) as caught:
        history.read(empty, cast(Ledger, Accounts()), Wanted("u2"), ledger_name="env")
    assert caught.value.context["nearest"] == ["u1"]


def test_times_must_be_in_order() -> None:
    for until in (NOW, NOW - timedelta(seconds=1)):
        with pytest.raises(UsageError, match="--since is not before --until"):
            read(Rows(3), Wanted("u1", NOW, until))
