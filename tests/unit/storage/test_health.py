"""Whether a network is in between, by the name of the host."""

from __future__ import annotations

import pytest

from tokenctl.storage.health import is_local


@pytest.mark.parametrize("host", ["", "/run/postgresql", "@abstract", "localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["db.internal", "10.0.0.1", "::2", "localhost.example", "128.0.0.1"])
def test_another_machine(host: str) -> None:
    assert not is_local(host)
