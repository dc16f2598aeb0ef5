"""What holds for every test: a clean environment and a home of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tests.pg"]

HOMES = {
    "HOME": ".",
    "XDG_CONFIG_HOME": "config",
    "XDG_CONFIG_DIRS": "etc",
    "XDG_DATA_HOME": "data",
    "XDG_STATE_HOME": "state",
    "XDG_CACHE_HOME": "cache",
}
# Each of these would change what a test sees: whom it connects to, how it prints.
FOREIGN = {
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",
    "LINES",
    "NO_COLOR",
    "PAGER",
    "PY_COLORS",
    "XDG_RUNTIME_DIR",
}


def _is_foreign(name: str) -> bool:
    """Whether the variable belongs to whoever started pytest; TOKENCTL_TEST_… steers the tests."""
    ours = name.startswith("TOKENCTL_") and not name.startswith("TOKENCTL_TEST_")
    return ours or name.startswith("PG") or name in FOREIGN


def _settle(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Drop foreign variables and point everything that is a home below `home`."""
    for name in list(filter(_is_foreign, os.environ)):
        patch.delenv(name)
    for name, folder in HOMES.items():
        patch.setenv(name, str(home / folder))


@pytest.fixture(scope="session", autouse=True)
def _clean_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The environment of fixtures that live longer than a test, such as a server."""
    with pytest.MonkeyPatch.context() as patch:
        _settle(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder for this test; no file of one test is seen by another."""
    folder = tmp_path_factory.mktemp("home")
    _settle(monkeypatch, folder)
    return folder
