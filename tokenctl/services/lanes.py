"""Work side by side, each piece within its own deadline, and nobody waits for one that hangs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Step(Generic[T]):
    """One named piece of work."""

    name: str
    work: Callable[[], T]


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How a step ended: with a value, with an error, or, with neither, not at all within its time."""

    name: str
    took_s: float
    value: T | None = None
    error: Exception | None = None

    @property
    def hangs(self) -> bool:
        """Whether its time was up before it ended."""
        return self.value is None and self.error is None


class Lane(Generic[T]):
    """Steps that one thread does one after the other, because they share something; a failure ends it.

    The thread is a daemon: one that hangs in a name server or a network file system does
    not keep the process alive.
    """

    def __init__(self, steps: Sequence[Step[T]], close: Callable[[], None] = lambda: None) -> None:
        """Begin at once; `close` is called at the end by the same thread."""
        self._steps = steps
        self._close = close
        self._done: queue.SimpleQueue[Ended[T]] = queue.SimpleQueue()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"lane {steps[0].name}", daemon=True)
        self._thread.start()

    def ended(self, limit_s: float, until: float | None) -> Iterator[Ended[T]]:
        """Each step as it ends, the last one that was begun included; later ones are left out.

        A step has `limit_s` seconds from its begin, and all have until `until` (of time.monotonic).
        """
        begun = self._begun
        for step in self._steps:
            deadline = begun + limit_s if until is None else min(begun + limit_s, until)
            try:
                done = self._done.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                done = Ended(step.name, time.monotonic() - begun)
            yield done
            if done.hangs:
                return
            if done.error is not None:
                break
            begun += done.took_s
        self._thread.join(limit_s)  # it only has to close

    def _work(self) -> None:
        try:
            for step in self._steps:
                done = _ended(step)
                self._done.put(done)
                if done.error is not None:
                    return
        finally:
            self._close()


def _ended(step: Step[T]) -> Ended[T]:
    started = time.monotonic()
    try:
        value = step.work()
    except Exception as error:  # noqa: BLE001 — told by whoever waits for it
        return Ended(step.name, time.monotonic() - started, error=error)
    return Ended(step.name, time.monotonic() - started, value)
