"""When a breaker opens, for how long, and who may probe: rules on values, without a clock or a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

# An opened breaker of which nothing was heard for so long after its time is closed, in seconds.
_FORGET_S = 3600.0
_CAUSE_CHARACTERS = 200

#: Calls in stretches of time, the oldest first: (end of the stretch, how many went well, how many failed).
_Window = tuple[tuple[float, int, int], ...]


@dataclass(frozen=True)
class BreakerPolicy:
    """When a breaker opens and for how long; times in seconds.

    It opens after `consecutive` failures in a row, or when of at least `least_calls` calls in
    `window_s` (kept in so many `buckets`) the share `failed_share` failed. It stays open for
    `open_s`, doubled after each failed probe up to `longest_open_s`, give or take `jitter`.
    `lease_s` is how long a probe may take: an attempt's own time limit and 2 s.
    """

    consecutive: int = 3
    least_calls: int = 5
    failed_share: float = 0.5
    window_s: float = 60.0
    buckets: int = 6
    open_s: float = 5.0
    longest_open_s: float = 60.0
    jitter: float = 0.2
    lease_s: float = 5.0


@dataclass(frozen=True)
class Record:
    """What is known of a peer that failed; one that did not has none. Times are the shared clock's."""

    #: Failed calls since it was last well, and in a row.
    failures: int = 0
    in_a_row: int = 0
    cause: str = ""
    #: While closed, the calls since the first failure that still counts.
    window: _Window = ()
    #: Once opened: since when, for how long (without jitter), until when, and who may probe until when.
    opened: float | None = None
    open_s: float = 0.0
    until: float = 0.0
    prober: int = 0
    lease_until: float = 0.0

    @classmethod
    def of(cls, note: dict[str, Any]) -> Record:
        """The record in a note; another version may have written more into it, or less."""
        known = {field.name: note[field.name] for field in fields(cls) if field.name in note}
        return cls(**{**known, "window": tuple((end, well, bad) for end, well, bad in note.get("window", ()))})

    def wait_s(self, now: float) -> float:
        """In how many seconds a call may pass; zero or less when one may now."""
        return 0.0 if self.opened is None else max(self.until, self.lease_until) - now

    def state(self, now: float) -> str:
        """closed, open, or half_open: the time to probe has come."""
        if self.opened is None:
            return "closed"
        return "open" if self.until > now else "half_open"

    def counts(self, pid: int) -> bool:
        """Whether a report of that process matters: while closed any, else the prober's own."""
        return self.opened is None or self.prober == pid

    def expires(self, policy: BreakerPolicy) -> float:
        """When none of it is of interest any more."""
        if self.opened is not None:
            return max(self.until, self.lease_until) + _FORGET_S
        return max((end for end, _, _ in self.window), default=0.0) + policy.window_s


def after_failure(record: Record, cause: str, now: float, policy: BreakerPolicy, *, luck: float) -> Record:
    """The record after a failure that counts; `luck`, from -1 to 1, is where in the jitter it falls."""
    failed = replace(record, failures=record.failures + 1, in_a_row=record.in_a_row + 1)
    if record.opened is not None:
        open_s = min(record.open_s * 2, policy.longest_open_s)
        return opened(failed, cause, now, open_s=open_s, until=now + open_s * (1 + policy.jitter * luck))
    failed = replace(failed, window=_with_call(record, now, policy, failed=True), cause=cause[:_CAUSE_CHARACTERS])
    calls = sum(well + bad for _, well, bad in failed.window)
    failures = sum(bad for _, _, bad in failed.window)
    often = calls >= policy.least_calls and failures >= policy.failed_share * calls
    if failed.in_a_row < policy.consecutive and not often:
        return failed
    return opened(failed, cause, now, open_s=policy.open_s, until=now + policy.open_s * (1 + policy.jitter * luck))


def after_success(record: Record, now: float, policy: BreakerPolicy) -> Record | None:
    """The record after a success that counts; None when nothing is left to remember."""
    if record.opened is not None:
        return None
    window = _with_call(record, now, policy, failed=False)
    return replace(record, window=window, in_a_row=0) if any(bad for _, _, bad in window) else None


def opened(record: Record, cause: str, now: float, *, open_s: float, until: float) -> Record:
    """The record opened until `until`; whoever is probing has no lease any more."""
    return Record(
        failures=record.failures,
        in_a_row=record.in_a_row,
        cause=cause[:_CAUSE_CHARACTERS],
        opened=now if record.opened is None else record.opened,
        open_s=open_s,
        until=until,
    )


def _with_call(record: Record, now: float, policy: BreakerPolicy, *, failed: bool) -> _Window:
    width_s = policy.window_s / policy.buckets
    end = (math.floor(now / width_s) + 1) * width_s
    window = [bucket for bucket in record.window if bucket[0] > end - policy.window_s]
    _, well, bad = window.pop() if window and window[-1][0] == end else (end, 0, 0)
    return (*window, (end, well + (not failed), bad + failed))
