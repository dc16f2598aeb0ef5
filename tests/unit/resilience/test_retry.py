"""Retry: which faults, how often, how long apart, within which deadline and budget. Nothing sleeps here."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping

import pytest

from tokenctl.errors import BreakerOpen, Fault, TokenctlError, TryLater, Unavailable
from tokenctl.resilience.deadline import Deadline, NoAnswer, bounded
from tokenctl.resilience.events import Event, Retried
from tokenctl.resilience.retry import KEYED, ONCE, READ, SETTLE, UNDONE, Budget, Policy, Retry


class World:
    """A clock that only sleeping moves, and everything that the retry told."""

    def __init__(self, seconds: float | None = None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.budget = Budget()
        self.retry = Retry(
            Deadline(seconds, clock=lambda: self.now),
            budget=self.budget,
            emit=self.events.append,
            sleep=self.sleep,
            rng=random.Random(7),  # noqa: S311 — a repeatable test
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def fails(fault: Fault | None, kind: type[TokenctlError] = Unavailable) -> TokenctlError:
    error = kind("no")
    error.fault = fault
    return error


class Peer:
    """Fails with each of `faults` in turn, then answers."""

    def __init__(self, *faults: Fault | TokenctlError) -> None:
        self.faults = list(faults)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if not self.faults:
            return "answer"
        fault = self.faults.pop(0)
        raise fault if isinstance(fault, TokenctlError) else fails(fault)


def always(policies: Mapping[Fault, Policy]) -> Callable[[], Mapping[Fault, Policy]]:
    return lambda: policies


@pytest.mark.parametrize(
    "policies", [READ, KEYED, SETTLE, UNDONE, ONCE], ids=["read", "keyed", "settle", "undone", "once"]
)
@pytest.mark.parametrize("fault", list(Fault))
def test_each_policy_gives_each_fault_its_attempts(policies: Mapping[Fault, Policy], fault: Fault) -> None:
    world, peer = World(), Peer(*[fault] * 100)
    world.budget.left = world.budget.capacity = 10_000
    with pytest.raises(Unavailable) as raised:
        world.retry.call(peer, always(policies))
    assert raised.value.fault == fault
    assert peer.calls == (policies[fault].attempts if fault in policies else 1)
    assert len(world.slept) == peer.calls - 1


@pytest.mark.parametrize(
    ("fault", "read", "write", "once"),
    [
        (Fault.CONFLICT, 6, 6, 1),
        (Fault.LOCK, 2, 2, 1),
        (Fault.STARTING, 8, 8, 8),
        (Fault.CONNECT, 8, 8, 8),
        (Fault.CROWDED, 5, 5, 5),
        (Fault.LOST, 3, 5, 1),
        (Fault.CANCELLED, 2, 2, 1),
        (Fault.SICK, 1, 1, 1),
        (Fault.CORRUPT, 1, 1, 1),
        (Fault.REFUSED, 1, 1, 1),
        (Fault.CONFIG, 1, 1, 1),
        (Fault.BUG, 1, 1, 1),
    ],
)
def test_the_table_of_attempts(fault: Fault, read: int, write: int, once: int) -> None:
    found = tuple(table[fault].attempts if fault in table else 1 for table in (READ, KEYED, ONCE))
    assert found == (read, write, once)


def test_what_passes_is_tried_again_and_told() -> None:
    world, peer = World(), Peer(Fault.CONNECT, Fault.CONFLICT)
    assert world.retry.call(peer, always(READ)) == "answer"
    told = [event for event in world.events if isinstance(event, Retried)]
    assert [(e.policy, e.fault, e.attempt) for e in told] == [("connect", "connect", 2), ("conflict", "conflict", 3)]
    assert [e.wait_s for e in told] == world.slept


def test_an_error_without_a_fault_is_ours_and_is_not_tried_again() -> None:
    peer = Peer(fails(None, TryLater))
    with pytest.raises(TryLater):
        World().retry.call(peer, always(SETTLE))
    assert peer.calls == 1


def test_waits_are_full_jitter_below_a_doubling_bound() -> None:
    seen: list[list[float]] = []
    for seed in range(200):
        world = World()
        world.retry.rng = random.Random(seed)  # noqa: S311
        with pytest.raises(Unavailable):
            world.retry.call(Peer(*[Fault.CONNECT] * 8), always(READ))
        seen.append(world.slept)
    for bound, waits in zip([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0], zip(*seen, strict=True), strict=True):
        assert max(waits) <= bound
        assert min(waits) < bound * 0.05 < bound * 0.95 < max(waits)


def test_no_wait_reaches_past_the_deadline() -> None:
    world, peer = World(seconds=0.5), Peer(*[Fault.CONNECT] * 100)
    with pytest.raises(Unavailable):
        world.retry.call(peer, always(SETTLE))
    assert 1 < peer.calls < 60
    assert world.now < 0.5


def test_who_sleeps_past_the_deadline_tells_the_failure_and_does_not_try() -> None:
    world, peer = World(seconds=10), Peer(Fault.CONNECT, fails(None, TryLater))

    def late(_seconds: float) -> None:
        world.now = 10.0

    world.retry.sleep = late
    with pytest.raises(Unavailable) as raised:
        world.retry.call(peer, always(READ))
    assert (raised.value.fault, peer.calls) == (Fault.CONNECT, 1)


def test_each_step_has_its_own_deadline() -> None:
    deadline = Deadline(5, each_step=True, clock=iter(range(100)).__next__)
    assert (deadline.left(), deadline.left()) == (5, 5)
    total = Deadline(5, clock=iter(range(100)).__next__)
    assert (total.left(), total.left()) == (4, 3)
    total.restart()
    assert total.left() == 4
    assert Deadline(None).left() is None


def test_the_budget_allows_ten_in_a_row_and_then_a_fifth() -> None:
    world = World()
    calls = 0
    for _ in range(10):
        peer = Peer(*[Fault.CONNECT] * 100)
        with pytest.raises(Unavailable):
            world.retry.call(peer, always(READ))
        calls += peer.calls - 1
    assert calls == 10
    for _ in range(100):
        world.retry.call(Peer(), always(READ))
    assert world.budget.left == 50
    world.retry.call(Peer(Fault.CONNECT), always(READ))
    assert world.budget.left == 46


def test_settling_an_unknown_outcome_is_not_held_up_by_the_budget() -> None:
    world, peer = World(seconds=100), Peer(*[Fault.LOST] * 30)
    world.budget.left = 0
    assert world.retry.call(peer, always(SETTLE)) == "answer"
    assert peer.calls == 31


def test_a_breaker_that_opens_on_the_way_does_not_hide_why() -> None:
    world, peer = World(), Peer(Fault.CONNECT, Fault.STARTING, BreakerOpen("open"))
    with pytest.raises(Unavailable) as raised:
        world.retry.call(peer, always(READ))
    assert (raised.value.fault, peer.calls) == (Fault.STARTING, 3)
    first = Peer(BreakerOpen("open"))
    with pytest.raises(BreakerOpen):
        world.retry.call(first, always(READ))
    assert first.calls == 1


def test_policies_are_asked_again_after_each_failure() -> None:
    world, lost = World(), Peer(*[Fault.LOST] * 20)
    assert world.retry.call(lost, lambda: SETTLE if lost.calls else KEYED) == "answer"


def test_a_ctrl_c_is_not_tried_again() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    world = World()
    with pytest.raises(KeyboardInterrupt):
        world.retry.call(interrupted, always(SETTLE))
    assert world.slept == []


def test_a_retry_inside_a_retry_is_a_mistake_of_ours() -> None:
    world = World()
    with pytest.raises(AssertionError, match="multiplies"):
        world.retry.call(lambda: world.retry.call(Peer(), always(READ)), always(READ))
    assert world.retry.call(Peer(), always(READ)) == "answer"


def test_bounded_work_answers_fails_or_is_abandoned() -> None:
    forever = threading.Event()
    assert bounded(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 5)
    with pytest.raises(NoAnswer):
        bounded(forever.wait, 0.01)
    forever.set()


def test_what_abandoned_work_answers_is_handed_over_to_be_closed() -> None:
    may_end, handed = threading.Event(), threading.Event()

    def slow() -> str:
        may_end.wait()
        return "late"

    got: list[str] = []

    def take(answer: str) -> None:
        got.append(answer)
        handed.set()

    with pytest.raises(NoAnswer):
        bounded(slow, 0.01, late=take)
    may_end.set()
    assert handed.wait(30)
    assert got == ["late"]
