"""Opening files and standard input: only what can be read twice, and nothing is left behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pty
import random
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.grantfile.opened import MAX_BYTES, MAX_RATIO
from tokenctl.errors import BadData, CannotCreate, NoInput, UsageError
from tokenctl.grantfile.source import LINE_BYTES, PIECE_BYTES, Lines, Source, open_source

TEXT = b"".join(b"line %d\n" % number for number in range(20_000))


def _open(path: str, folder: Path, *, stdin: bytes = b"", max_bytes: int = MAX_BYTES) -> Source:
    return open_source(path, stdin=io.BytesIO(stdin), spool_dir=folder, max_bytes=max_bytes, max_ratio=MAX_RATIO)


@contextmanager
def _file_size_limit(limit: int) -> Iterator[None]:
    """Make the disk seem full after `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("content", [b"", b"a\nb", TEXT], ids=["empty", "cut", "long"])
@pytest.mark.parametrize("way", ["file", "gzip", "stdin", "gzip-stdin"])
def test_facts_are_those_of_the_decompressed_content(content: bytes, way: str, tmp_path: Path) -> None:
    stored = gzip.compress(content) if "gzip" in way else content
    (tmp_path / "grants.csv").write_bytes(stored)
    path = "-" if "stdin" in way else str(tmp_path / "grants.csv")
    with _open(path, tmp_path, stdin=stored) as source:
        assert (source.size, source.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert source.gzip == ("gzip" in way)
        assert source.ends_with_newline == content.endswith(b"\n")
        assert source.name == path
        assert source.path == (None if "stdin" in way else tmp_path / "grants.csv")
        for _ in range(2):
            assert b"".join(source.pieces()) == content


def test_lines_have_their_numbers_and_offsets(tmp_path: Path) -> None:
    with _open("-", tmp_path, stdin=TEXT + b"last") as source:
        blocks = list(source.lines())
    assert len(blocks) > 2
    assert b"".join(block.data for block in blocks) == TEXT + b"last\n"
    for block in blocks:
        assert block.data.endswith(b"\n")
        assert TEXT[: block.offset].count(b"\n") == block.first - 1
        assert (TEXT + b"last\n")[block.offset :].startswith(block.data)


@pytest.mark.parametrize("before", [b"", b"a\n", b"b" * (PIECE_BYTES - 10) + b"\n"])
def test_the_longest_line_and_one_byte_more(before: bytes, tmp_path: Path) -> None:
    longest = before + b"x" * LINE_BYTES + b"\n"
    with _open("-", tmp_path, stdin=longest) as source:
        assert b"".join(block.data for block in source.lines()) == longest
    message = rf"^-:{before.count(10) + 1}: the line has more than 65,536 bytes"
    too_long = before + b"x" + longest[len(before) :]
    with _open("-", tmp_path, stdin=too_long) as source, pytest.raises(BadData, match=message):
        list(source.lines())


def test_a_file_without_lines_is_not_kept_in_memory(tmp_path: Path) -> None:
    with (
        _open("-", tmp_path, stdin=b"x" * (5 * LINE_BYTES)) as source,
        pytest.raises(BadData, match=r"^-:1: the line has more than 65,536 bytes"),
    ):
        list(source.lines())


def test_no_lines_in_an_empty_file(tmp_path: Path) -> None:
    with _open("-", tmp_path) as source:
        assert list(source.lines()) == []


def test_one_line_without_newline(tmp_path: Path) -> None:
    with _open("-", tmp_path, stdin=b"abc") as source:
        assert list(source.lines()) == [Lines(1, 0, b"abc\n")]


@pytest.mark.parametrize("change", [b"a\nB\n", b"a\nb\nc\n", b"a\n", b""], ids=["edited", "grown", "cut", "emptied"])
def test_a_change_between_two_passes_is_noticed(change: bytes, tmp_path: Path) -> None:
    file = tmp_path / "grants.csv"
    file.write_bytes(b"a\nb\n")
    with _open(str(file), tmp_path) as source:
        file.write_bytes(change)
        with pytest.raises(NoInput, match=r"grants\.csv: changed while it was read"):
            list(source.pieces())


@pytest.mark.parametrize("size", [len(TEXT) - 1, len(TEXT) + 1])
def test_a_change_during_the_first_pass_is_noticed(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "grants.csv"
    file.write_bytes(TEXT)
    read = os.pread

    def read_and_change(descriptor: int, count: int, offset: int) -> bytes:
        found = read(descriptor, count, offset)
        os.truncate(file, size)
        return found

    monkeypatch.setattr(os, "pread", read_and_change)
    with pytest.raises(NoInput, match="changed while it was read"):
        _open(str(file), tmp_path)


def test_a_file_that_never_stops_growing_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "grants.csv"
    file.write_bytes(b"a\n")
    reads = iter([b"a\n"] * 5)
    monkeypatch.setattr(os, "pread", lambda *_: next(reads))
    with pytest.raises(NoInput, match="changed while it was read"):
        _open(str(file), tmp_path)


def test_a_file_that_takes_the_name_meanwhile_is_not_read(tmp_path: Path) -> None:
    file, other = tmp_path / "grants.csv", tmp_path / "other.csv"
    file.write_bytes(b"a\n")
    with _open(str(file), tmp_path) as source:
        other.write_bytes(b"b\n")
        other.replace(file)
        assert list(source.pieces()) == [b"a\n"]


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NoInput, match=r"grants\.csv: cannot be opened: Permission denied"):
        _open("grants.csv", tmp_path)


def test_a_file_that_fails_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "grants.csv").write_bytes(b"a\n")
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(NoInput, match="cannot be read: Input/output error"):
        _open(str(tmp_path / "grants.csv"), tmp_path)


def test_a_name_with_a_nul_is_no_file_name(tmp_path: Path) -> None:
    with pytest.raises(NoInput, match=r"^a\\x00b: is no file name"):
        _open("a\0b", tmp_path)


def test_a_name_cannot_move_the_cursor(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J.csv").write_bytes(b"a\n")
    with _open(str(tmp_path / "a\x1b[2J.csv"), tmp_path) as source:
        assert source.name == f"{tmp_path}/a\\x1b[2J.csv"
        assert source.path is not None
        assert source.path.name == "a\x1b[2J.csv"


@pytest.mark.parametrize("way", ["file", "gzip", "stdin", "gzip-stdin"])
def test_the_size_is_limited(way: str, tmp_path: Path) -> None:
    stored = gzip.compress(TEXT) if "gzip" in way else TEXT
    (tmp_path / "grants.csv").write_bytes(stored)
    path = "-" if "stdin" in way else str(tmp_path / "grants.csv")
    _open(path, tmp_path, stdin=stored, max_bytes=len(TEXT)).close()
    with pytest.raises(BadData, match=f"has more than {len(TEXT) - 1:,} bytes"):
        _open(path, tmp_path, stdin=stored, max_bytes=len(TEXT) - 1)


def test_an_endless_stream_is_not_spooled_to_its_end(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return b"x" * size

    stdin = Endless()
    with pytest.raises(BadData, match=r"^-: has more than"):
        # It is only read from, so it need not be a whole stream.
        open_source("-", stdin=stdin, spool_dir=tmp_path, max_bytes=10 * PIECE_BYTES, max_ratio=1)  # type: ignore[arg-type]
    assert stdin.given == 11 * PIECE_BYTES


def test_the_spool_is_private_and_has_no_name(tmp_path: Path) -> None:
    with _open("-", tmp_path, stdin=b"a\n") as source:
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(source.handle.fileno()).st_mode & 0o777 == 0o600
        assert os.fstat(source.handle.fileno()).st_dev == tmp_path.stat().st_dev


def test_closing_twice_is_fine_and_the_file_is_closed(tmp_path: Path) -> None:
    with _open("-", tmp_path, stdin=b"a\n") as source:
        pass
    source.close()
    assert source.handle.closed


def test_nowhere_to_spool(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match=r"gone: standard input cannot be kept there: No such file"):
        _open("-", tmp_path / "gone", stdin=b"a\n")


def test_a_full_disk_while_spooling(tmp_path: Path) -> None:
    with _file_size_limit(PIECE_BYTES + 10), pytest.raises(CannotCreate, match="does not fit there: File too large"):
        _open("-", tmp_path, stdin=TEXT)


def test_a_terminal_is_not_waited_for(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb"), os.fdopen(follower, "rb") as stdin, pytest.raises(UsageError, match="terminal"):
        open_source("-", stdin=stdin, spool_dir=tmp_path, max_bytes=MAX_BYTES, max_ratio=MAX_RATIO)


def test_closed_standard_input(tmp_path: Path) -> None:
    stdin = io.BytesIO()
    stdin.close()
    with pytest.raises(NoInput, match="standard input cannot be read"):
        open_source("-", stdin=stdin, spool_dir=tmp_path, max_bytes=MAX_BYTES, max_ratio=MAX_RATIO)


def test_standard_input_that_is_a_directory(tmp_path: Path) -> None:
    class Directory(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(NoInput, match=r"standard input cannot be read: .*Is a directory"):
        open_source("-", stdin=Directory(), spool_dir=tmp_path, max_bytes=MAX_BYTES, max_ratio=MAX_RATIO)


def test_a_pause_in_a_non_blocking_pipe_is_not_its_end(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as stream:
            for start in range(0, len(TEXT), 1000):
                stream.write(TEXT[start : start + 1000])

    thread = threading.Thread(target=write)
    with os.fdopen(reader, "rb") as stdin:
        # The first read comes before anything is written.
        timer = threading.Timer(0.05, thread.start)
        timer.start()
        with open_source("-", stdin=stdin, spool_dir=tmp_path, max_bytes=MAX_BYTES, max_ratio=1) as source:
            assert source.sha256 == hashlib.sha256(TEXT).hexdigest()
        timer.join()
        thread.join()


def test_a_compressed_file_is_judged_at_its_opening_as_it_is_later(tmp_path: Path) -> None:
    """As a whole it is within the ratio; where it grows most it is not."""
    noise = random.Random(1).randbytes(250_000)  # noqa: S311 — no secret
    (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"\n" * 20_000_000 + noise))
    with pytest.raises(BadData, match=f"more than {MAX_RATIO} times its size"):
        _open(str(tmp_path / "g.csv.gz"), tmp_path)
