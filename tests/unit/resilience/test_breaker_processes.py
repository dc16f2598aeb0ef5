"""The breaker between real processes. Time is a number that they share, so nothing waits and nothing is timed."""

from __future__ import annotations

import random
import signal
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.processes import eight, exit_code, fork, forked
from tokenctl.errors import BreakerOpen, RateLimited
from tokenctl.resilience.breaker import Breaker, BreakerPolicy, Breakers
from tokenctl.resilience.events import Event, Trouble
from tokenctl.resilience.notes import SCHEMA
from tokenctl.resilience.ratelimit import RateLimiter
from tokenctl.settings import RateLimit
from tokenctl.statefile import StateFile

# A prober may be kept from running while the others turn the clock: its lease should not end by that.
POLICY = BreakerPolicy(lease_s=1_000)


class Machine:
    """A clock, a service that is down or not, and counts, shared by all processes of a test."""

    def __init__(self, directory: Path) -> None:
        self.clock: Synchronized[float] = fork.Value("d", 0.0)
        self.calls: Synchronized[int] = fork.Value("i", 0)
        self.refused: Synchronized[int] = fork.Value("i", 0)
        self.file = StateFile(directory / "state" / "state.db", SCHEMA, busy_s=60)

    @property
    def now(self) -> float:
        return self.clock.value

    def breaker(self) -> Breaker:
        breakers = Breakers(
            self.file,
            clock=lambda: self.now,
            boot_id="boot",
            rng=random.Random(),  # noqa: S311 — as in life
            emit=self.hear,
        )
        return breakers.breaker("db:0123abcd", "the database", POLICY)

    def hear(self, event: Event) -> None:
        assert not isinstance(event, Trouble), event

    def use(self, until: float, down: bool) -> None:
        """Try again and again, each time a twentieth of a second later, until the clock says so."""
        breaker = self.breaker()
        while self.now < until:
            with self.clock.get_lock():
                self.clock.value += 0.05
            try:
                breaker.admit()
            except BreakerOpen:
                add_one(self.refused)
                continue
            add_one(self.calls)
            if down:
                breaker.failed("unavailable")
            else:
                breaker.succeeded()


def add_one(number: Synchronized[int]) -> None:
    with number.get_lock():
        number.value += 1


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_handful_of_calls_reaches_a_dead_service(machine: Machine) -> None:
    eight(machine.use, 60.0, True)
    # Three open it, while each of the others may be at its call; then probes after 5, 10 and 20 s.
    assert 3 + 1 <= machine.calls.value <= 3 + 7 + 3 + 1
    assert machine.refused.value > 1000
    before = machine.calls.value
    eight(machine.use, 160.0, False)
    # The next probe, before second 100, found the service well, and then every call passed.
    assert machine.calls.value - before > 100


def test_of_eight_that_see_the_time_has_come_one_probes(machine: Machine) -> None:
    probes: Synchronized[int] = fork.Value("i", 0)

    def probe(together: Barrier) -> None:
        together.wait(60)
        try:
            if machine.breaker().admit().probe:
                add_one(probes)
        except BreakerOpen:
            add_one(machine.refused)

    for _ in range(3):
        machine.breaker().failed("unavailable")
    for round_ in range(1, 9):
        machine.clock.value += POLICY.lease_s + 10
        together = fork.Barrier(8)
        eight(probe, together)
        assert (probes.value, machine.refused.value) == (round_, 7 * round_)


def test_a_prober_killed_with_9_is_followed_by_another(machine: Machine) -> None:
    breaker = machine.breaker()
    for _ in range(3):
        breaker.failed("unavailable")
    machine.clock.value += 6
    probing = fork.Event()

    def probe() -> None:
        assert machine.breaker().admit().probe
        probing.set()
        signal.pause()

    child = forked(probe)
    assert probing.wait(60)
    child.kill()
    assert exit_code(child) == -signal.SIGKILL
    with pytest.raises(BreakerOpen) as caught:
        breaker.admit()
    assert caught.value.context["retry_after_s"] == POLICY.lease_s
    machine.clock.value += POLICY.lease_s
    assert breaker.admit().probe
    breaker.succeeded()
    assert not breaker.admit().probe


def test_eight_processes_share_one_limit(machine: Machine) -> None:
    def run() -> None:
        limiter = RateLimiter(machine.file, clock=lambda: machine.now, boot_id="boot", emit=machine.hear)
        for _ in range(25):
            with machine.clock.get_lock():
                machine.clock.value += 0.01
            try:
                limiter.check("grant-bonus", "me@here", RateLimit(60, 3600.0))
            except RateLimited:
                add_one(machine.refused)
            else:
                add_one(machine.calls)

    eight(run)
    assert (machine.calls.value, machine.refused.value) == (60, 140)
