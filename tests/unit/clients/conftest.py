"""Google's library in front of a server on loopback, and something to ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gemini_server import GeminiServer, serving
from tests.pictures import REAL
from tokenctl.clients.gemini import Gemini
from tokenctl.clients.generation import Request
from tokenctl.clients.images import judge


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with serving() as running:
        yield running


@pytest.fixture
def client(server: GeminiServer) -> Iterator[Gemini]:
    made = Gemini(server.url, "v1beta")
    yield made
    made.close()


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    paths = [tmp_path / name for name in ("a.png", "b.jpg")]
    for path, kind in zip(paths, ("png", "jpeg"), strict=True):
        path.write_bytes(REAL[kind])
    return Request("gemini-3-pro-image", "a very private prompt", tuple(judge(path) for path in paths), "2K", "16:9")
