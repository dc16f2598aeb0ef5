"""Directories and the file of keys, as they may be found; nothing is made, and no key is repeated."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenctl.clients import keyfile
from tokenctl.errors import ConfigError
from tokenctl.services import health_files as files
from tokenctl.services.health_report import Check

CANARY = "AIza-S3CRET-canary"
KEYS = f'[[key]]\nid = "a"\nproject = "p"\nsecret = "{CANARY}"\n\n[[key]]\nid = "b"\nsecret = "{CANARY}2"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def free(patch: pytest.MonkeyPatch, size_bytes: int) -> None:
    patch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=size_bytes, f_frsize=1))


def test_a_directory_that_is_not_there_is_fine_and_stays_away(tmp_path: Path) -> None:
    check = files.state(tmp_path / "a" / "b")
    assert (check.state, check.detail.split(", ")[0]) == ("ok", "not made yet")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = files.state(tmp_path / "file" / "state")
    assert check.state == "warning"
    assert f"{tmp_path}/file/state" in check.detail


def test_a_private_directory(folder: Path) -> None:
    check = files.state(folder)
    assert check.state == "ok"
    assert check.detail.startswith("private, ")
    assert [(gauge.name, gauge.unit, str(gauge.crit)) for gauge in check.gauges] == [("state_free", "B", "10000000:")]
    assert files.cache(folder, ttl_s=30).gauges[0].name == "cache_free"


def test_caching_may_be_off(tmp_path: Path) -> None:
    check = files.cache(tmp_path / "file", ttl_s=0)
    assert (check.state, check.values["enabled"]) == ("ok", False)


@pytest.mark.parametrize(("mode", "word"), [(0o755, "read"), (0o770, "written"), (0o702, "written"), (0o701, "read")])
def test_a_directory_that_is_open_to_others(folder: Path, mode: int, word: str) -> None:
    folder.chmod(mode)
    check = files.state(folder)
    assert check.state == "warning"
    assert f"can be {word} by other users (mode {mode:04o})" in check.detail


def test_a_directory_of_somebody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.lstat().st_uid + 1)
    check = files.state(folder)
    assert (check.state, "belongs to another user" in check.detail) == ("warning", True)


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        check = files.state(tmp_path / name)
        assert (check.state, "is not a directory" in check.detail) == ("warning", True)


@pytest.mark.parametrize(
    ("size_bytes", "state"),
    [(100_000_000, "ok"), (99_999_999, "warning"), (10_000_000, "warning"), (9_999_999, "critical"), (0, "critical")],
)
def test_a_disk_that_fills_up(folder: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int, state: str) -> None:
    free(monkeypatch, size_bytes)
    check = files.state(folder)
    assert check.state == state
    assert check.values["free_bytes"] == size_bytes
    assert files.state(folder / "not" / "there").state == state


def test_files_that_do_not_open(folder: Path) -> None:
    with sqlite3.connect(folder / "good.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    (folder / "empty.db").touch()
    assert files.state(folder).state == "ok"
    (folder / "cache").mkdir()
    (folder / "cache" / "bad.db").write_bytes(b"SQLite format 4\0" * 64)
    (folder / "link.db").symlink_to(folder / "good.db")
    (folder / "pipe.db").mkdir()
    check = files.state(folder)
    assert check.state == "warning"
    for name in ("bad.db", "link.db", "pipe.db"):
        assert f"{name} cannot be opened, or is damaged" in check.detail
    assert "good.db" not in check.detail


def write(tmp_path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = tmp_path / "keys.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


def keys(file: Path | None, single: str | None = None, *, expected: bool = False) -> Check:
    check = files.keys(file, single, expected=expected)
    assert CANARY not in repr(check)
    return check


def test_keys_in_a_file(tmp_path: Path) -> None:
    check = keys(write(tmp_path, KEYS))
    assert (check.state, check.detail, check.values["keys"]) == ("ok", "2 keys, mode 0600", 2)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_of_keys_that_others_can_read(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path, KEYS, mode)
    check = keys(file)
    assert (check.state, check.detail) == ("critical", f"{file} is open to other users (mode {mode:04o})")
    assert check.hint == f"chmod 600 {file}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f'[[key]]\nid = "a"\nsecret = {CANARY}\n', "is not TOML: look at line 3"),
        (b"\xff", "is not UTF-8"),
        ("", "there is no [[key]] table"),
        ('key = "AIza-S3CRET-canary"\n', "there is no [[key]] table"),
        (f'[[key]]\nid = "a"\nsecret = "{CANARY}"\n[[key]]\nid = "b"\n', "key 2: secret is missing"),
        (f'[[key]]\nsecret = "{CANARY}"\n', "key 1: id is missing"),
        (f'[[key]]\nid = ""\nsecret = "{CANARY}"\n', "key 1: id must be"),
        (f'[[key]]\nid = "my main key"\nsecret = "{CANARY}"\n', "key 1: id must be"),
        ('[[key]]\nid = "a"\nsecret = "short"\n', "key 1: secret must be"),
        (f'[[key]]\nid = "a"\nsecret = "{CANARY}"\nregion = "eu"\n', "key 1: it has a name beside"),
        (f'[[key]]\nid = "a"\nsecret = "{CANARY}"\n' * 2, "two keys have the same id"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used(tmp_path: Path, content: str | bytes, why: str) -> None:
    check = keys(write(tmp_path, content))
    assert check.state == "critical"
    assert why in check.detail


def test_a_file_of_keys_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, KEYS)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert (keys(file).state, keys(file).detail) == ("critical", f"{file} belongs to another user")


def test_a_file_of_keys_that_is_none(tmp_path: Path) -> None:
    assert keys(tmp_path / "nothing").state == "critical"
    assert keys(tmp_path).state == "critical"


def test_no_keys_are_fine_unless_some_are_expected() -> None:
    assert (keys(None).state, keys(None).detail) == ("ok", "none configured")
    assert keys(None, expected=True).state == "warning"
    assert keys(None, f"{CANARY}-1", expected=True).detail == "1 key, from GEMINI_API_KEY"


def test_a_key_of_the_environment_that_is_none_is_critical() -> None:
    check = keys(None, "abc")
    assert (check.state, check.detail.startswith("GEMINI_API_KEY is no key")) == ("critical", True)


@pytest.mark.parametrize(("id_", "secret"), [("my main key", CANARY), ("a", "short"), ("a", CANARY)])
def test_health_and_the_commands_that_use_keys_are_of_one_mind(tmp_path: Path, id_: str, secret: str) -> None:
    file = write(tmp_path, f'[[key]]\nid = "{id_}"\nsecret = "{secret}"\n')
    try:
        usable = bool(keyfile.load(file, None))
    except ConfigError:
        usable = False
    assert (keys(file).state == "ok") is usable
