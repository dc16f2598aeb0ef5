"""A server on a port of PostgreSQL's that is silent, babbles, hangs up, or repeats the password it was given."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_IDLE = b"I"


def silent(peer: socket.socket) -> None:
    """Says nothing, and keeps the connection until the other side has gone."""
    while peer.recv(4096):
        pass


def babbling(peer: socket.socket) -> None:
    peer.sendall(b"220 mail.example ESMTP\r\n\x00\xff\x1b[2J")


def hanging_up(_peer: socket.socket) -> None:
    """Closes the connection without a word."""


def repeating_at_login(peer: socket.socket) -> None:
    """Asks for the password in clear text and refuses it with a message that holds it."""
    _error(peer, b"FATAL", b"28P01", _password(peer))


def repeating_later(peer: socket.socket) -> None:
    """Lets everybody in, and answers with a notice and errors that hold the password."""
    given = _password(peer)
    _send(peer, b"R", struct.pack("!i", 0))
    reported = {b"server_version": b"18.0", b"client_encoding": b"UTF8", b"TimeZone": b"UTC", b"DateStyle": b"ISO, MDY"}
    for name, value in {**reported, b"application_name": given}.items():
        _send(peer, b"S", name + b"\0" + value + b"\0")
    _error(peer, b"WARNING", b"01000", given, kind=b"N")
    _send(peer, b"Z", _IDLE)
    while (kind := _exactly(peer, 1)) != b"X":
        _exactly(peer, struct.unpack("!i", _exactly(peer, 4))[0] - 4)
        if kind in b"QS":  # a query, or the end of an extended one
            _error(peer, b"ERROR", b"XX000", given)
            _send(peer, b"Z", _IDLE)


MANNERS = {manner.__name__: manner for manner in (silent, babbling, hanging_up, repeating_at_login, repeating_later)}


@contextmanager
def serving(manner: str) -> Iterator[int]:
    """Answer every connection in that manner; yields the port.

    In a process of its own: libpq's ping holds the interpreter of whoever asks, so that one
    could not answer meanwhile.
    """
    with subprocess.Popen(
        [sys.executable, __file__, manner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _serve(manner: Callable[[socket.socket], None]) -> None:
    def answer(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError, EOFError):
            manner(peer)

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=listening.accept()[:1], daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    print(listening.getsockname()[1], flush=True)  # noqa: T201 — whoever started it reads the port here
    sys.stdin.read()  # until that one ends


def _password(peer: socket.socket) -> bytes:
    """Take the greeting, ask for the password in clear text, and answer what came."""
    while struct.unpack("!i", (greeting := _greeting(peer))[:4])[0] in (_SSL_REQUEST, _GSS_REQUEST):
        peer.sendall(b"N")
    assert b"user\0" in greeting
    _send(peer, b"R", struct.pack("!i", 3))
    assert _exactly(peer, 1) == b"p"
    return _exactly(peer, struct.unpack("!i", _exactly(peer, 4))[0] - 4).rstrip(b"\0")


def _greeting(peer: socket.socket) -> bytes:
    return _exactly(peer, struct.unpack("!i", _exactly(peer, 4))[0] - 4)


def _error(peer: socket.socket, severity: bytes, state: bytes, text: bytes, *, kind: bytes = b"E") -> None:
    fields = {b"S": severity, b"V": severity, b"C": state}
    fields |= dict.fromkeys((b"M", b"D", b"H", b"W", b"n"), b"password " + text)
    _send(peer, kind, b"".join(name + value + b"\0" for name, value in fields.items()) + b"\0")


def _send(peer: socket.socket, kind: bytes, body: bytes) -> None:
    peer.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


if __name__ == "__main__":
    _serve(MANNERS[sys.argv[1]])
