"""Directories of the embedded server: whose, how open, how long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenctl.errors import CannotCreate, NotAllowed
from tokenctl.storage.embedded import places

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
NOBODY = 65534
ME = os.geteuid()


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_directory_and_its_parents_are_made(tmp_path: Path) -> None:
    places.make_private(tmp_path / "a" / "b")
    assert _mode(tmp_path / "a") == _mode(tmp_path / "a" / "b") == 0o700


def test_one_that_others_could_only_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    places.make_private(tmp_path / "a")
    assert _mode(tmp_path / "a") == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_one_that_others_could_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(NotAllowed, match=f"{tmp_path}/a is open") as caught:
        places.make_private(tmp_path / "a")
    assert f"chmod 700 '{tmp_path}/a'" in caught.value.hint


@as_root
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", NOBODY, -1)
    with pytest.raises(NotAllowed, match=f"{tmp_path}/a belongs to user nobody, not to user root"):
        places.make_private(tmp_path / "a")


@pytest.mark.parametrize("above", [".", "sub"])
def test_a_file_in_the_way_is_named(tmp_path: Path, above: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(CannotCreate, match=f"{tmp_path}/a"):
        places.make_private(tmp_path / "a" / above)


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path)
    with pytest.raises(CannotCreate, match="not a directory"):
        places.judge(tmp_path / "a", ME)


def test_own_links_lead_to_one_name_for_one_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert places.resolved(tmp_path / "link" / "pg") == (tmp_path / "real" / "pg").resolve()


@as_root
def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", NOBODY, -1, follow_symlinks=False)
    with pytest.raises(NotAllowed, match=f"{tmp_path}/link is a link that belongs to user nobody"):
        places.resolved(tmp_path / "link" / "pg")


@pytest.mark.parametrize(("length", "inside"), [(93, True), (94, False)])
def test_the_socket_moves_out_when_its_path_passes_107_bytes(length: int, inside: bool) -> None:
    base = Path("/" + "x" * (length - 1))
    assert len(f"{base}/.s.PGSQL.5432") == length + 14
    assert (places.socket_dir(base, 7) == base) is inside
    assert len(str(places.socket_dir(base, 7))) <= 93


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a ", "a\n", "a\x7f", "\udcff"])
def test_the_socket_moves_out_of_paths_that_libpq_cannot_say(name: str) -> None:
    assert places.socket_dir(Path("/") / name, 7) != Path("/") / name


def test_short_directories_differ_by_place_and_user() -> None:
    long = Path("/" + "x" * 200)
    assert len({places.socket_dir(long / name, uid) for name in "ab" for uid in (1, 2)}) == 4


def test_a_short_directory_is_made_once_and_never_mended(tmp_path: Path) -> None:
    short = tmp_path / "short"
    for _ in range(2):
        places.make_socket_dir(short, tmp_path, ME, os.getegid())
        assert _mode(short) == 0o700
    short.chmod(0o750)
    with pytest.raises(NotAllowed, match="open to other users"):
        places.make_socket_dir(short, tmp_path, ME, os.getegid())
    assert _mode(short) == 0o750
