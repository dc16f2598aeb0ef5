"""The file for node_exporter: whole at every moment, readable, and nothing beside it."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import require
from tokenctl.errors import CannotCreate, OutputFailed
from tokenctl.telemetry import textfile

ROOT = Path(__file__).parents[3]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_everyone_may_read_it_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    file = tmp_path / "t.prom"
    with umask(mask):
        textfile.write(file, "sö 1\n")
        textfile.write(file, "sö 2\n")
    assert file.read_text(encoding="utf-8") == "sö 2\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert names(tmp_path) == ["t.prom"]


def test_who_has_the_old_file_open_goes_on_reading_it(tmp_path: Path) -> None:
    file = tmp_path / "t.prom"
    textfile.write(file, "old")
    with file.open() as reader:
        textfile.write(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"


WRITING = """
import sys
from pathlib import Path
from tokenctl.telemetry import textfile

textfile.write(Path(sys.argv[1]), "x")
"""


def test_it_is_written_to_the_disk_and_then_renamed(tmp_path: Path) -> None:
    calls = "trace=openat,write,fchmod,fsync,rename,renameat,renameat2"
    argv = [require.tool("strace"), "-f", "-y", "-e", calls, sys.executable, "-c", WRITING, "t.prom"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path, env=env)
    about = [line for line in ran.stderr.splitlines() if "t.prom" in line]
    steps = [match.group() for line in about if (match := re.search(r"\b(openat|write|fchmod|fsync|rename)", line))]
    assert steps == ["openat", "write", "fchmod", "fsync", "rename"]
    temporary = re.search(r'"(?:[^"]*/)?(\.t\.prom-[^"/]+\.tmp)", [^"]*"t\.prom"', about[-1])
    assert temporary, about[-1]


def test_a_name_of_any_length(tmp_path: Path) -> None:
    for name in ("n" * 250 + ".prom", "日" * 83):  # 255 bytes and 249
        textfile.write(tmp_path / name, "x")
    assert len(names(tmp_path)) == 2


def test_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    for name in ("no/t.prom", "file/t.prom", "folder", "link", "pipe", "n" * 300):
        with pytest.raises(CannotCreate) as caught:
            textfile.write(tmp_path / name, "x")
        assert str(tmp_path / name) in caught.value.detail
        assert caught.value.hint
    assert names(tmp_path) == before


def test_devices_are_not_replaced() -> None:
    for name in ("/dev/null", "/dev/stdout"):
        with pytest.raises(CannotCreate):
            textfile.write(Path(name), "x")


@contextmanager
def no_file_longer_than(size_bytes: int) -> Iterator[None]:
    """As on a full disk, a write fails half way."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "t.prom"
    textfile.write(file, "old")
    with no_file_longer_than(10), pytest.raises(OutputFailed, match="too large"):
        textfile.write(file, "a new and longer one")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["t.prom"]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.prom"
    textfile.write(file, "old")

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        textfile.write(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["t.prom"]
