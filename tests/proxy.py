"""A proxy on loopback in front of a real PostgreSQL, which loses, delays or cuts what a test says."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: What ends a connection: nothing, or a cut at a moment of the write.
BEFORE_REQUEST, AFTER_REQUEST, WITHIN_REPLY, AFTER_REPLY, SILENT, NOTHING = (
    "before",
    "after",
    "within",
    "reply",
    "silent",
    "",
)
#: No cut: from now on the kernel drops all that comes, unread and without an acknowledgement.
VANISH = "vanish"

_SO_ATTACH_FILTER = 26  # Linux; the socket module has no name for it


@dataclass
class Proxy:
    """Forwards to the server's socket; the next `faults` befall one connection each that sends `trigger`."""

    target: Path
    trigger: bytes
    listener: socket.socket
    faults: list[str] = field(default_factory=list)
    connections: int = 0
    befallen: int = 0
    #: Takes connections from now on, and never reads or says a word.
    deaf: bool = False
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed: the test is over
                return
            self.connections += 1
            if self.deaf:
                self.sockets.append(client)
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.target))
            self.sockets += [client, server]
            link = _Link(self, client, server)
            threading.Thread(target=link.requests, daemon=True).start()
            threading.Thread(target=link.replies, daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, or the port would stay in use
        self.listener.close()
        for one in list(self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # a thread that reads it would keep it open
            with contextlib.suppress(OSError):
                one.close()


@dataclass
class _Link:
    proxy: Proxy
    client: socket.socket
    server: socket.socket
    fault: str | None = None
    _ended: list[str] = field(default_factory=list)

    def requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.client.recv(65536):
                if self.proxy.trigger in data and self.proxy.faults:
                    self.fault = self.proxy.faults.pop(0)
                    self.proxy.befallen += 1
                if self.fault == BEFORE_REQUEST:
                    break
                if self.fault == VANISH:
                    drop_all(self.client)
                    continue
                self.server.sendall(data)
                if self.fault == AFTER_REQUEST:
                    break
        self._end("requests")

    def replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.server.recv(65536):
                if self.fault == SILENT:
                    continue
                if self.fault == WITHIN_REPLY:
                    self.client.sendall(data[: len(data) // 2])
                    break
                self.client.sendall(data)
                if self.fault == AFTER_REPLY:
                    break
        self._end("replies")

    def _end(self, direction: str) -> None:
        """Cut, and when both directions have come to their end, let go of the sockets: a storm makes thousands."""
        self._cut()
        self._ended.append(direction)
        if len(self._ended) > 1:
            for one in (self.client, self.server):
                with contextlib.suppress(ValueError):  # both have seen the other's end
                    self.proxy.sockets.remove(one)
                one.close()

    def _cut(self) -> None:
        """Close towards the client at once; the server still reads what it got, and then the end."""
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_WR)


def drop_all(receiver: socket.socket) -> None:
    """Have every packet to this socket dropped: a filter of one instruction, "keep 0 bytes"."""
    keep_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(keep_nothing))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


@contextmanager
def proxied(socket_file: Path, trigger: bytes, *, port: int = 0) -> Iterator[Proxy]:
    """A proxy in front of the server that listens on `socket_file`, on a port of its own unless one is named."""
    proxy = Proxy(socket_file, trigger, socket.create_server(("127.0.0.1", port)))
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
