"""The watchdog: when it cuts and when not, by a clock that a test moves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.waiting import until
from tokenctl.storage import watchdog
from tokenctl.storage.watchdog import Watchdog


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


def watching() -> bool:
    return any(thread.name == "watchdog" for thread in threading.enumerate())


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
    dog = watch(ours, 0.01)
    dog.stop()
    clock.now = 1.0
    until(lambda: not watching(), "the watchdog's end")
    assert not dog.fired
    ours.send(b"x")
    assert peer.recv(1) == b"x"


def test_none_watches_nothing(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    dog = watch(pair[0], None)
    dog.extend(None)
    until(lambda: not watching(), "the end of those before")
    assert (dog.fired, clock.looks) == (False, 0)
