"""Pieces of work side by side, over a few connections beside the command's own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tokenctl.errors import Fault
from tokenctl.resilience.retry import ONCE, Policy
from tokenctl.storage.database import Connection, Database
from tokenctl.telemetry import logs

#: Connections that work side by side. The work is the server's CPU; more than its
#: idle cores only makes others wait.
WORKERS = 2

T = TypeVar("T")
R = TypeVar("R")


class SideBySide:
    """At most WORKERS connections, made when first needed, kept for the next round, replaced when they break."""

    def __init__(self, database: Database, connect: Callable[[], Connection]) -> None:
        """Connect to nothing yet; `connect` makes a connection ready for work, or raises why none may work now."""
        self._database = database
        self._connect = connect
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()

    def close(self) -> None:
        """Close all connections."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def each(
        self,
        operation: str,
        work: Callable[[Connection, T], R],
        items: Iterable[T],
        policies: Mapping[Fault, Policy],
    ) -> list[R]:
        """What `work` answers for every item, in their order; the first failure stops the rest.

        A step is tried again as `policies` say, so it must be one that may be done twice.
        """
        stop = threading.Event()

        def one(item: T) -> R | None:
            if stop.is_set():
                return None
            slot = _Slot(self._take())
            try:
                return self._database.run(
                    operation, lambda c: work(c, item), policies, connection=lambda: self._alive(slot)
                )
            except BaseException:
                stop.set()
                raise
            finally:
                self._idle.put(slot.connection)

        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(logs.carried(one), item) for item in items]
            try:
                return [result for future in futures if (result := future.result()) is not None]
            except BaseException:  # a signal as well: what has begun ends, nothing more begins
                stop.set()
                raise

    def _take(self) -> Connection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._database.run("connect", lambda c: c, ONCE, connection=self._connect)

    def _alive(self, slot: _Slot) -> Connection:
        """The slot's connection, or a new one in its place."""
        if slot.connection.closed:
            slot.connection = self._connect()
        return slot.connection


@dataclass
class _Slot:
    """A worker's place: its connection, replaced when it breaks."""

    connection: Connection
