"""The breaker's rules: what opens it, for how long, who probes, what closes it. A clock of its own, nothing sleeps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.resilience.breaker_world import NAME, World
from tokenctl.errors import BreakerOpen
from tokenctl.resilience.breaker import BreakerPolicy, BreakerState, Permit
from tokenctl.resilience.events import BreakerMoved, BreakerRefused

CLOSED, OPEN, HALF_OPEN = (BreakerMoved(NAME, state) for state in ("closed", "open", "half_open"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def play(world: World, calls: str, policy: BreakerPolicy | None = None) -> int | None:
    """Make calls that go well (+) or fail (-), a second apart; which of them opened the breaker, from 1."""
    breaker = world.breaker(policy)
    for number, call in enumerate(calls, 1):
        assert breaker.admit() == Permit()
        if call == "+":
            breaker.succeeded()
        else:
            breaker.failed("unavailable")
            if OPEN in world.hear():
                return number
        world.now += 1
    return None


# --- closed ---------------------------------------------------------------------------


def test_calls_of_a_peer_that_is_well_write_nothing(world: World) -> None:
    assert play(world, "+" * 100) is None
    assert world.file.writes == 0
    assert world.breakers().states() == []
    assert world.hear() == []


@pytest.mark.parametrize(
    ("calls", "opens_at"),
    [
        ("---", 3),
        ("--", None),
        ("--+--+--+--", None),
        ("++++++++++---", 3 + 10),  # well until now is no reason to go on
    ],
)
def test_three_failures_in_a_row_open_it(world: World, calls: str, opens_at: int | None) -> None:
    assert play(world, calls, BreakerPolicy(least_calls=100)) == opens_at


@pytest.mark.parametrize(
    ("calls", "opens_at"),
    [
        ("-+-+", None),  # half of four calls: too few
        ("-+-+-", 5),
        ("-+-++-", 6),  # half
        ("-++-+", None),
        ("-+++-+-+--", 10),  # half again, after less
        ("++++-+-+-", 9),  # those before the first failure do not count
        ("--+--", 5),
    ],
)
def test_half_of_five_calls_or_more_open_it(world: World, calls: str, opens_at: int | None) -> None:
    assert play(world, calls) == opens_at


def test_failures_leave_the_window(world: World) -> None:
    world.now = 1205.0  # in the middle of a bucket of ten seconds
    assert play(world, "-+") is None
    world.now = 1255.0
    assert play(world, "-+") is None
    world.now = 1259.0
    assert play(world, "-") == 1  # three of five calls, the first bucket's among them


def test_a_bucket_leaves_the_window_as_a_whole(world: World) -> None:
    world.now = 1205.0
    assert play(world, "-+") is None
    world.now = 1255.0
    assert play(world, "-+") is None
    world.now = 1260.0
    assert play(world, "-") is None  # two of three


def test_a_success_clears_what_has_left_the_window(world: World) -> None:
    world.now = 1205.0
    play(world, "-")
    world.now = 1261.0
    assert [state.failures for state in world.breakers().states()] == [1]
    play(world, "+")
    assert world.breakers().states() == []
    writes = world.file.writes
    play(world, "+++")
    assert world.file.writes == writes


def test_failures_far_apart_are_not_in_a_row(world: World) -> None:
    for _ in range(5):
        assert play(world, "-") is None
        world.now += 70


def test_a_success_ends_a_row(world: World) -> None:
    assert play(world, "--+++++--+++++--") is None


def test_breakers_of_other_peers_do_not_mind(world: World) -> None:
    world.opened()
    assert world.breaker(name="gemini").admit() == Permit()


# --- open -----------------------------------------------------------------------------


def test_open_refuses_and_says_when_to_come_back(world: World) -> None:
    breaker = world.opened()
    world.now += 1.2
    with pytest.raises(BreakerOpen) as caught:
        breaker.admit()
    error = caught.value
    assert error.detail == "the database is marked as down by earlier failures; next try in 4 s"
    assert error.hint == "--ignore-breaker to try all the same"
    assert error.context == {"breaker": NAME, "last_cause": "unavailable", "retry_after_s": 3.8}
    assert (error.exit_code, error.fault) == (69, None)
    assert world.hear() == [BreakerRefused(NAME)]


def test_a_refusal_never_says_too_early(world: World) -> None:
    breaker = world.opened()
    world.now += 4.99999
    with pytest.raises(BreakerOpen, match="next try in 1 s") as caught:
        breaker.admit()
    assert caught.value.context["retry_after_s"] == 0.001


@pytest.mark.parametrize(("luck", "wait_s"), [(-1, 4.0), (0, 5.0), (1, 6.0)])
def test_how_long_it_is_open_is_spread_by_a_fifth(world: World, luck: float, wait_s: float) -> None:
    world.luck.value = luck
    assert world.wait_s(world.opened()) == wait_s


def test_the_whole_spread_is_used(world: World) -> None:
    waits = []
    for seed in range(100):
        world.luck.value = random.Random(seed).uniform(-1, 1)  # noqa: S311 — a repeatable test
        breaker = world.opened()
        waits.append(world.wait_s(breaker) or 0.0)
        breaker.close()
    assert 4.0 <= min(waits) < 4.2
    assert 5.8 < max(waits) <= 6.0


def test_each_failed_probe_doubles_it_up_to_a_minute(world: World) -> None:
    breaker = world.opened()
    waits = []
    for _ in range(6):
        wait_s = world.wait_s(breaker)
        assert wait_s is not None
        waits.append(wait_s)
        world.now += wait_s
        assert breaker.admit().probe
        breaker.failed("unavailable")
    assert waits == [5, 10, 20, 40, 60, 60]
    assert world.hear().count(OPEN) == 6


def test_another_policy_has_other_times(world: World) -> None:
    breaker = world.opened(BreakerPolicy(open_s=15, longest_open_s=300))
    waits = []
    for _ in range(6):
        wait_s = world.wait_s(breaker)
        assert wait_s is not None
        waits.append(wait_s)
        world.now += wait_s
        breaker.admit()
        breaker.failed("unavailable")
    assert waits == [15, 30, 60, 120, 240, 300]


@pytest.mark.parametrize("report", ["succeeded", "failed"])
def test_late_reports_of_calls_from_before_change_nothing(world: World, report: str) -> None:
    breaker = world.opened()
    before = world.breakers().states()
    world.become(99)
    breaker.succeeded() if report == "succeeded" else breaker.failed("late")
    assert world.breakers().states() == before
    assert world.hear() == []


def test_refusals_and_late_successes_write_nothing(world: World) -> None:
    breaker = world.opened()
    writes = world.file.writes
    assert world.wait_s(breaker) == 5
    breaker.succeeded()
    assert world.file.writes == writes


# --- half open ------------------------------------------------------------------------


def test_one_process_probes_and_the_others_wait_for_it(world: World) -> None:
    breaker = world.opened(BreakerPolicy(lease_s=7))
    world.now += 5
    world.become(1)
    assert breaker.admit() == Permit(probe=True)
    assert world.hear() == [HALF_OPEN]
    for pid in (2, 3, 1):
        world.become(pid)
        assert world.wait_s(breaker) == 7


def test_a_probe_that_goes_well_closes_and_forgets(world: World) -> None:
    breaker = world.opened()
    world.now += 5
    breaker.admit()
    world.hear()
    breaker.succeeded()
    assert world.hear() == [CLOSED]
    assert world.breakers().states() == []
    assert breaker.admit() == Permit()
    assert play(world, "---") == 3
    assert world.wait_s(breaker) == 5  # not doubled


def test_what_others_report_is_not_the_probe_s_result(world: World) -> None:
    breaker = world.opened()
    world.now += 5
    world.become(1)
    assert breaker.admit().probe
    world.become(2)
    breaker.succeeded()
    breaker.failed("late")
    breaker.abandoned()
    assert world.wait_s(breaker) == 5  # the lease still stands
    world.become(1)
    breaker.succeeded()
    assert breaker.admit() == Permit()


def test_the_lease_of_a_prober_that_died_ends(world: World) -> None:
    breaker = world.opened()
    world.now += 5
    world.become(1)
    assert breaker.admit().probe
    world.become(2)
    world.now += 4.75
    assert world.wait_s(breaker) == 0.25
    world.now += 0.25
    assert breaker.admit().probe
    world.become(1)
    breaker.failed("at last")  # its lease is somebody else's now
    assert world.wait_s(breaker) == 5
    world.become(2)
    breaker.failed("unavailable")
    assert world.wait_s(breaker) == 10


def test_a_probe_given_up_lets_the_next_one_go_at_once(world: World) -> None:
    breaker = world.opened()
    world.now += 5
    assert breaker.admit().probe
    breaker.abandoned()
    assert breaker.admit().probe
    assert [state.failures for state in world.breakers().states()] == [3]


def test_giving_up_an_ordinary_call_is_no_failure(world: World) -> None:
    breaker = world.breaker()
    for _ in range(5):
        breaker.admit()
        breaker.abandoned()
    assert world.breakers().states() == []


def test_it_is_forgotten_an_hour_after_its_time(world: World) -> None:
    breaker = world.opened()
    world.now += 5 + 3599
    assert [state.state for state in world.breakers().states()] == ["half_open"]
    world.now += 1
    assert world.breakers().states() == []
    assert breaker.admit() == Permit()


# --- closed by hand, opened by request, forced -------------------------------------------


def test_close_forgets_an_outage(world: World) -> None:
    breaker = world.opened()
    breaker.close()
    assert world.hear() == [CLOSED]
    assert world.breakers().states() == []
    writes = world.file.writes
    breaker.close()
    assert (world.hear(), world.file.writes) == ([], writes)


def test_close_of_one_that_never_opened_is_no_move(world: World) -> None:
    breaker = world.breaker()
    breaker.failed("unavailable")
    breaker.close()
    assert world.hear() == []
    assert world.breakers().states() == []


def test_open_until_takes_a_peer_at_its_word(world: World) -> None:
    breaker = world.breaker(name="gemini-key:k1")
    breaker.open_until(90, "quota")
    assert world.hear() == [BreakerMoved("gemini-key:k1", "open")]
    world.luck.value = 1
    assert world.wait_s(breaker) == 90
    breaker.open_until(10, "quota")
    assert world.wait_s(breaker) == 90  # the longer time holds
    world.now += 90
    assert breaker.admit().probe
    breaker.open_until(10, "quota")
    assert world.wait_s(breaker) == 10
    world.now += 10
    assert breaker.admit().probe
    breaker.failed("quota")
    assert world.wait_s(breaker) == 12  # doubled from the policy's 5 s, with the worst of luck


def test_open_until_lasts_a_day_at_most(world: World) -> None:
    breaker = world.breaker()
    breaker.open_until(float("inf"), "quota")
    assert world.wait_s(breaker) == 86_400


def test_force_refuses_nobody_and_its_success_closes(world: World) -> None:
    world.opened()
    forced = world.breaker(force=True)
    assert forced.admit() == Permit()
    forced.failed("still down")
    assert world.wait_s(world.breaker()) == 5  # no longer because somebody insists
    world.hear()
    forced.succeeded()
    assert world.hear() == [CLOSED]
    assert world.breaker().admit() == Permit()


def test_what_is_shown(world: World) -> None:
    world.breaker(name="gemini").failed("unavailable")
    breaker = world.opened()
    world.now += 3
    assert world.breakers().states() == [
        BreakerState(NAME, "open", 3, 3.0, 2.0, "unavailable"),
        BreakerState("gemini", "closed", 1, None, None, "unavailable"),
    ]
    world.now += 3
    assert world.breakers().states()[0] == BreakerState(NAME, "half_open", 3, 6.0, 0.0, "unavailable")
    breaker.admit()
    assert world.breakers().states()[0] == BreakerState(NAME, "half_open", 3, 6.0, 5.0, "unavailable")
    breaker.failed("x" * 500)
    assert world.breakers().states()[0] == BreakerState(NAME, "open", 4, 6.0, 10.0, "x" * 200)


def test_reset_closes_those_that_are_named(world: World) -> None:
    world.opened()
    world.breaker(name="gemini").failed("unavailable")
    assert world.breakers().reset(["gemini", "nobody"]) == ["gemini"]
    assert world.hear() == []
    assert [state.name for state in world.breakers().states()] == [NAME]
    world.breaker(name="gemini").failed("unavailable")
    assert world.breakers().reset_all() == [NAME, "gemini"]
    assert world.hear() == [CLOSED]
    assert world.breakers().reset_all() == []
