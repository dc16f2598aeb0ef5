"""Balances and their cache: what is asked, what is kept, what is shown while the ledger does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tokenctl.errors import BreakerOpen, NotAllowed, TimedOut, TokenctlError, Unavailable, UserNotFound
from tokenctl.models import Balance, Change
from tokenctl.resilience.cache import Cache
from tokenctl.services import balances
from tokenctl.services.balances import MANY, Balances, Reader
from tokenctl.statefile import StateFile
from tokenctl.storage.ledger import Ledger
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import SCHEMA, Metrics


@dataclass
class FakeLedger:
    """Knows some users; `meanwhile` happens between its question and its answer."""

    known: dict[str, int]
    asked: list[list[str]] = field(default_factory=list)
    failure: TokenctlError | None = None
    meanwhile: Callable[[], None] = lambda: None

    def balances(self, users: Sequence[str]) -> dict[str, Balance]:
        self.asked.append(list(users))
        if self.failure is not None:
            raise self.failure
        found = {user: self.known[user] for user in users if user in self.known}
        self.meanwhile()
        change = Change(datetime(2026, 11, 24, 18, 2, tzinfo=UTC), 5, "goodwill")
        return {user: Balance(user, number, 1, number - 1, change) for user, number in found.items()}

    def nearest(self, _user: str) -> list[str]:
        return []


@dataclass
class World:
    """A reader whose clocks the test moves."""

    folder: Path
    ledger: FakeLedger
    ttl_s: float = 30.0
    # The library behind the cache looks at the real clock when it keeps a value.
    now_s: float = field(default_factory=time.time)
    files: list[Cache] = field(default_factory=list)

    def reader(self, identity: str = "prod") -> Reader:
        cache = Cache(self.folder / "cache", clock=lambda: (self.now_s, self.now_s))
        self.files.append(cache)
        metrics = Metrics(StateFile(self.folder / "metrics.db", SCHEMA))
        return Reader(lambda: cast("Ledger", self.ledger), cache, identity, self.ttl_s, "prod", metrics)

    def read(self, *users: str, identity: str = "prod", **options: bool) -> Balances:
        """What one run of the command reads."""
        return self.reader(identity).read(users, **options)

    def numbers(self, *users: str, **options: Any) -> dict[str, int]:
        return {one.user_id: one.balance for one in self.read(*users, **options).known}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, FakeLedger({"a": 10, "b": 20, "c": 30}))
    yield made
    for cache in made.files:
        cache.close()


def test_only_those_that_are_not_known_are_asked_for_and_in_one_question(world: World) -> None:
    world.read("a")
    world.now_s += 12.0
    found = world.read("c", "a", "b", "a")
    assert world.ledger.asked == [["a"], ["c", "b"]]
    assert [(one.user_id, one.balance) for one in found.known] == [("c", 30), ("a", 10), ("b", 20), ("a", 10)]
    assert {user: round(age_s) for user, age_s in found.ages_s.items()} == {"a": 12}
    assert (found.unknown, found.stale) == (None, None)


def test_a_balance_comes_back_whole(world: World) -> None:
    assert world.read("a").known == world.read("a").known
    assert len(world.ledger.asked) == 1


def test_it_is_asked_again_when_it_is_old_or_when_that_is_wanted(world: World) -> None:
    world.read("a")
    world.ledger.known["a"] = 11
    assert world.numbers("a") == {"a": 10}
    assert world.numbers("a", fresh=True) == {"a": 11}
    assert world.numbers("a") == {"a": 11}
    world.ledger.known["a"] = 12
    world.now_s += 30.0
    assert world.numbers("a") == {"a": 12}


def test_ledgers_and_logins_are_told_apart(world: World) -> None:
    world.read("a")
    world.ledger.known["a"] = 11
    assert world.numbers("a", identity="staging") == {"a": 11}
    assert world.numbers("a") == {"a": 10}


def test_without_a_time_to_live_nothing_is_kept_or_shown(world: World) -> None:
    world.ttl_s = 0.0
    world.read("a")
    world.ledger.failure = Unavailable("down")
    with pytest.raises(Unavailable):
        world.read("a", allow_stale=True)
    assert not (world.folder / "cache").exists()


def test_who_is_unknown_is_asked_for_each_time(world: World) -> None:
    for _ in range(2):
        assert isinstance(world.read("x").unknown, UserNotFound)
    assert world.ledger.asked == [["x"], ["x"]]
    world.ledger.known["x"] = 1
    assert world.numbers("x") == {"x": 1}


def test_many_at_once_come_from_the_ledger_and_push_out_nobody(world: World) -> None:
    world.read("a")
    world.ledger.known = {f"u{number}": number for number in range(MANY)} | {"a": 11}
    everybody = list(world.ledger.known)
    assert world.numbers(*everybody) == world.ledger.known
    assert world.ledger.asked[-1] == everybody
    assert world.reader().cache.stats().entries == 1
    assert len(world.numbers(*everybody[:MANY])) == MANY
    assert world.reader().cache.stats().entries == MANY + 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "x",
        [],
        {},
        {"user_id": "a"},
        {"last_change": None},
        {"last_change": 5},
        {"last_change": {"at": "noon"}},
    ],
)
def test_what_is_no_balance_is_not_taken_for_one(world: World, value: object) -> None:
    cache = world.reader().cache
    cache.put_many(balances.NAMESPACE, {"prod:a": value}, 30.0, ticket=cache.ticket(balances.NAMESPACE))
    world.ledger.failure = Unavailable("down")
    with pytest.raises(Unavailable):
        world.read("a", allow_stale=True)
    world.ledger.failure = None
    assert world.numbers("a") == {"a": 10}


@pytest.mark.parametrize("user", ["a", "b", None])
def test_an_answer_that_a_write_overtook_is_shown_and_not_kept(world: World, user: str | None) -> None:
    def write() -> None:
        world.ledger.known["a"] = 11
        balances.forget(world.reader().cache, "prod", user)

    world.ledger.meanwhile = write
    assert world.numbers("a") == {"a": 10}
    world.ledger.meanwhile = lambda: None
    assert world.numbers("a") == {"a": 11}


DOWN = [Unavailable("down", hint="is it up?"), BreakerOpen("marked as down"), TimedOut("out of time")]


@pytest.mark.parametrize("failure", DOWN, ids=lambda error: str(error.code))
def test_with_the_ledger_down_what_was_known_is_shown_to_who_asks_for_it(world: World, failure: TokenctlError) -> None:
    world.read("a", "b")
    world.now_s += 840.0
    world.ledger.failure = failure
    with pytest.raises(type(failure)) as raised:
        world.read("a", "b")
    assert raised.value.hint.endswith("what was known 14 min ago: --allow-stale shows it")
    found = world.read("a", "b", allow_stale=True)
    assert [one.balance for one in found.known] == [10, 20]
    assert {user: round(age_s) for user, age_s in found.ages_s.items()} == {"a": 840, "b": 840}
    assert found.stale is failure


def test_each_balance_is_counted_by_where_it_came_from(world: World) -> None:
    world.read("a")
    world.now_s += 60.0
    world.read("b", "c")
    world.ledger.failure = Unavailable("down")
    reader = world.reader()
    reader.read(("a", "b", "c"), allow_stale=True)
    reader.metrics.flush()
    counted = {one.labels: one.value for one in reader.metrics.stored() if one.metric is catalog.BALANCE_CHECKS}
    assert counted == {("cache",): 2, ("stale",): 1}


def test_who_was_written_to_since_is_not_known(world: World) -> None:
    world.read("a", "b")
    balances.forget(world.reader().cache, "prod", "a")
    world.ledger.failure = Unavailable("down")
    with pytest.raises(Unavailable) as raised:
        world.read("a", "b", "c", allow_stale=True)
    assert "allow-stale" not in raised.value.hint
    assert [one.balance for one in world.read("b", allow_stale=True, fresh=True).known] == [20]


def test_a_refusal_is_no_outage(world: World) -> None:
    world.read("a")
    world.now_s += 60.0
    world.ledger.failure = NotAllowed("no")
    with pytest.raises(NotAllowed) as raised:
        world.read("a", allow_stale=True)
    assert raised.value.hint == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (86000, "24 h")],
)
def test_an_age_in_words(seconds: float, words: str) -> None:
    assert balances.ago(seconds) == words
