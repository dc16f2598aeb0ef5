"""Ends a wait for a peer that hangs while its kernel still acknowledges.

No setting of libpq notices that, so at the deadline a thread shuts the socket down, and
the driver sees a lost connection.
"""

from __future__ import annotations

import contextlib
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
        self._until = 0.0
        self._stopped = threading.Event()
        self.fired = False
        if seconds is not None:
            self.extend(seconds)
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def extend(self, seconds: float | None) -> None:
        """Cut `seconds` from now: the peer has just shown that it lives. Cheap: the thread looks when it wakes."""
        if seconds is not None:
            self._until = time.monotonic() + seconds

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._stopped.wait(left):
                return
        if not self._stopped.is_set():
            self._cut()

    def _cut(self) -> None:
        self.fired = True
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as peer,
        ):
            peer.shutdown(socket.SHUT_RDWR)
