"""Pushing: what is sent, what every answer means, and that it always ends."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tokenctl.errors import GatewayUnavailable
from tokenctl.telemetry.pushgateway import gateway, push

ENOUGH_S = 30.0


class Recorder(HTTPServer):
    """A gateway that remembers what it got and answers as it is told."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = status, body
        self.got: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append({"path": self.path, "text": text, **{k.lower(): v for k, v in self.headers.items()}})
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@contextmanager
def recorder(status: int = 202, body: bytes = b"") -> Iterator[Recorder]:
    with Recorder(status, body) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_all_of_a_job_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # only settings.py reads the environment
    with recorder() as server:
        push(gateway(server.url + "/prefix/"), "batch-import", "sö 1\n", timeout_s=ENOUGH_S)
    (got,) = server.got
    assert (got["path"], got["text"]) == ("/prefix/metrics/job/batch-import", "sö 1\n")
    assert got["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "authorization" not in got


def test_credentials_go_into_a_header_and_nowhere_else() -> None:
    with recorder(403, b"go away") as server:
        target = gateway(server.url.replace("//", "//some%40one:S3%2FCRET@"))
        assert "S3" not in repr(target)
        with pytest.raises(GatewayUnavailable) as caught:
            push(target, "j", "", timeout_s=ENOUGH_S)
    assert base64.b64decode(server.got[0]["authorization"].removeprefix("Basic ")) == b"some@one:S3/CRET"
    assert caught.value.detail == f"{server.url} answered 403 Forbidden: go away"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://127.0.0.1:9091", "http://127.0.0.1:9091"),
        ("https://gateway.example/a/b/", "https://gateway.example/a/b"),
        ("http://u:S3CRET@[::1]:9091/", "http://[::1]:9091"),
        ("http://u:S3CRET@h@host", "http://host"),
    ],
)
def test_what_is_shown_of_a_gateway(url: str, where: str) -> None:
    assert gateway(url).where == where


@pytest.mark.parametrize(
    "url",
    [
        "S3CRET", "127.0.0.1:9091", "ftp://S3CRET@h", "http://", "http://S3CRET@", "http://h:S3CRET", "http://h:99999",
        "http://[S3CRET", "http://[S3CRET]", "http://h/?S3CRET", "http://h/#S3CRET", "http://h/S3 CRET",
        "http://h/S3CRET\n", "http://h/ö",
    ],
)  # fmt: skip
def test_what_is_no_gateway_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="Pushgateway") as caught:
        gateway(url)
    assert "S3" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b"text format parsing error\nin line 1", "answered 400 Bad Request: text format parsing error"),
        (500, b"", "answered 500"),
        (301, b"", "answered 301"),  # a redirection is not followed: what was pushed would be lost
        (404, b"\xff" * 5000, "answered 404 Not Found: \ufffd"),
    ],
)
def test_any_answer_but_a_success_is_a_failure(status: int, body: bytes, said: str) -> None:
    with recorder(status, body) as server, pytest.raises(GatewayUnavailable) as caught:
        push(gateway(server.url), "j", "", timeout_s=ENOUGH_S)
    assert caught.value.detail.startswith(f"{server.url} {said}")
    assert len(caught.value.detail) < 2500
    assert caught.value.exit_code == 69


@pytest.mark.parametrize("status", [200, 202])
def test_a_success_is_one(status: int) -> None:
    with recorder(status, b"fine") as server:
        push(gateway(server.url), "j", "", timeout_s=ENOUGH_S)


def test_nobody_listens() -> None:
    with pytest.raises(GatewayUnavailable, match="cannot be reached: Connection refused"):
        push(gateway("http://127.0.0.1:1"), "j", "", timeout_s=ENOUGH_S)


def test_a_host_that_no_resolver_knows() -> None:
    with pytest.raises(GatewayUnavailable, match="cannot be reached"):
        push(gateway("http://nobody.invalid:9091"), "j", "", timeout_s=ENOUGH_S)


def test_what_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: _answer(listening, b"SSH-2.0-x\r\n"))
        thread.start()
        with pytest.raises(GatewayUnavailable, match="cannot be reached: "):
            push(gateway(f"http://127.0.0.1:{listening.getsockname()[1]}"), "j", "", timeout_s=ENOUGH_S)
        thread.join()


def _answer(listening: socket.socket, what: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(what)


def test_a_silent_gateway_ends_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = gateway(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(GatewayUnavailable, match=r"did not answer within 0\.05 s"):
            push(target, "j", "", timeout_s=0.05)


def test_a_gateway_that_answers_a_byte_at_a_time_ends_at_the_limit() -> None:
    """Each byte comes in time for the socket's own limit, which is none for the whole."""
    done, sent = threading.Event(), []

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            while not done.wait(0.01):
                sent.append(connection.send(b"H"))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        target = gateway(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(GatewayUnavailable, match=r"did not answer within 0\.2 s"):
            push(target, "j", "", timeout_s=0.2)
        done.set()
        thread.join()
    assert len(sent) > 1
