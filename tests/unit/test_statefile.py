"""The state file: whatever is wrong with it is StateUnusable, and a damaged one is replaced by an empty one."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import exit_code, forked
from tests.unit.words_file import SCHEMA, names, put, words, words_file
from tokenctl.statefile import Damaged, StateFile, StateUnusable, private_dir

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return words_file(tmp_path)


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: PTH101, S103 — it holds nothing
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- what it does when all is well -------------------------------------------------


def test_what_one_wrote_another_reads(file: StateFile) -> None:
    put(file)
    assert words(StateFile(file.path, SCHEMA)) == {"a": "one"}


def test_nobody_else_may_look(file: StateFile) -> None:
    before = os.umask(0)
    try:
        with file.transaction() as connection:
            connection.execute("INSERT INTO words VALUES ('a', 'one')")
            while_open = {path.name: mode(path) for path in file.path.parent.iterdir()}
    finally:
        os.umask(before)
    assert while_open == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert mode(file.path.parent) == 0o700
    assert names(file.path.parent) == {"state.db"}


def test_parents_that_are_made_are_private_too(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_dir(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_an_exception_takes_everything_back(file: StateFile) -> None:
    put(file)

    def interrupted() -> None:
        with file.transaction() as connection:
            connection.execute("DELETE FROM words")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert words(file) == {"a": "one"}


def test_a_reader_cannot_wait_for_a_writer(file: StateFile) -> None:
    put(file)
    with file.transaction() as connection:
        connection.execute("DELETE FROM words")
        assert words(file) == {"a": "one"}
    assert words(file) == {}


# --- other versions ----------------------------------------------------------------


def test_a_file_of_a_newer_tokenctl_is_left_alone(file: StateFile) -> None:
    put(StateFile(file.path, SCHEMA, version=2))
    content = file.path.read_bytes()
    for _ in range(2):
        with pytest.raises(StateUnusable, match=r"state\.db was made by a newer tokenctl"):
            put(file)
    assert file.path.read_bytes() == content
    assert names(file.path.parent) == {"state.db"}


def test_a_version_that_will_never_be_is_damage(file: StateFile) -> None:
    put(file)
    with file.transaction() as connection:
        connection.execute("PRAGMA user_version = 1677721601")
    with pytest.raises(Damaged, match="is not a state file"):
        words(file)
    assert words(file) == {}


def test_a_file_of_an_older_tokenctl_gets_what_it_lacks(file: StateFile) -> None:
    put(file)
    newer = StateFile(file.path, SCHEMA + "CREATE TABLE IF NOT EXISTS more (n)", version=2)
    with newer.transaction() as connection:
        connection.execute("INSERT INTO more VALUES (1)")
    assert words(newer) == {"a": "one"}


# --- directories ---------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_not_used(file: StateFile, wrong: int) -> None:
    put(file)
    file.path.parent.chmod(wrong)
    with pytest.raises(StateUnusable, match=f"can be written by other users.*chmod 700 {file.path.parent}"):
        words(file)
    assert mode(file.path.parent) == wrong


def test_a_directory_that_others_can_read_is_closed(file: StateFile) -> None:
    file.path.parent.mkdir(mode=0o755)
    put(file)
    assert mode(file.path.parent) == 0o700


def test_another_user_s_directory_is_not_used(tmp_path: Path) -> None:
    theirs = Path("/")
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, NOBODY, -1)
    with pytest.raises(StateUnusable, match="belongs to another user"):
        put(StateFile(theirs / "state.db", SCHEMA))


def test_a_link_to_a_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(StateUnusable, match="is not a directory"):
        put(StateFile(tmp_path / "state" / "state.db", SCHEMA))
    assert names(tmp_path / "real") == set()


@pytest.mark.parametrize("below", ["state.db", "sub/state.db"])
def test_a_file_in_place_of_the_directory(tmp_path: Path, below: str) -> None:
    (tmp_path / "state").write_text("precious")
    with pytest.raises(StateUnusable, match=f"{tmp_path}/state"):
        put(StateFile(tmp_path / "state" / below, SCHEMA))
    assert (tmp_path / "state").read_text() == "precious"


def _use_as_nobody(file: StateFile) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        put(file)
    except StateUnusable:
        os._exit(7)
    os._exit(0)


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_that_we_cannot_write(public_dir: Path, exists: bool) -> None:
    file = StateFile(public_dir / "state" / "state.db", SCHEMA)
    private_dir(file.path.parent)
    if exists:
        put(file)
    if os.geteuid() == 0:  # whom no mode stops, so it has to be somebody else
        for path in (file.path.parent, *file.path.parent.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    file.path.parent.chmod(0o500)
    child = forked(_use_as_nobody, file)
    assert exit_code(child) == 7
    file.path.parent.chmod(0o700)
    assert names(file.path.parent) == ({"state.db"} if exists else set())


# --- what stands in the file's place -------------------------------------------------


def _text(path: Path) -> None:
    path.write_text("precious\n" * 1000)


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


def _other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (n)")
    connection.close()


def _without_table(path: Path) -> None:
    put(StateFile(path, SCHEMA))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE words")
    connection.close()


def _truncated(path: Path) -> None:
    put(StateFile(path, SCHEMA), word="w" * 20_000)
    os.truncate(path, 5000)


def _no_text(path: Path) -> None:
    put(StateFile(path, SCHEMA))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE words SET word = CAST(x'ff00ff' AS TEXT)")
    connection.close()


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "precious").touch()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    # Its address is a relative path, because a long one does not fit.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def _link_to_file(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_text("precious")
    path.symlink_to(path.parent.parent / "elsewhere")


def _link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [_text, _nothing, _other_database, _without_table, _truncated, _no_text, _directory, _pipe, _socket,
     _link_to_file, _link_to_nothing],
)  # fmt: skip
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_what_is_no_state_file_is_put_aside(file: StateFile, spoil: Callable[[Path], None], before: bool) -> None:
    private_dir(file.path.parent)
    if before:
        _text(file.path.with_name("state.db.bad"))
    spoil(file.path)
    spoiled = file.path.lstat()
    try:
        words(file)
    except StateUnusable as error:
        assert str(file.path) in str(error)  # noqa: PT017 — some of it is mended at once
    put(file)
    assert words(file) == {"a": "one"}
    aside = [path for path in file.path.parent.iterdir() if ".bad" in path.name]
    assert any(os.path.samestat(path.lstat(), spoiled) for path in aside)
    elsewhere = file.path.parent.parent / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_text() == "precious"


def test_only_one_damaged_file_is_kept(file: StateFile) -> None:
    for _ in range(3):
        put(file)
        _text(file.path)
        with pytest.raises(StateUnusable):
            put(file)
    put(file)
    assert names(file.path.parent) == {"state.db", "state.db.bad"}


def test_who_finds_nonsense_puts_the_file_aside(file: StateFile) -> None:
    put(file)
    with pytest.raises(Damaged, match="nonsense"), file.transaction():
        raise Damaged("nonsense")
    assert words(file) == {}
    assert names(file.path.parent) == {"state.db", "state.db.bad"}


def test_a_file_that_another_process_replaced_is_not_put_aside(file: StateFile) -> None:
    put(file)

    def too_late() -> None:
        with file.transaction(write=False):
            file.path.rename(file.path.with_name("state.db.bad"))
            put(StateFile(file.path, SCHEMA), word="new")
            raise Damaged("what the old one held")

    with pytest.raises(Damaged):
        too_late()
    assert words(file) == {"a": "new"}


def test_a_mode_that_others_could_use_is_mended(file: StateFile) -> None:
    put(file)
    file.path.chmod(0o666)
    assert words(file) == {"a": "one"}
    assert mode(file.path) == 0o600


@as_root
def test_another_user_s_file_is_put_aside(file: StateFile) -> None:
    put(file)
    os.chown(file.path, NOBODY, -1)
    assert words(file) == {}
    assert file.path.with_name("state.db.bad").stat().st_uid == NOBODY


def _usable(file: StateFile) -> bool:
    """Whether it is usable; a file whose version became a little higher looks like a newer tokenctl's."""
    try:
        words(file)
        put(file)
    except StateUnusable as error:
        return "newer" in str(error)
    return True


def test_flipped_bytes_never_stop_a_command(file: StateFile) -> None:
    put(file)
    with file.transaction() as connection:
        connection.executemany("INSERT INTO words VALUES (?, ?)", [(f"n{n}", "w" * n) for n in range(200)])
    content = file.path.read_bytes()
    rng = random.Random(20261124)  # noqa: S311 — a repeatable test
    for number in range(400):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 3, 20))):
            damaged[rng.randrange(len(damaged)) if rng.random() < 0.6 else rng.randrange(200)] = rng.randrange(256)
        shutil.rmtree(file.path.parent)
        private_dir(file.path.parent)
        file.path.write_bytes(damaged)
        assert any(_usable(file) for _ in range(3)), f"damage number {number} stays"
