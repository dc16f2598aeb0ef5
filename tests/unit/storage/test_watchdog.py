"""The watchdog: when it cuts and when not, by a clock that a test moves."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.processes import exit_code, forked
from tests.waiting import until
from tokenctl.storage import watchdog
from tokenctl.storage.watchdog import Kennel, Watchdog


class Clock:
    """Stands still until it is moved; counts who looks."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now

    def seen(self) -> None:
        """Return after the watchdog has looked anew."""
        before = self.looks
        until(lambda: self.looks > before + 1, "the watchdog looks")


@pytest.fixture(autouse=True)
def kennel(monkeypatch: pytest.MonkeyPatch) -> Kennel:
    """One of this test's own: no other's thread sleeps by the clock that is moved here."""
    made = Kennel()
    monkeypatch.setattr(watchdog, "KENNEL", made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watchdog, "time", made)
    return made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield ours, peer


def watch(ours: socket.socket, seconds: float | None) -> Watchdog:
    return Watchdog(cast("Any", ours), seconds)


def test_it_cuts_when_the_time_is_over_and_not_before(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    dog = watch(ours, 0.01)
    clock.now = 0.009
    clock.seen()
    assert not dog.fired
    clock.now = 0.01
    until(lambda: dog.fired, "the cut")
    assert peer.recv(1) == b""


def test_a_sign_of_life_puts_it_off(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    dog = watch(pair[0], 0.01)
    clock.now = 0.009
    dog.extend(0.01)
    clock.now = 0.018
    clock.seen()
    assert not dog.fired
    clock.now = 0.019
    until(lambda: dog.fired, "the cut")


def test_who_is_stopped_never_cuts(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    dog, other = watch(ours, 0.01), watch(peer, 0.02)
    dog.stop()
    clock.now = 0.015
    clock.seen()
    assert not dog.fired
    ours.send(b"x")
    assert peer.recv(1) == b"x"
    other.stop()


def test_who_comes_later_and_has_less_time_is_not_kept_waiting(
    clock: Clock, pair: tuple[socket.socket, socket.socket]
) -> None:
    patient, hurried = watch(pair[0], 3600), watch(pair[1], 0.01)
    clock.now = 0.01
    until(lambda: hurried.fired, "the cut")
    assert not patient.fired
    patient.stop()


def test_one_thread_watches_all(pair: tuple[socket.socket, socket.socket]) -> None:
    before = [thread.name for thread in threading.enumerate()].count("watchdog")
    dogs = [watch(one, 3600) for one in pair]
    assert [thread.name for thread in threading.enumerate()].count("watchdog") == before + 1
    for dog in dogs:
        dog.stop()


def test_a_thread_whose_start_was_stopped_is_started_again(
    clock: Clock, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            watch(pair[0], 0.01)
    dog = watch(pair[1], 0.01)
    clock.now = 0.01
    until(lambda: dog.fired, "the cut")


def test_a_process_that_was_forked_off_watches_by_itself(
    kennel: Kennel, pair: tuple[socket.socket, socket.socket]
) -> None:
    patient = watch(pair[0], 3600)

    def work() -> None:
        dog = watch(pair[1], 0.01)
        until(lambda: dog.fired, "the cut")

    with kennel.lock:  # as the thread that watches may have it at that moment
        child = forked(work)
    assert exit_code(child) == 0
    patient.stop()


def test_none_watches_nothing(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    dog = watch(pair[0], None)
    dog.extend(None)
    assert (dog.fired, clock.looks) == (False, 0)
