"""Gemini on loopback: answers as it was told to, well or badly, and remembers what it was asked."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.pictures import REAL


@dataclass(frozen=True)
class Asked:
    """One request: its header names are in small letters, as a list where one came twice."""

    path: str
    headers: dict[str, list[str]]
    body: Any

    @property
    def key(self) -> list[str]:
        """Every key that came with it."""
        return self.headers.get("x-goog-api-key", [])


#: Answers one request; what it leaves unsaid stays unsaid.
Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: GeminiServer

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        """What a proxy is asked before anything is encrypted."""
        self._answer()

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        names = {name.lower() for name in self.headers}
        headers = {name: list(self.headers.get_all(name, [])) for name in names}
        reply = self.server.next(Asked(self.path, headers, json.loads(content) if content else None))
        reply(self)

    def send(self, code: int, content: bytes, *, kind: str = "application/json", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"content_type": kind, "content_length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the base class calls it so
        """Nothing is printed."""


class GeminiServer(ThreadingHTTPServer):
    """Gives the replies in `script` in their order, or those of `by_key` whatever the order."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *script: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = deque(script)
        self.by_key: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        #: Somebody hung up on a dripping answer.
        self.left = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    @property
    def keys(self) -> list[str]:
        """The keys that came, one for each request."""
        return [key for one in self.asked for key in one.key]

    def next(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        if asked.key and asked.key[0] in self.by_key:
            return self.by_key[asked.key[0]]
        return self.script.popleft() if self.script else error(500, "INTERNAL", "the script is over")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""

    def encrypted(self, certificate: str, key: str) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"


@contextmanager
def serving(*script: Reply, tls: tuple[str, str] | None = None) -> Iterator[GeminiServer]:
    """A server that runs until the block ends; `tls` is the files of a certificate and its key."""
    server = GeminiServer(*script)
    if tls:
        server.encrypted(*tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


# --- replies -------------------------------------------------------------------


def image(
    content: bytes = REAL["png"], *, mime: str = "image/png", before: Sequence[dict[str, Any]] = (), **fields: Any
) -> Reply:
    """An image, after the parts in `before`; `fields` replace those of the answer."""
    return parts(*before, inline(content, mime), **fields)


def inline(content: bytes, mime: str = "image/png", **fields: Any) -> dict[str, Any]:
    """A part with bytes; `thought=True` makes it a draft."""
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(content).decode()}, **fields}


def parts(*found: dict[str, Any], finish: str = "STOP", **fields: Any) -> Reply:
    """An answer with these parts."""
    return answer(
        {"candidates": [{"content": {"role": "model", "parts": list(found)}, "finishReason": finish}], **fields}
    )


def answer(fields: dict[str, Any]) -> Reply:
    """An answer with these fields, and those that every answer has."""
    usage = {"promptTokenCount": 800, "candidatesTokenCount": 1120, "thoughtsTokenCount": 90, "totalTokenCount": 2010}
    return body(
        json.dumps({"responseId": "r-1", "modelVersion": "gemini-test-001", "usageMetadata": usage, **fields}).encode()
    )


def blocked(reason: str = "PROHIBITED_CONTENT") -> Reply:
    """The prompt itself was refused, so that there are no candidates."""
    return answer({"promptFeedback": {"blockReason": reason}})


def finished(reason: str) -> Reply:
    """The model stopped without any content, and says why."""
    return answer({"candidates": [{"finishReason": reason}]})


def model() -> Reply:
    """The description of a model."""
    return body(json.dumps({"name": "models/gemini-3-pro-image", "displayName": "An image model"}).encode())


def body(content: bytes, *, code: int = 200, kind: str = "application/json", **headers: str) -> Reply:
    """These bytes, whatever they are; `headers` with _ for -."""
    return lambda handler: handler.send(code, content, kind=kind, **headers)


def error(code: int, status: str = "", message: str = "", *details: dict[str, Any], **headers: str) -> Reply:
    """An error as Google's services write one."""
    found = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return body(json.dumps(found).encode(), code=code, **headers)


def rejected() -> Reply:
    """The key is not one."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    return error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason)


def exhausted(seconds: float, *, period: str = "Minute") -> Reply:
    """The quota of a minute or a day is used up."""
    quota = {"violations": [{"quotaId": f"GenerateRequestsPer{period}PerProjectPerModel", "quotaValue": "60"}]}
    hint = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", quota, hint)


def html() -> Reply:
    """A proxy on the way has something to say."""
    return body(b"<html><body><h1>502 Bad Gateway</h1></body></html>", code=502, kind="text/html")


def redirect(url: str, code: int = 302) -> Reply:
    """Somebody else should be asked."""
    return body(b"", code=code, location=url)


def silent() -> Reply:
    """Nothing, until the server ends."""
    return lambda handler: _ignore(handler.server.closing.wait(60))


def dripping() -> Reply:
    """The beginning of an answer, then a blank every now and then, for ever."""

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        try:
            while not handler.server.closing.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            handler.server.left.set()

    return drip


def reset() -> Reply:
    """The connection breaks with a reset."""

    def cut(handler: Handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        os.close(handler.connection.detach())

    return cut


def closed() -> Reply:
    """The connection ends before an answer."""
    return lambda handler: setattr(handler, "close_connection", True)


def truncated() -> Reply:
    """Half of an answer."""

    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"candidates": [')
        handler.close_connection = True

    return half


def _ignore(_: object) -> None:
    return None
