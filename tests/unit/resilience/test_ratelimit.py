"""The rate limit: at most so many in any window, and when to come back. A clock of its own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tokenctl.errors import RateLimited
from tokenctl.resilience.events import Event, RateChecked, Trouble
from tokenctl.resilience.notes import SCHEMA
from tokenctl.resilience.ratelimit import RateLimiter
from tokenctl.settings import RateLimit
from tokenctl.statefile import StateFile

THREE = RateLimit(3, 60.0)
ME = "support1@desk"


class World:
    """A limiter, its clock, and what it told."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000.5
        self.events: list[Event] = []
        self.file = StateFile(directory / "state" / "state.db", SCHEMA, busy_s=60)
        self.limiter = RateLimiter(self.file, clock=lambda: self.now, boot_id="boot", emit=self.events.append)

    def wait_s(self, limit: RateLimit = THREE, *, action: str = "reverse", who: str = ME) -> float | None:
        """Try one run: in how many seconds it may be; None when it was counted."""
        try:
            self.limiter.check(action, who, limit)
        except RateLimited as error:
            wait_s = error.context["retry_after_s"]
            assert isinstance(wait_s, float)
            return wait_s
        return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_limit_and_not_one_more(world: World) -> None:
    assert [world.wait_s() for _ in range(3)] == [None] * 3
    with pytest.raises(RateLimited) as caught:
        world.limiter.check("reverse", ME, THREE)
    error = caught.value
    assert error.detail == "reverse was run 3 times in 60 s; again in 61 s"
    assert error.hint == "[rate_limits.reverse] in the configuration sets how often it may be"
    assert error.context == {"limit": 3, "window_s": 60.0, "retry_after_s": 60.5}
    assert (error.exit_code, error.retryable) == (75, True)
    assert world.events == [RateChecked("reverse", allowed=True)] * 3 + [RateChecked("reverse", allowed=False)]


def test_who_comes_back_when_told_is_let_in(world: World) -> None:
    for _ in range(3):
        world.wait_s()
        world.now += 10
    for _ in range(10):
        wait_s = world.wait_s()
        assert wait_s is not None
        world.now += wait_s
        assert world.wait_s() is None


def test_refusals_do_not_count(world: World) -> None:
    for _ in range(3):
        world.wait_s()
    for _ in range(20):
        world.now += 3
        assert world.wait_s() is not None
    world.now += 0.5
    assert [world.wait_s() for _ in range(3)] == [None] * 3


def test_never_more_than_the_limit_in_any_window(world: World) -> None:
    """And, over a long time, hardly fewer than could be."""
    rng = random.Random(20261124)  # noqa: S311 — a repeatable test
    limit = RateLimit(7, 10.0)
    start, runs = world.now, []
    while world.now < start + 300:
        world.now += rng.choice((0.0, 0.01, 0.3, rng.expovariate(0.5)))
        if world.wait_s(limit) is None:
            runs.append(world.now)
    for first, eighth in zip(runs, runs[7:], strict=False):
        assert eighth - first >= limit.window_s
    assert len(runs) > 0.6 * 7 * 30


def test_a_run_counts_up_to_a_sixtieth_longer_than_the_window(world: World) -> None:
    assert world.wait_s(RateLimit(1, 60.0)) is None
    world.now = 1060.5
    assert world.wait_s(RateLimit(1, 60.0)) == 0.5
    world.now = 1061.0
    assert world.wait_s(RateLimit(1, 60.0)) is None


def test_actions_and_people_have_limits_of_their_own(world: World) -> None:
    for _ in range(3):
        world.wait_s()
    assert world.wait_s(who="support2@desk") is None
    assert world.wait_s(action="grant-bonus") is None
    assert world.wait_s() is not None


def test_a_limit_of_zero_is_none_and_touches_no_file(world: World) -> None:
    assert [world.wait_s(RateLimit(0, 60.0)) for _ in range(50)] == [None] * 50
    assert world.events == []
    assert not world.file.path.exists()


def test_another_limit_holds_from_the_next_run_on(world: World) -> None:
    for _ in range(3):
        world.wait_s()
        world.now += 10
    assert world.wait_s(RateLimit(1, 60.0)) == 50.5  # from 1030.5 until the last of three, at 1020.5, is over
    assert world.wait_s(RateLimit(4, 60.0)) is None
    assert world.wait_s(RateLimit(4, 60.0)) == 30.5
    assert world.wait_s(RateLimit(4, 25.0)) is None  # of four runs, two are over by then


def test_without_a_usable_file_everything_is_allowed(world: World) -> None:
    for _ in range(3):
        world.wait_s()
    world.file.path.parent.chmod(0o777)
    world.events.clear()
    assert world.wait_s() is None
    [trouble] = world.events
    assert isinstance(trouble, Trouble)
    assert trouble.what == "rate_limit"
    world.file.path.parent.chmod(0o700)
    assert world.wait_s() is not None


def test_the_file_stays_small(world: World) -> None:
    for _ in range(600):
        world.now += 0.2
        world.wait_s(RateLimit(10**6, 60.0))
    for number in range(150):
        world.now += 5
        world.wait_s(who=f"operator{number}")
    assert world.file.path.stat().st_size < 40_000
