"""How often something may be done, counted across all processes on a machine.

A sliding window, because that is what people are told: at most so many runs in any so many
seconds. A token bucket would let almost twice as many through where a quiet time meets a
busy one. Runs are counted in slots of a sixtieth of the window, and a slot counts until all
of it is over: the limit is never passed, and the next run waits up to a slot longer than it
would have to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

from tokenctl.errors import RateLimited
from tokenctl.resilience.events import Emit, RateChecked, Trouble
from tokenctl.resilience.notes import Notes
from tokenctl.settings import RateLimit
from tokenctl.statefile import StateFile, StateUnusable

_KIND = "rate"
_SLOTS = 60


class RateLimiter:
    """Counts runs by action and by who runs it; without a usable file it allows everything."""

    def __init__(self, state: StateFile, *, clock: Callable[[], float], boot_id: str, emit: Emit) -> None:
        """`clock` answers seconds that mean the same to every process of the boot `boot_id`."""
        self._state = state
        self._clock = clock
        self._boot_id = boot_id
        self._emit = emit

    def check(self, action: str, who: str, limit: RateLimit) -> None:
        """Count one run of `action` by `who`. Raises RateLimited, which says when to come back, and counts none."""
        if not limit.limit:
            return
        try:
            wait_s = self._count(f"{action} {who}", limit)
        except StateUnusable as error:
            self._emit(Trouble("rate_limit", str(error)))
            return
        self._emit(RateChecked(action, allowed=not wait_s))
        if wait_s:
            often = "once" if limit.limit == 1 else f"{limit.limit:,} times"
            raise RateLimited(
                f"{action} was run {often} in {limit.window_s:g} s; again in {math.ceil(wait_s)} s",
                hint=f"[rate_limits.{action}] in the configuration sets how often it may be",
                limit=limit.limit,
                window_s=limit.window_s,
                retry_after_s=math.ceil(wait_s * 1000) / 1000,
            )

    def _count(self, name: str, limit: RateLimit) -> float:
        """Count a run and answer 0; when it is one too many, the seconds until the next may be."""
        with self._state.transaction() as connection:
            notes = Notes(connection, _KIND, clock=self._clock, boot_id=self._boot_id)
            note = notes.get(name) or {"slots": []}
            now = self._clock()
            # Slots are named by their ends, which mean the same under a window of another length.
            slots: dict[float, int] = {end: n for end, n in note["slots"] if end + limit.window_s > now}
            over = sum(slots.values()) - limit.limit
            if over >= 0:
                return _freed(slots, over) + limit.window_s - now
            width_s = limit.window_s / _SLOTS
            end = (math.floor(now / width_s) + 1) * width_s
            slots[end] = slots.get(end, 0) + 1
            notes.put(name, {"slots": sorted(slots.items())}, expires=max(slots) + limit.window_s)
        return 0.0


def _freed(slots: dict[float, int], over: int) -> float:
    """The end of the slot with which, the oldest first, more than `over` runs are gone."""
    ends = sorted(slots)
    gone = accumulate(slots[end] for end in ends)
    return next(end for end, runs in zip(ends, gone, strict=True) if runs > over)
