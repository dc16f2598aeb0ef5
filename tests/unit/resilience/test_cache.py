"""What the cache promises while its files are well: ages, clocks, forgetting, and races with those who write."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tokenctl.resilience.cache import FORMAT, KEEP_S, Cache, Hit, Stats
from tokenctl.resilience.cachestore import ROW_BYTES, SIZE_LIMIT
from tokenctl.resilience.events import CacheAsked, Event

HOUR_S = 3600.0


@dataclass
class World:
    """A cache's directory, two clocks that only the test moves, and everything that was told."""

    folder: Path
    # The library behind the cache looks at the real clock when it keeps a value.
    wall_s: float = field(default_factory=time.time)
    steady_s: float = 50_000.0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = self.another()

    def another(self) -> Cache:
        """The cache as another process opens it."""
        return Cache(self.folder, clock=lambda: (self.wall_s, self.steady_s), emit=self.events.append)

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds

    def put(self, key: str, value: object, ttl_s: float = 30.0) -> None:
        self.cache.put_many("n", {key: value}, ttl_s, ticket=self.cache.ticket("n"))

    def get(self, key: str = "k", max_age_s: float = 30.0) -> Hit | None:
        return _rounded(self.cache.get_many("n", [key], max_age_s=max_age_s).get(key))

    def stale(self, key: str = "k") -> Hit | None:
        return _rounded(self.cache.get_stale("n", [key]).get(key))

    def told(self) -> list[str]:
        results = [event.result for event in self.events if isinstance(event, CacheAsked)]
        assert len(results) == len(self.events), self.events
        self.events.clear()
        return results


def _rounded(hit: Hit | None) -> Hit | None:
    """Sums of seconds, without what floats add to them."""
    return hit and Hit(hit.value, round(hit.age_s, 3))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "cache")
    yield made
    made.cache.close()


@pytest.mark.parametrize("value", [{"balance": 5}, [1, "é\x1b\u202e"], "", 0, None, False, 1.5, 2**53])
def test_a_value_comes_back_as_it_was_for_this_run_and_the_next(world: World, value: object) -> None:
    world.put("k", value)
    assert world.get() == Hit(value, 0.0)
    world.cache.close()
    world.cache = world.another()
    assert world.get() == Hit(value, 0.0)


def test_keys_and_namespaces_are_told_apart(world: World) -> None:
    for key in ("a", "A", "a:b", "", " a", "a" * 300):
        world.put(key, key)
    world.cache.put_many("other", {"a": "other's"}, 30.0, ticket=world.cache.ticket("other"))
    assert world.cache.get_many("n", ["a", "A", "a:b", "", " a", "a" * 300, "b"], max_age_s=30.0) == {
        key: Hit(key, 0.0) for key in ("a", "A", "a:b", "", " a", "a" * 300)
    }
    assert world.cache.get_many("other", ["a"], max_age_s=30.0).get("a") == Hit("other's", 0.0)


def test_a_value_lives_as_long_as_it_was_given_and_as_the_reader_wants(world: World) -> None:
    world.put("k", 1, ttl_s=30.0)
    world.pass_time(29.0)
    assert world.get() == Hit(1, 29.0)
    assert world.get(max_age_s=20.0) is None
    world.pass_time(1.0)
    assert world.get() is None
    assert world.get(max_age_s=HOUR_S) is None
    assert world.stale() == Hit(1, 30.0)


def test_a_value_is_as_old_as_its_question_not_as_its_answer(world: World) -> None:
    ticket = world.cache.ticket("n")
    world.pass_time(10.0)
    world.cache.put_many("n", {"k": 1}, 30.0, ticket=ticket)
    assert world.get() == Hit(1, 10.0)


def test_the_last_known_value_is_kept_for_a_day(world: World) -> None:
    world.put("k", 1)
    world.pass_time(KEEP_S - 1)
    assert world.stale() == Hit(1, KEEP_S - 1)
    world.pass_time(1)
    assert world.stale() is None


def test_what_is_older_than_a_day_is_swept(world: World) -> None:
    world.put("old", 1)
    world.pass_time(KEEP_S / 2)
    assert world.cache.sweep() == 0
    world.pass_time(KEEP_S)
    assert world.cache.sweep() == 1
    assert world.cache.sweep() == 0
    assert world.cache.stats().entries == 0


# --- clocks


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_after_a_jump_of_the_wall_clock_nothing_is_young(world: World, jump_s: float) -> None:
    world.put("k", 1)
    world.wall_s += jump_s
    world.pass_time(5.0)
    assert world.get() is None
    # How old it is is not known after a step back; after one forward it is taken for older than it is.
    assert world.stale() == (None if jump_s < 0 else Hit(1, HOUR_S + 5))


def test_a_value_kept_under_a_clock_that_was_ahead_does_not_become_young_later(world: World) -> None:
    world.wall_s += HOUR_S
    world.put("k", 1)
    world.wall_s -= HOUR_S
    world.pass_time(HOUR_S + 5.0)
    assert world.get() is None
    assert world.stale() == Hit(1, HOUR_S + 5)


@pytest.mark.parametrize(("back_s", "there"), [(1.5, True), (2.5, False)])
def test_a_clock_that_is_corrected_by_a_moment_does_no_harm(world: World, back_s: float, there: bool) -> None:
    world.put("k", 1)
    world.wall_s -= back_s
    assert world.get() == (Hit(1, 0.0) if there else None)
    assert world.stale() == (Hit(1, 0.0) if there else None)


def test_after_a_reboot_a_value_is_the_last_known_one_and_not_young(world: World) -> None:
    world.put("k", 1)
    world.wall_s += 10.0
    world.steady_s = 3.0
    assert world.get() is None
    assert world.stale() == Hit(1, 10.0)


def test_the_machines_own_clocks_agree_with_each_other(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put_many("n", {"k": 1}, 30.0, ticket=cache.ticket("n"))
    hit = cache.get_many("n", ["k"], max_age_s=30.0).get("k")
    cache.close()
    assert hit is not None
    assert 0 <= hit.age_s < 30


# --- forgetting, and who is slow


def test_a_value_that_was_changed_is_neither_young_nor_the_last_known_one(world: World) -> None:
    world.put("k", 1)
    world.put("other", 2)
    world.another().forget("n", "k")
    assert (world.get(), world.stale()) == (None, None)
    assert world.get("other") == Hit(2, 0.0)


def test_all_values_of_a_namespace_are_dropped_at_once_and_for_good(world: World) -> None:
    for key in "abc":
        world.put(key, key)
    world.cache.put_many("other", {"k": 1}, 30.0, ticket=world.cache.ticket("other"))
    world.another().forget_all("n")
    assert world.cache.get_many("n", "abc", max_age_s=30.0) == {}
    assert world.cache.get_stale("n", "abc") == {}
    assert world.cache.get_many("other", ["k"], max_age_s=30.0).get("k") == Hit(1, 0.0)
    world.put("a", "new")
    assert world.cache.get_many("n", "abc", max_age_s=30.0) == {"a": Hit("new", 0.0)}
    assert world.cache.stats().entries == 2


@pytest.mark.parametrize("how", ["forget", "forget another", "forget all", "clear"])
@pytest.mark.parametrize("known", [True, False])
def test_a_slow_reader_cannot_put_back_what_a_writer_dropped(world: World, how: str, known: bool) -> None:
    """The reader has asked the database, the writer commits and drops, then the reader keeps the old answer."""
    if known:
        world.put("k", "older still")
    reader = world.another()
    ticket = reader.ticket("n")
    writer = world.another()
    {
        "forget": lambda: writer.forget("n", "k"),
        "forget another": lambda: writer.forget("n", "other"),
        "forget all": lambda: writer.forget_all("n"),
        "clear": writer.clear,
    }[how]()
    reader.put_many("n", {"k": "old"}, 30.0, ticket=ticket)
    before = Hit("older still", 0.0) if known and how == "forget another" else None
    assert world.get() == before
    reader.put_many("n", {"k": "new"}, 30.0, ticket=reader.ticket("n"))
    assert world.get() == Hit("new", 0.0)


def test_forgetting_while_there_is_no_cache_makes_none(world: World) -> None:
    world.cache.forget("n", "k")
    world.cache.forget_all("n")
    assert world.cache.sweep() == 0
    assert world.cache.stats() == Stats()
    assert world.cache.clear() == 0
    assert not world.folder.exists()


def test_what_the_clock_hides_is_dropped_all_the_same(world: World) -> None:
    """Diskcache leaves rows alone that it takes for expired; once the clock is right again they were back."""
    for key in (*map(str, range(30)), "k"):
        world.put(key, 1)
    with contextlib.closing(sqlite3.connect(world.cache.directory / "cache.db", isolation_level=None)) as connection:
        connection.execute("UPDATE Cache SET expire_time = 5 + (key = 'n:k') WHERE key <> 'n'")
        world.cache.forget("n", "k")
        connection.execute("UPDATE Cache SET expire_time = expire_time + 2e9")
    assert (world.get(), world.stale()) == (None, None)


# --- sizes, formats, what is told


def test_a_value_that_is_too_long_is_left_out(world: World) -> None:
    world.put("k", "x" * ROW_BYTES)
    assert world.get() is None
    world.put("k", "x" * (ROW_BYTES - 300))
    assert world.get() is not None


def test_the_cache_stays_below_its_size(world: World) -> None:
    for number in range(2 * SIZE_LIMIT // 60_000):
        world.put(str(number), "x" * 60_000)
    stats = world.cache.stats()
    assert stats.size_bytes < 1.5 * SIZE_LIMIT
    assert stats.entries > 100
    assert world.get(str(2 * SIZE_LIMIT // 60_000 - 1)) is not None, "the newest stay"
    assert list((world.folder / f"v{FORMAT}").glob("*/")) == [], "no side files"


def test_another_formats_values_are_not_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("k", 1)
    monkeypatch.setattr("tokenctl.resilience.cache.FORMAT", FORMAT + 1)
    newer = world.another()
    assert newer.get_many("n", ["k"], max_age_s=30.0).get("k") is None
    newer.put_many("n", {"k": {"another": "shape"}}, 30.0, ticket=newer.ticket("n"))
    newer.close()
    assert world.get() == Hit(1, 0.0)


def test_what_a_value_cannot_be_is_a_mistake_of_ours_and_harms_nothing(world: World) -> None:
    world.put("k", 1)
    with pytest.raises(TypeError):
        world.put("k", object())
    with pytest.raises(ValueError, match="not JSON compliant"):
        world.put("k", float("nan"))
    assert world.get() == Hit(1, 0.0)


def test_every_answer_is_told(world: World) -> None:
    assert world.get() is None
    assert world.told() == ["miss"]
    world.put("k", 1)
    world.put("l", 1)
    world.cache.get_many("n", ["k", "l", "m"], max_age_s=30.0)
    assert world.told() == ["hit", "hit", "miss"]
    world.cache.get_stale("n", ["k", "m"])
    assert world.told() == ["stale"]
    assert world.get(max_age_s=0) is None
    assert world.told() == ["off"]


def test_a_cache_that_is_off_is_not_opened(world: World) -> None:
    assert world.get(max_age_s=0) is None
    assert not world.folder.exists()


def test_numbers_about_it(world: World) -> None:
    world.put("a", 1)
    world.pass_time(60.0)
    world.put("b", 1)
    world.put("c", 1)
    world.cache.forget("n", "c")
    stats = world.cache.stats()
    assert (stats.entries, round(stats.oldest_s or 0)) == (2, 60)
    assert stats.size_bytes >= sum(file.stat().st_size for file in (world.folder / "v1").glob("cache.db"))
    assert world.cache.clear() == 2
    assert world.cache.stats().entries == 0
