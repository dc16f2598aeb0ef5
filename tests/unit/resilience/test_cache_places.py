"""Directories and files that are in order, and that cannot be used, or not by us."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from tests.require import missing
from tests.unit.resilience.caches import NAMES, fill, run
from tokenctl.resilience import cachestore
from tokenctl.resilience.cache import Busy, Cache
from tokenctl.resilience.cachestore import remote
from tokenctl.resilience.events import Event, Trouble
from tokenctl.statefile import StateUnusable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed cache that holds all of NAMES; the files are in `v1`."""
    cache = Cache(tmp_path / "cache")
    fill(cache, NAMES)
    cache.close()
    return tmp_path / "cache"


def unusable(folder: Path) -> str:
    """What is said of a cache that cannot be used; it does nothing, and is asked once."""
    events: list[Event] = []
    cache = Cache(folder, emit=events.append)
    assert cache.get_many("n", ["user_1"], max_age_s=1000.0).get("user_1") is None
    assert cache.get_stale("n", ["user_1"]) == {}
    assert cache.ticket("n") is None
    cache.forget("n", "user_1")
    cache.forget_all("n")
    for call in (cache.stats, cache.clear, cache.sweep):
        with contextlib.suppress(StateUnusable):
            call()
    cache.close()
    troubles = [event for event in events if isinstance(event, Trouble)]
    assert [trouble.what for trouble in troubles] == ["cache"]
    return troubles[0].why


@pytest.mark.parametrize("where", [".", "v1"])
def test_a_symbolic_link_is_not_followed(folder: Path, tmp_path: Path, where: str) -> None:
    (folder / where).rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / where).symlink_to(tmp_path / "elsewhere")
    assert "is not a directory" in unusable(folder)


@pytest.mark.parametrize("where", [".", "v1"])
def test_a_file_in_the_directorys_place_stays(folder: Path, tmp_path: Path, where: str) -> None:
    (folder / where).rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / where).write_text("a file")
    assert unusable(folder)
    assert (tmp_path / "cache" / where).read_text() == "a file"


@pytest.mark.parametrize("where", [".", "v1"])
def test_another_users_directory_is_not_used(folder: Path, where: str) -> None:
    if os.geteuid() != 0:
        missing("only root can give a directory to another user; run the tests as root, too")
    os.chown(folder / where, 65534, 65534)
    assert "belongs to another user" in unusable(folder)


@pytest.mark.parametrize("where", [".", "v1"])
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_directory_that_others_can_write_is_not_used(folder: Path, where: str, mode: int) -> None:
    (folder / where).chmod(mode)
    assert "can be written by other users" in unusable(folder)
    assert (folder / "v1" / "cache.db").exists()


def test_a_directory_that_others_can_read_is_closed(folder: Path) -> None:
    for path in (folder, folder / "v1"):
        path.chmod(0o755)
    assert len(run(folder)[0]) == len(NAMES)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "v1")] == [0o700, 0o700]


def test_nobody_else_can_read_what_is_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "a" / "cache")
        fill(cache, NAMES)
        files = list((tmp_path / "a" / "cache" / "v1").iterdir())
        modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
        cache.close()
        assert os.umask(0) == 0, "the process's own mask is as it was"
    finally:
        os.umask(before)
    assert (len(files), modes) == (3, {0o600})
    assert {stat.S_IMODE((tmp_path / "a" / "cache" / way).stat().st_mode) for way in (".", "v1")} == {0o700}


def test_a_file_that_another_command_takes_away_at_that_moment_is_no_trouble(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "v1" / "cache.db-wal").touch()

    def listed(path: Path) -> contextlib.nullcontext[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            found = list(entries)
        (path / "cache.db-wal").unlink()
        return contextlib.nullcontext(found)

    scandir = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", listed)
        assert run(folder)[1:] == (True, [])


def test_a_directory_that_cannot_be_made_is_no_cache() -> None:
    assert "/proc/none" in unusable(Path("/proc/none/cache"))


def test_a_dollar_sign_is_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Diskcache would open another directory than the one that was looked at."""
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    assert "dollar sign" in unusable(tmp_path / "$ELSEWHERE")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("kind", "is_remote"), [("nfs4", True), ("fuse.sshfs", True), ("tmpfs", False), ("overlay", False)]
)
def test_a_networks_file_system_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_remote: bool
) -> None:
    monkeypatch.setattr(os, "major", lambda _device: 0)
    monkeypatch.setattr(os, "minor", lambda _device: 77)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 22 0:77 / /home rw,relatime shared:1 - {kind} host:/x rw\n"
    )
    assert remote(tmp_path, mounts) is is_remote
    assert remote(tmp_path, tmp_path / "none") is False


def test_a_cache_on_a_networks_file_system_is_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cachestore, "remote", lambda _directory: True)
    assert "network" in unusable(folder)


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_file_is_waited_for_within_limits_and_left_alone(folder: Path, how: str) -> None:
    """Diskcache alone waits a minute for each of twenty statements."""
    with contextlib.closing(sqlite3.connect(folder / "v1" / "cache.db", isolation_level=None)) as holder:
        if how == "EXCLUSIVE":
            holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute(f"BEGIN {how}")
        holder.execute("DELETE FROM Cache")
        assert "others are at it" in unusable(folder)
        cache = Cache(folder)
        with pytest.raises(Busy):
            cache.clear()
    assert len(run(folder)[0]) == len(NAMES)


def test_a_transaction_that_cannot_begin_is_not_tried_for_ever(folder: Path) -> None:
    """As after a signal between two statements; the test runs forever if nothing ends it."""
    cache = Cache(folder)
    assert cache.get_many("n", ["user_1"], max_age_s=1000.0).get("user_1") is not None
    cache._store._sql("BEGIN")  # type: ignore[union-attr]  # noqa: SLF001 — nothing else leaves one open
    cache.forget("n", "user_1")
    cache.close()
    assert run(folder)[1]
