"""The file of recent ids: bounded, private, replaced whole, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenctl.cli import recent


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def kept(state: Path) -> list[str]:
    return (state / "recent").read_text().splitlines()


def test_the_newest_comes_first_and_once(state: Path) -> None:
    for line in ("user a", "user b", "batch 5f", "user a"):
        recent.remember(state, [line])
    assert kept(state) == ["user a", "batch 5f", "user b"]
    recent.remember(state, ["user c", "user d"])
    assert kept(state)[:2] == ["user d", "user c"]


def test_what_arguments_name() -> None:
    assert recent.named({"user": "a", "amount": 5, "note": "x"}) == ["user a"]
    assert recent.named({"users": ["a", "b"], "batch": None}) == ["user a", "user b"]
    assert recent.named({"transaction": "a:b:17"}) == ["user a:b"]
    assert recent.named({"batches": ["5f", "6a"], "user": None}) == ["batch 5f", "batch 6a"]


def test_each_kind_is_bounded(state: Path) -> None:
    recent.remember(state, ["batch 5f"])
    recent.remember(state, [f"user {n}" for n in range(3 * recent.KEPT)])
    found = kept(state)
    assert len(found) == recent.KEPT + 1
    assert found[0] == f"user {3 * recent.KEPT - 1}"
    assert found[-1] == "batch 5f"


@pytest.mark.parametrize("bad", ["user -", "user a b", "user $(x)", "user ", f"user {'a' * 129}", "other a", "user é"])
def test_only_ids_are_kept(state: Path, bad: str) -> None:
    recent.remember(state, [bad, "user good"])
    assert kept(state) == ["user good"]


def test_what_somebody_else_wrote_is_dropped(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "recent").write_bytes(b"user a\nuser $(x)\n\xff\xfe\nuser b\n")
    recent.remember(state, ["user c"])
    assert kept(state) == ["user c", "user a", "user b"]


def test_a_large_file_or_another_s_is_begun_anew(state: Path, tmp_path: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "recent").write_text("user a\n" * 100_000)
    recent.remember(state, ["user c"])
    assert kept(state) == ["user c"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("user secret\n")
    (state / "recent").unlink()
    (state / "recent").symlink_to(elsewhere)
    recent.remember(state, ["user d"])
    assert kept(state) == ["user d"]
    assert not (state / "recent").is_symlink()
    assert elsewhere.read_text() == "user secret\n"


def test_a_pipe_in_its_place_does_not_hang(state: Path) -> None:
    state.mkdir(mode=0o700)
    os.mkfifo(state / "recent")
    recent.remember(state, ["user a"])
    assert kept(state) == ["user a"]


def test_it_is_the_user_s_own_and_leaves_nothing_behind(state: Path) -> None:
    recent.remember(state, ["user a"])
    assert (state / "recent").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in state.iterdir()] == ["recent"]


def test_the_same_again_writes_nothing(state: Path) -> None:
    recent.remember(state, ["user a"])
    before = (state / "recent").stat().st_ino
    recent.remember(state, ["user a"])
    recent.remember(state, [])
    assert (state / "recent").stat().st_ino == before


def test_a_directory_that_others_can_write_is_left_alone(state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)
    recent.remember(state, ["user a"])
    assert list(state.iterdir()) == []


def test_a_directory_in_its_place_stays_and_nothing_is_left_behind(state: Path) -> None:
    (state / "recent").mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    recent.remember(state, ["user a"])
    assert [file.name for file in state.iterdir()] == ["recent"]
