"""Ends a wait for a peer that hangs while its kernel still acknowledges.

No setting of libpq notices that, so at the deadline a timer's thread shuts the socket
down, and the driver sees a lost connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import psycopg


class Watchdog:
    """Cuts `connection` after `seconds` unless stopped; None never cuts."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]], seconds: float | None) -> None:
        """Begin to watch."""
        self._connection = connection
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self.fired = False
        self._begin()

    def extend(self) -> None:
        """Begin anew: the peer has just shown that it lives."""
        self.stop()
        self._begin()

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        if self._seconds is None:
            return
        self._timer = threading.Timer(max(self._seconds, 0), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        self.fired = True
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as peer,
        ):
            peer.shutdown(socket.SHUT_RDWR)
