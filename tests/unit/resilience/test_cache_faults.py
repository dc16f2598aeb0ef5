"""Files that somebody or something meddled with: no wrong value, no exception, and well again by the next run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import resource
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache  # type: ignore[import-untyped]
import pytest

from tests.unit.resilience.caches import NAMES, fill, run, value_of
from tokenctl.resilience.cache import Cache, PutAside
from tokenctl.resilience.cachestore import ROW_BYTES
from tokenctl.statefile import StateUnusable

SEEDS = range(8)
CASES = 200


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good cache, taken while it is open: part of it is still in the log of writes."""
    folder = tmp_path_factory.mktemp("good")
    cache = Cache(folder)
    fill(cache, NAMES[:20])
    cache.close()
    fill(cache, NAMES[20:])
    taken = {file.name: file.read_bytes() for file in (folder / "v1").iterdir()}
    cache.close()
    assert set(taken) == {"cache.db", "cache.db-wal", "cache.db-shm"}
    return taken


def corrupt(data: bytes, rng: random.Random) -> bytes:
    """One of the things that happen to files."""
    changed = bytearray(data)
    at = rng.randrange(len(changed))
    match rng.randrange(7):
        case 0:  # single bits
            for _ in range(rng.choice((1, 1, 3, 30))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 1:
            changed[at : at + rng.randrange(1, 5000)] = b""
        case 2:
            del changed[at:]
        case 3:
            length = rng.randrange(1, 9000)
            changed[at : at + length] = bytes(min(length, len(changed) - at))
        case 4:
            noise = rng.randbytes(rng.randrange(1, 3000))
            changed[at : at + len(noise)] = noise
        case 5:  # another page in a page's place
            page, other = (4096 * rng.randrange(max(len(changed) // 4096, 1)) for _ in range(2))
            changed[page : page + 4096] = data[other : other + 4096]
        case _:  # the header, where most can go wrong
            changed[rng.randrange(min(200, len(changed)))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_damage_gives_a_wrong_value_or_an_exception_or_lasts(
    files: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 — a repeatable test
    for case in range(CASES):
        folder = tmp_path / str(case) / "v1"
        folder.mkdir(parents=True, mode=0o700)
        folder.parent.chmod(0o700)
        victims = {rng.choice(("cache.db", "cache.db", "cache.db-wal")), rng.choice((*files, "cache.db"))}
        for name, data in files.items():
            (folder / name).write_bytes(corrupt(data, rng) if name in victims else data)
        first, _, troubles = run(folder.parent)
        second, kept, _ = run(folder.parent)
        about = f"seed {seed}, case {case}: {troubles}"
        assert first == {name: value_of(name) for name in first}, about
        assert second == {name: value_of(name) for name in second}, about
        # What is damaged may be a part that only the second run needed.
        assert kept or run(folder.parent)[1], about
        shutil.rmtree(folder.parent)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed cache that holds all of NAMES; the files are in `v1`."""
    cache = Cache(tmp_path / "cache")
    fill(cache, NAMES)
    cache.close()
    return tmp_path / "cache"


def change(folder: Path, statement: str, *values: object) -> None:
    """Meddle with the table as somebody who knows it."""
    with contextlib.closing(sqlite3.connect(folder / "v1" / "cache.db", isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount != 0


def blob(row: object, *, wrong: int = 0) -> bytes:
    """A value as the cache writes it."""
    data = json.dumps(row).encode() if not isinstance(row, bytes) else row
    return b"tkc\x01" + ((zlib.crc32(data) + wrong) % 2**32).to_bytes(4, "big") + data


class Marker:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


GOOD = {"k": "n:user_1", "epoch": "?", "at": 0, "up": 0, "ttl": 9, "v": 1}
UPDATE = "UPDATE Cache SET {} WHERE key = 'n:user_1'"
ROWS: dict[str, tuple[str, object]] = {
    "a file's contents as a value": ("mode = 2, value = NULL, filename = ?", "/etc/hostname"),
    "a text file": ("mode = 3, value = NULL, filename = ?", "../../secret"),
    "a raw value with a file": ("filename = ?", "/etc/hostname"),
    "no mode": ("mode = ?", 0),
    "an unknown mode": ("mode = ?", 7),
    "a mode that is a text": ("mode = ?", "raw"),
    "a number": ("value = ?", 5),
    "a text": ("value = ?", json.dumps(GOOD)),
    "nothing": ("value = ?", None),
    "an empty value": ("value = ?", b""),
    "JSON alone": ("value = ?", json.dumps(GOOD).encode()),
    "a wrong checksum": ("value = ?", blob(GOOD, wrong=1)),
    "no JSON": ("value = ?", blob(b"{")),
    "a list": ("value = ?", blob([1])),
    "another's row": ("value = ?", blob({**GOOD, "k": "n:user_2"})),
    "no name": ("value = ?", blob({"v": 1})),
    "no times": ("value = ?", blob({"k": "n:user_1", "v": 1, "epoch": "?"})),
    "a time that is a text": ("value = ?", blob({**GOOD, "at": "noon"})),
    "a time beyond all times": ("value = ?", blob({**GOOD, "at": 10**400})),
    "a value of 65 KB": ("value = ?", blob({**GOOD, "v": "x" * ROW_BYTES})),
    "a value of 30 MB": ("value = ?", blob({**GOOD, "v": "x" * 30_000_000})),
    "a packed value": ("value = ?", zlib.compress(b"0" * 200_000_000)),
    "brackets without end": ("value = ?", blob(b"[" * 60_000)),
    "no valid text": ("value = CAST(? AS TEXT)", b"\xff\xfe"),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_hostile_row_is_not_there_and_is_gone_by_the_next_run(folder: Path, row: str) -> None:
    what, value = ROWS[row]
    change(folder, UPDATE.format(what), value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache = Cache(folder)
    assert cache.get_many("n", ["user_1"], max_age_s=1000.0).get("user_1") is None
    cache.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KB; the packed one has 200 MB in it
    assert len(list(folder.glob("v1.bad-*"))) == 1
    assert run(folder)[1]


@pytest.mark.parametrize("column", ["value", "key"])
def test_pickles_are_never_loaded(folder: Path, tmp_path: Path, column: str) -> None:
    """What diskcache's own JSON disk does with such a row: it runs it."""
    marker = tmp_path / "was here"
    data = pickle.dumps(Marker(marker))
    if column == "value":
        change(folder, UPDATE.format("mode = 4, value = ?"), data)
    else:
        change(folder, UPDATE.format("raw = 0, key = ?"), data)
    run(folder)
    cache = Cache(folder)
    with contextlib.suppress(StateUnusable):
        cache.stats()  # reads every key
    with contextlib.suppress(StateUnusable):
        cache.clear()
    cache.close()
    assert not marker.exists()


def test_the_same_pickle_does_run_in_diskcache_as_it_comes(tmp_path: Path) -> None:
    marker = tmp_path / "was here"
    with diskcache.Cache(str(tmp_path / "theirs"), disk=diskcache.JSONDisk) as theirs:
        theirs["x"] = 1
    with contextlib.closing(sqlite3.connect(tmp_path / "theirs" / "cache.db", isolation_level=None)) as connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Marker(marker)),))
    with diskcache.Cache(str(tmp_path / "theirs"), disk=diskcache.JSONDisk) as theirs, contextlib.suppress(Exception):
        theirs.get("x")
    assert marker.exists()


@pytest.mark.parametrize("how", ["absolute", "relative"])
@pytest.mark.parametrize("act", ["put", "forget", "clear", "sweep"])
def test_no_row_deletes_a_file(folder: Path, tmp_path: Path, act: str, how: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    name = str(victim) if how == "absolute" else "../../victim"
    change(folder, UPDATE.format("filename = ?, mode = 2"), name)
    cache = Cache(folder, clock=lambda: (time.time() + 200_000, 1e9))
    ticket = cache.ticket("n")
    cache.put_many("n", {"user_1": 1}, 1000.0, ticket=ticket)
    if act == "forget":
        cache.forget("n", "user_1")
    for call in {"clear": (cache.clear,), "sweep": (cache.sweep, cache.stats)}.get(act, ()):
        with contextlib.suppress(StateUnusable):
            call()
    cache.close()
    assert victim.read_text() == "dear"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sqlite_journal_mode", "delete"),
        ("sqlite_mmap_size", 10**9),
        ("sqlite_temp_store_directory", "'/tmp'"),
        ("sqlite_user_version = 5; --", 1),
        ("disk_min_file_size", 0),
        ("disk_directory", "/etc"),
        ("_sql", 1),
        ("get", "x"),
        ("size_limit", 1),
        ("cull_limit", "many"),
        ("eviction_policy", "none"),
        ("size", 10**12),
        ("size", "x"),
        ("count", None),
        ("hits", b"x"),
    ],
)
def test_settings_of_others_are_not_taken_over(folder: Path, key: str, value: object) -> None:
    change(folder, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    found, _, _ = run(folder)
    assert found == {name: value_of(name) for name in found}
    _, kept, troubles = run(folder)
    assert (kept, troubles) == (True, [])
    with contextlib.closing(sqlite3.connect(folder / "v1" / "cache.db")) as connection:
        settings = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert settings.get(key) != value


@pytest.mark.parametrize(
    "schema",
    [
        "DROP TABLE Cache",
        "DROP TABLE Settings",
        "ALTER TABLE Cache RENAME COLUMN mode TO manner",
        "ALTER TABLE Cache RENAME TO Other",
        "DROP TABLE Cache; CREATE VIEW Cache AS SELECT 1 AS key",
        "DROP TABLE Cache; CREATE TABLE Cache (x)",
        "CREATE TRIGGER t BEFORE INSERT ON Cache BEGIN SELECT raise(ABORT, 'no'); END",
        "CREATE TRIGGER t BEFORE UPDATE ON Cache BEGIN SELECT raise(ABORT, 'no'); END",
    ],
)
def test_another_schema_is_put_aside(folder: Path, schema: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "v1" / "cache.db")) as connection:
        connection.executescript(schema)
    run(folder)
    assert run(folder)[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"SQLite format 3\x00" + b"\xff" * 4080, b"\x00" * 8192],
    ids=["empty", "text", "header", "zeros"],
)
def test_a_file_that_is_no_database_is_put_aside(folder: Path, content: bytes) -> None:
    (folder / "v1" / "cache.db").write_bytes(content)
    run(folder)
    assert run(folder)[1:] == (True, [])


def test_one_damaged_cache_is_kept_and_no_more(folder: Path) -> None:
    for _ in range(3):
        (folder / "v1" / "cache.db").write_bytes(b"hello" * 100)
        _, _, troubles = run(folder)
        assert len(troubles) == 1, "one event, however often the cache is asked"
        assert "was damaged (SQLITE_NOTADB)" in troubles[0].why
        assert run(folder)[1]
        assert len(list(folder.glob("v1.bad-*"))) == 1


def link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def huge(path: Path, _target: Path) -> None:
    os.truncate(path, 10**12)


def pipe(path: Path, _target: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path, _target: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("act", [link, huge, pipe, directory])
def test_a_file_that_is_none_of_ours_is_not_even_opened(
    folder: Path, tmp_path: Path, act: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    act(folder / "v1" / "cache.db", target)
    assert run(folder)[0] == {}
    assert target.read_bytes() == b""
    assert run(folder)[1]


def test_damage_raises_where_somebody_asks_for_the_cache_itself(folder: Path) -> None:
    (folder / "v1" / "cache.db").write_bytes(b"hello" * 100)
    with pytest.raises(PutAside):
        Cache(folder).stats()
    (folder / "v1").mkdir()
    (folder / "v1" / "cache.db").write_bytes(b"hello" * 100)
    assert Cache(folder).clear() == 0
    assert list(folder.iterdir()) == []


def test_a_header_that_forbids_writing_is_damage(folder: Path) -> None:
    """SQLite then says "readonly", as of a file that another user owns; it stayed so for ever."""
    with (folder / "v1" / "cache.db").open("r+b") as file:
        file.seek(18)
        file.write(b"\x05")
    run(folder)
    assert run(folder)[1]


def test_what_sqlite_says_of_damage_is_not_repeated(folder: Path) -> None:
    change(folder, UPDATE.format("value = CAST(? AS TEXT)"), b"S3CRET \xff")
    _, _, troubles = run(folder)
    assert troubles
    assert "S3CRET" not in troubles[0].why
