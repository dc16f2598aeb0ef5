"""Ends a wait for a peer that hangs while its kernel still acknowledges.

No setting of libpq notices that, so at the deadline a thread shuts the socket down, and
the driver sees a lost connection.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from queue import Empty, SimpleQueue

import psycopg

#: The thread looks this often, whatever there is to look for; a wait can't be of any length.
_LONGEST_S = 3600.0


class Watchdog:
    """Cuts `connection` after `seconds` unless stopped; None never cuts."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]], seconds: float | None) -> None:
        """Begin to watch."""
        self._connection = connection
        self.until = math.inf
        self.fired = False
        if seconds is not None:
            self.extend(seconds)
            KENNEL.add(self)

    def extend(self, seconds: float | None) -> None:
        """Cut `seconds` from now: the peer has just shown that it lives. Cheap: the thread looks when it wakes."""
        if seconds is not None:
            self.until = time.monotonic() + seconds

    def stop(self) -> None:
        """Watch no longer: from here on nothing is cut."""
        KENNEL.discard(self)

    def cut(self) -> None:
        """Shut the connection's socket down; for the thread that watches."""
        self.fired = True
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as peer,
        ):
            peer.shutdown(socket.SHUT_RDWR)


class Kennel:
    """All watchdogs of the process, and the thread that looks for them.

    One thread and not one each: to start it takes as long as a short statement, and an import has a
    statement for every slice. A plain lock and a simple queue, because a signal that raises within
    those of Python's own code, such as a condition's, would leave them locked for good.
    """

    def __init__(self) -> None:
        """As `begin_anew`."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Without any, and without a thread; so does a process that was forked off, where nobody lets go of a lock."""
        self._dogs: set[Watchdog] = set()
        self.lock = threading.Lock()
        self._news: SimpleQueue[None] = SimpleQueue()
        self._wakes = math.inf
        self._thread: threading.Thread | None = None

    def add(self, dog: Watchdog) -> None:
        """Look after it, from now on."""
        with self.lock:
            self._dogs.add(dog)
            if self._thread is None or not self._thread.is_alive():  # a signal may have stopped its start
                thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                thread.start()
                self._thread = thread
            elif dog.until < self._wakes:
                self._news.put(None)

    def discard(self, dog: Watchdog) -> None:
        """Look after it no longer; when this returns it cuts nothing any more."""
        with self.lock:
            self._dogs.discard(dog)

    def _watch(self) -> None:
        while True:
            with self.lock:
                now = time.monotonic()
                for dog in [dog for dog in self._dogs if dog.until <= now]:
                    self._dogs.discard(dog)
                    dog.cut()
                self._wakes = min((dog.until for dog in self._dogs), default=math.inf)
            with contextlib.suppress(Empty):
                self._news.get(timeout=max(0.0, min(self._wakes - now, _LONGEST_S)))


KENNEL = Kennel()


def _forked() -> None:
    KENNEL.begin_anew()


os.register_at_fork(after_in_child=_forked)
