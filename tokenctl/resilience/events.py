"""What the mechanisms tell about themselves; observer.py turns it into metrics and log lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Retried:
    """Another attempt follows after `wait_s` seconds; `fault` is what kind of failure it was."""

    policy: str
    fault: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class BreakerMoved:
    """A breaker went to `state`: closed, open or half_open."""

    breaker: str
    state: str


@dataclass(frozen=True)
class BreakerRefused:
    """A call was refused because the breaker is open."""

    breaker: str


@dataclass(frozen=True)
class RateChecked:
    """A rate limit was asked."""

    action: str
    allowed: bool


@dataclass(frozen=True)
class CacheAsked:
    """The cache was asked: hit, miss, stale, error or off."""

    namespace: str
    result: str


@dataclass(frozen=True)
class Trouble:
    """A file of ours could not be used, and we went on without it; `what` names it, `why` says it."""

    what: str
    why: str


@dataclass(frozen=True)
class QueryDone:
    """A call to the database ended: ok, or the failure's code."""

    operation: str
    outcome: str
    duration_s: float


@dataclass(frozen=True)
class Unreplicated:
    """A commit stands on its server alone: somebody there ended its wait for a synchronous standby."""


Event = Retried | BreakerMoved | BreakerRefused | RateChecked | CacheAsked | Trouble | QueryDone | Unreplicated
Emit = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Nobody listens."""
