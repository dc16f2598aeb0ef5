"""Ask the server one thing, and never wait longer than a deadline.

libpq's own connect_timeout knows whole seconds from two on and says nothing about
queries; a frozen server must not hold up a command for that long.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

import psycopg
from psycopg import pq


class NoAnswer(Exception):  # noqa: N818 (it says that a door is closed, and never leaves this package)
    """The server cannot be reached, or refuses; `sqlstate` is set when it refused the query."""

    def __init__(self, why: str, sqlstate: str = "") -> None:
        super().__init__(why)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Answer:
    """The first row as text, and the pid of the process that listens (0 where that cannot be told)."""

    row: tuple[str, ...]
    peer_pid: int


def ask(conninfo: str, query: str, *, deadline: float) -> Answer:
    """Connect, run `query` and close; NoAnswer at the latest at `deadline` (of time.monotonic)."""
    conn = pq.PGconn.connect_start(conninfo.encode())
    try:
        _connect(conn, deadline)
        conn.send_query(query.encode())
        while conn.is_busy():
            _wait(conn, select.POLLIN, deadline)
            conn.consume_input()
        return Answer(_first_row(conn, conn.get_result()), _peer_pid(conn.socket))
    except psycopg.Error as error:
        raise NoAnswer(str(error).strip()) from error
    finally:
        conn.finish()


def _connect(conn: pq.abc.PGconn, deadline: float) -> None:
    while conn.status != pq.ConnStatus.BAD:
        state = conn.connect_poll()
        if state == pq.PollingStatus.OK:
            return
        if state == pq.PollingStatus.FAILED:
            break
        _wait(conn, select.POLLIN if state == pq.PollingStatus.READING else select.POLLOUT, deadline)
    raise NoAnswer(conn.get_error_message().strip())


def _wait(conn: pq.abc.PGconn, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(conn.socket, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise NoAnswer("it accepts connections but does not answer")


def _first_row(conn: pq.abc.PGconn, result: pq.abc.PGresult | None) -> tuple[str, ...]:
    if result is None:
        raise NoAnswer(conn.get_error_message().strip())
    if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        raise NoAnswer(result.get_error_message().strip(), state.decode())
    if result.ntuples == 0:
        return ()
    return tuple((result.get_value(0, column) or b"").decode() for column in range(result.nfields))


def _peer_pid(connected: int) -> int:
    """Who listens at the other end, by the kernel's word; 0 outside Linux or in another pid namespace."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    peer = socket.socket(fileno=connected)
    try:
        pid, _uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, 12))
    finally:
        peer.detach()  # the descriptor is libpq's to close
    return int(pid)
