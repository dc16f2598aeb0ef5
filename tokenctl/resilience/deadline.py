"""How long a command may take: one moment after which nothing is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NoAnswer(Exception):  # noqa: N818 — what happened, which is not always an error
    """Something that was waited for did not come in time."""


class Deadline:
    """`seconds` from now on, or with `each_step` from every step's begin; None is no limit."""

    def __init__(
        self, seconds: float | None, *, each_step: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock."""
        self.seconds = seconds
        self._each_step = each_step
        self._clock = clock
        self._started = clock()

    def left(self) -> float | None:
        """Seconds until it is reached, negative afterwards; None when there is none."""
        if self.seconds is None or self._each_step:
            return self.seconds
        return self.seconds - (self._clock() - self._started)

    def restart(self) -> None:
        """Begin anew: what came before was set-up that a person need not count."""
        self._started = self._clock()


def bounded(work: Callable[[], T], seconds: float, *, late: Callable[[T], object] = lambda _: None) -> T:
    """Do `work` and answer its result; raise NoAnswer after `seconds` and abandon it.

    For what no time-out of its own bounds: name resolution waits ten seconds for a silent
    server. `work` goes on in a daemon thread, so it must not change anything; what it
    answers after all is given to `late`.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    deciding = threading.Lock()
    abandoned = threading.Event()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 — raised again below
            failed.append(error)
            return
        with deciding:
            if not abandoned.is_set():
                done.append(result)
                return
        late(result)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    with deciding:
        abandoned.set()
    if done:
        return done[0]
    if failed:
        raise failed[0]
    raise NoAnswer(f"nothing within {seconds:.3g} s")
