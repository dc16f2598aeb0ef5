"""A machine with a breaker: its clock, its boot, its luck, and what was told."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenctl.errors import BreakerOpen
from tokenctl.resilience.breaker import Breaker, BreakerPolicy, Breakers, Permit
from tokenctl.resilience.events import Event
from tokenctl.resilience.notes import SCHEMA
from tokenctl.statefile import StateFile

NAME = "db:0123abcd"


class Luck(random.Random):
    """Falls where it is told: -1 is the shortest jitter, 1 the longest."""

    value = 0.0

    def uniform(self, a: float, b: float) -> float:
        assert (a, b) == (-1, 1)
        return self.value


class CountedFile(StateFile):
    """A state file that knows how often somebody began to write."""

    writes = 0

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        self.writes += write
        with super().transaction(write=write) as connection:
            yield connection


class World:
    """Everything that a breaker is made of, to be steered by a test."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.now = 1000.0
        self.boot = "this-boot"
        self.luck = Luck()
        self.events: list[Event] = []
        self.file = CountedFile(directory / "state" / "state.db", SCHEMA, busy_s=60)

    def breakers(self, *, force: bool = False) -> Breakers:
        return Breakers(
            self.file,
            clock=lambda: self.now,
            boot_id=self.boot,
            rng=self.luck,
            emit=lambda event: self.events.append(event),  # noqa: PLW0108 — the list changes
            force=force,
        )

    def breaker(self, policy: BreakerPolicy | None = None, *, name: str = NAME, force: bool = False) -> Breaker:
        return self.breakers(force=force).breaker(name, "the database", policy or BreakerPolicy())

    def hear(self) -> list[Event]:
        """What was told since the last time."""
        told, self.events = self.events, []
        return told

    def become(self, pid: int) -> None:
        """Go on as another process."""
        self._patch.setattr(os, "getpid", lambda: pid)

    def wait_s(self, breaker: Breaker) -> float | None:
        """In how many seconds a call may pass; None when this one may."""
        try:
            assert breaker.admit() == Permit()
        except BreakerOpen as error:
            wait_s = error.context["retry_after_s"]
            assert isinstance(wait_s, float)
            return wait_s
        return None

    def opened(self, policy: BreakerPolicy | None = None) -> Breaker:
        """A breaker that just opened for 5 s."""
        breaker = self.breaker(policy)
        for _ in range(3):
            breaker.failed("unavailable")
        self.hear()
        return breaker
