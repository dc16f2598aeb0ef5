"""What surrounds a call: names, redirects, proxies, certificates, the environment, and the logs."""

from __future__ import annotations

import base64
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests import gemini_server as fake
from tests import require
from tests.cli.running import environment
from tests.gemini_server import GeminiServer, serving
from tests.pictures import REAL
from tests.unit.clients.asking import ENOUGH_S, SECRET, ask
from tokenctl.clients.gemini import Gemini
from tokenctl.clients.generation import Request
from tokenctl.clients.outcomes import Kind


def test_where_nobody_listens_nothing_was_sent(request_: Request) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = Gemini(f"http://127.0.0.1:{port}", "v1beta")
    assert ask(client, request_).ended.kind is Kind.UNSENT
    client.close()


def test_a_name_server_that_is_silent_is_not_waited_for(
    server: GeminiServer, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def stuck(*args: Any, **how: Any) -> Any:
        asked.set()
        answers.wait(ENOUGH_S)
        return real(*args, **how)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    client = Gemini(f"http://localhost:{server.server_port}", "v1beta")
    try:
        assert ask(client, request_, limit_s=0.3).ended.kind is Kind.LOST
        client.close()  # waits for no name either
        assert asked.is_set()
        assert not answers.is_set()
    finally:
        answers.set()


STUCK = """
import socket, threading
from tokenctl.clients.gemini import Gemini
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
client = Gemini("http://localhost:1", "v1beta")
print(client.look_up("m", "a-key-that-opens-nothing", limit_s=0.3, request_id="r").ended.kind)
client.close()
"""


def test_a_process_ends_while_a_name_is_still_looked_up() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=ENOUGH_S, check=True, env=environment()
    )
    assert ran.stdout == "lost\n"


def test_a_name_is_looked_up(server: GeminiServer, request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.server_port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    server.script.append(fake.image())
    client = Gemini(f"http://localhost:{server.server_port}", "v1beta")
    assert ask(client, request_).ended.image
    client.close()

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = Gemini("http://localhost:1", "v1beta")
    assert ask(client, request_).ended.kind is Kind.UNSENT
    client.close()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_takes_the_key_nowhere(
    server: GeminiServer, client: Gemini, request_: Request, code: int
) -> None:
    with serving(fake.image()) as elsewhere:
        server.script.append(fake.redirect(f"{elsewhere.url}/v1beta/models/m:generateContent", code))
        ended = ask(client, request_).ended
        assert (ended.kind, ended.http_status) == (Kind.REFUSED, code)
        assert elsewhere.asked == []


ENVIRONMENT = {
    "GOOGLE_API_KEY": "a-stray-key-of-google-1",
    "GEMINI_API_KEY": "a-stray-key-of-gemini-1",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_GENAI_API_VERSION": "v7",
    "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
    "GOOGLE_GENAI_CLIENT_MODE": "replay",
    "GOOGLE_CLOUD_PROJECT": "stray",
    "GOOGLE_CLOUD_LOCATION": "nowhere",
    "GOOGLE_API_USE_CLIENT_CERTIFICATE": "true",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
}


def test_the_environment_changes_nothing(
    server: GeminiServer,
    request_: Request,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server.script.append(fake.image())
    client = Gemini(server.url, "v1beta")
    assert ask(client, request_).ended.image
    client.close()
    assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert server.asked[0].path == "/v1beta/models/gemini-3-pro-image:generateContent"
    assert server.keys == [SECRET]
    assert capfd.readouterr() == ("", "")


def test_a_proxy_of_the_environment_sees_no_key(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used for what leaves this machine, and there it only passes on what is encrypted."""
    with serving(fake.body(b"", code=403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        client = Gemini("https://gemini.invalid", "v1beta")
        assert ask(client, request_).ended.kind is Kind.UNSENT
        client.close()
        [asked] = proxy.asked
    assert asked.path == "gemini.invalid:443"
    assert SECRET not in str(asked)


def test_a_certificate_that_is_not_trusted_gets_no_key(request_: Request, tmp_path: Path) -> None:
    openssl = require.tool("openssl")
    certificate, key = str(tmp_path / "c.pem"), str(tmp_path / "k.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=ENOUGH_S,
    )
    with serving(fake.image(), tls=(certificate, key)) as server:
        client = Gemini(server.url, "v1beta")
        assert ask(client, request_).ended.kind is Kind.UNTRUSTED
        client.close()
        assert server.asked == []


def test_neither_key_nor_prompt_is_logged_or_shown(
    server: GeminiServer, client: Gemini, request_: Request, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("google_genai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    server.script.extend([fake.image(), fake.error(500), fake.closed()])
    shown = [repr(ask(client, request_)) for _ in range(3)]
    for text in (caplog.text, *shown, repr(request_)):
        assert SECRET not in text
        assert "very private" not in text
    assert base64.b64encode(REAL["png"]).decode()[:30] not in caplog.text


def test_words_of_next_year_are_no_warning(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.append(fake.finished("A_WORD_OF_NEXT_YEAR"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(client, request_)
    assert caught == []
