"""What `health` found: checks, what they measured, and what of that is normal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


def digits(value: float) -> str:
    """Digits and at most one point: no exponent, no separators."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Range:
    """What is normal, as Monitoring Plugins write it: from `start` to `end`, or with `inside` all but that."""

    start: float = 0
    end: float = math.inf
    inside: bool = False

    def alerts(self, value: float) -> bool:
        """Whether the value is not normal; both ends belong to the range."""
        return (self.start <= value <= self.end) is self.inside

    def __str__(self) -> str:
        """As Monitoring Plugins write it: 10, 10:, 5:10, ~:10, @5:10."""
        start = "" if self.start == 0 else "~:" if self.start == -math.inf else f"{digits(self.start)}:"
        if self.end == math.inf:
            start = start or "0:"
        end = "" if self.end == math.inf else digits(self.end)
        return f"{'@' if self.inside else ''}{start}{end}"


@dataclass(frozen=True)
class Gauge:
    """A measured number. What `warn` or `crit` does not call normal needs attention; `alarm` then says so.

    `unit` is s, B, % or nothing; `most` is the largest value that can be.
    """

    name: str
    value: float
    unit: str = ""
    warn: Range | None = None
    crit: Range | None = None
    most: float | None = None
    alarm: str = ""

    @property
    def state(self) -> str:
        """What the value means: ok, warning or critical."""
        for state, limit in (("critical", self.crit), ("warning", self.warn)):
            if limit is not None and limit.alerts(self.value):
                return state
        return "ok"


@dataclass(frozen=True)
class Limits:
    """Ranges that somebody chose, by the name of a gauge; they take the place of its own."""

    warn: Mapping[str, Range] = field(default_factory=dict)
    crit: Mapping[str, Range] = field(default_factory=dict)

    def applied(self, gauge: Gauge) -> Gauge:
        """The gauge with its chosen limits. One that had no sentence for an alarm gets one."""
        if gauge.name not in (*self.warn, *self.crit):
            return gauge
        return replace(
            gauge,
            warn=self.warn.get(gauge.name, gauge.warn),
            crit=self.crit.get(gauge.name, gauge.crit),
            alarm=gauge.alarm or f"{gauge.name} is {digits(gauge.value)} {gauge.unit}".rstrip(),
        )


#: The states of a check, the best first.
STATES = ("ok", "warning", "unknown", "critical")


@dataclass(frozen=True)
class Check:
    """What one check of `health` found; `state` is one of STATES, `values` what a program may want of it.

    One that was not `asked` waits for another that failed. `facts` and `problems` (state, sentence) are
    what `detail` was made of, without what the gauges say.
    """

    name: str
    state: str
    detail: str
    hint: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    gauges: tuple[Gauge, ...] = ()
    took_s: float = 0.0
    asked: bool = True
    facts: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HealthReport:
    """All checks of one run of `health`."""

    checks: tuple[Check, ...]
    took_s: float

    @property
    def state(self) -> str:
        """The worst of them."""
        return max((check.state for check in self.checks), key=STATES.index, default="unknown")

    @property
    def troubled(self) -> list[Check]:
        """The checks that found something wrong, the worst first."""
        return sorted((c for c in self.checks if c.state != "ok" and c.asked), key=lambda c: -STATES.index(c.state))
