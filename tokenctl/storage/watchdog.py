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

import psycopg


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
    statement for every slice.
    """

    def __init__(self) -> None:
        """Without any, and without a thread."""
        self._dogs: set[Watchdog] = set()
        self._changed = threading.Condition()
        self._wakes = math.inf
        self._running = False

    def add(self, dog: Watchdog) -> None:
        """Look after it, from now on."""
        with self._changed:
            self._dogs.add(dog)
            if not self._running:
                self._running = True
                threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
            elif dog.until < self._wakes:
                self._changed.notify()

    def discard(self, dog: Watchdog) -> None:
        """Look after it no longer; when this returns it cuts nothing any more."""
        with self._changed:
            self._dogs.discard(dog)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for dog in [dog for dog in self._dogs if dog.until <= now]:
                    self._dogs.discard(dog)
                    dog.cut()
                self._wakes = min((dog.until for dog in self._dogs), default=math.inf)
                self._changed.wait(None if self._wakes == math.inf else self._wakes - now)


KENNEL = Kennel()
