"""Where the bytes of a grant file come from: a regular file or standard input, gzip or not.

A file is opened once and read with pread, so both passes see the same file even when
its name is given to another one meanwhile. The first pass, in open_source, gives
digest and size; every later one is compared with it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import select
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from tokenctl import commandline
from tokenctl.errors import BadData, CannotCreate, NoInput, UsageError
from tokenctl.grantfile import inflate
from tokenctl.grantfile.display import clean

#: The most that is read or decompressed at a time. What a block is made into stays in
#: the processor's cache; with 256 KiB the check took a third longer.
PIECE_BYTES = 1 << 16
#: As much at a time when the bytes are only counted. Before and after each piece a thread may be waited for
#: that loads modules meanwhile: with 64 KiB nothing was gained by reading beside it.
MEASURED_BYTES = 1 << 20
#: The longest line, without its newline. No good row comes near it.
LINE_BYTES = PIECE_BYTES
#: Decompressed bytes of a file that are read at most, and how far gzip may inflate.
MAX_BYTES = 64 * 1024**3
MAX_RATIO = 200


class Lines(NamedTuple):
    """Some whole lines: the number of the first, its offset in the content, and their bytes."""

    first: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Source:
    """An opened grant file. Close it, or use it in a with statement.

    `name` is what messages call it ("-" is standard input, whose `path` is None). `size`
    (bytes), `line_count` (newlines) and `sha256` (hex) are of the decompressed content; `raw_size` is what is stored.
    """

    name: str
    path: Path | None
    size: int
    line_count: int
    sha256: str
    gzip: bool
    ends_with_newline: bool
    raw_size: int
    max_ratio: int
    handle: io.FileIO

    def pieces(self) -> Iterator[bytes]:
        """Yield the decompressed content from its start; NoInput when it isn't what it was before."""
        digest = hashlib.sha256()
        max_ratio = self.max_ratio if self.gzip else None
        for piece in _content(self.handle, self.name, self.raw_size, max_ratio, PIECE_BYTES):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != self.sha256:
            raise _changed(self.name)

    def lines(self) -> Iterator[Lines]:
        """Yield the content in blocks of whole lines; a last line without newline gets one.

        Raises BadData for a line of more than LINE_BYTES.
        """
        first, offset, tail = 1, 0, b""
        for piece in self.pieces():
            cut = piece.rfind(b"\n") + 1
            data, rest = tail + piece[:cut], piece[cut:]
            # Only a line that began in an earlier piece can be too long; others fit in one.
            if (data.find(b"\n") if cut else len(data) + len(rest)) > LINE_BYTES:
                raise _long_line(self.name, first)
            if not cut:
                tail = data + rest
                continue
            yield Lines(first, offset, data)
            first += data.count(b"\n")
            offset += len(data)
            tail = rest
        if tail:
            yield Lines(first, offset, tail + b"\n")

    def close(self) -> None:
        """Close the file; a spool file is gone with that."""
        self.handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(path: str) -> Source:
    """Open a grant file, or standard input for "-", within the usual bounds. Raises as `open_source` does."""
    spool_dir = Path(tempfile.gettempdir())
    return open_source(path, stdin=sys.stdin.buffer, spool_dir=spool_dir, max_bytes=MAX_BYTES, max_ratio=MAX_RATIO)


def open_source(path: str, *, stdin: BinaryIO, spool_dir: Path, max_bytes: int, max_ratio: int) -> Source:
    """Open the file `path`, or standard input for "-", and read it once.

    Standard input is copied to a file without a name in `spool_dir` (mode 0600), so that
    nothing is left behind however the process ends. `max_bytes` bounds the decompressed
    content, `max_ratio` how far gzip may grow. Raises NoInput for what can't be read or is
    no regular file, BadData for what is too large or damaged, CannotCreate when the spool
    can't be made, UsageError when standard input is a terminal.
    """
    name = clean(path) or "''"
    handle = _spool(stdin, spool_dir, max_bytes) if path == "-" else _open_regular(path, name)
    try:
        return _measure(handle, name, None if path == "-" else Path(path), max_bytes, max_ratio)
    except BaseException:
        handle.close()
        raise


def _measure(handle: io.FileIO, name: str, path: Path | None, max_bytes: int, max_ratio: int) -> Source:
    """Read everything once."""
    raw_size = os.fstat(handle.fileno()).st_size
    is_gzip = _read(handle, name, 0, len(inflate.MAGIC)) == inflate.MAGIC
    digest = hashlib.sha256()
    size, line_count, last = 0, 0, b""
    # The ratio of what is compressed is judged piece by piece, alike in every pass.
    pieces = (
        _content(handle, name, raw_size, max_ratio, PIECE_BYTES)
        if is_gzip
        else _content(handle, name, raw_size, None, MEASURED_BYTES)
    )
    for piece in pieces:
        size += len(piece)
        line_count += piece.count(b"\n")
        if size > max_bytes:
            raise _too_large(name, max_bytes)
        digest.update(piece)
        last = piece
    return Source(
        name=name, path=path, size=size, line_count=line_count, sha256=digest.hexdigest(), gzip=is_gzip,
        ends_with_newline=last.endswith(b"\n"), raw_size=raw_size, max_ratio=max_ratio, handle=handle,
    )  # fmt: skip


def _content(handle: io.FileIO, name: str, raw_size: int, max_ratio: int | None, piece_bytes: int) -> Iterator[bytes]:
    """Yield the content; `max_ratio` is None for a file that isn't compressed."""
    raw = _raw(handle, name, raw_size, piece_bytes)
    if max_ratio is None:
        return raw
    return inflate.inflate(raw, name=name, piece_bytes=piece_bytes, max_ratio=max_ratio)


def _raw(handle: io.FileIO, name: str, raw_size: int, piece_bytes: int) -> Iterator[bytes]:
    """Yield the stored bytes; NoInput when they are more or fewer than `raw_size`."""
    offset = 0
    while piece := _read(handle, name, offset, piece_bytes):
        offset += len(piece)
        if raw_size == 0:
            raise NoInput(
                f"{name}: says that it is empty and has content: not a regular file",
                hint=f"feed it through standard input: cat {name} | {commandline.line('batch-import', '-')}",
            )
        if offset > raw_size:
            raise _changed(name)
        yield piece
    if offset != raw_size:
        raise _changed(name)


def _read(handle: io.FileIO, name: str, offset: int, count: int) -> bytes:
    try:
        return os.pread(handle.fileno(), count, offset)
    except OSError as error:
        raise NoInput(f"{name}: cannot be read: {error.strerror}") from error


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _open_regular(path: str, name: str) -> io.FileIO:
    """Open a regular file; with O_NONBLOCK, because opening a pipe would wait for its writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:
        raise NoInput(f"{name}: is no file name: it has a NUL in it") from error
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _not_regular(name, "a socket") from error
        raise NoInput(f"{name}: cannot be opened: {error.strerror}") from error
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise _not_regular(name, _KINDS.get(kind, "something else"))
    return io.FileIO(descriptor)


def _not_regular(name: str, kind: str) -> NoInput:
    hint = "name a file in it" if kind == "a directory" else f"feed it through standard input: - <{name}"
    return NoInput(f"{name}: is {kind}, not a regular file", hint=hint)


def _spool(stdin: BinaryIO, folder: Path, max_bytes: int) -> io.FileIO:
    """Copy standard input to a nameless file (0600), so that it can be read more than once."""
    if _is_terminal(stdin):
        raise UsageError(
            "- reads standard input, and that is the terminal",
            hint=f"name the file, or redirect it: {commandline.line('batch-import', '-')} <FILE",
        )
    try:
        handle = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 — the Source closes it
    except OSError as error:
        raise CannotCreate(f"{folder}: standard input cannot be kept there: {error.strerror}") from error
    try:
        copied = 0
        while (piece := _next_piece(stdin)) != b"":
            copied += len(piece)
            if copied > max_bytes:
                raise _too_large("-", max_bytes)
            _write(handle, piece, folder)
    except BaseException:
        handle.close()
        raise
    return handle


def _is_terminal(stdin: BinaryIO) -> bool:
    try:
        return stdin.isatty()
    except ValueError as error:  # it is closed
        raise NoInput(f"-: standard input cannot be read: {error}") from error


def _next_piece(stdin: BinaryIO) -> bytes:
    """Wait for some input; b"" is its end."""
    # A program that shares this pipe may have made it non-blocking. Then `read` says
    # None for "nothing yet", which must not be taken for the end.
    read: Callable[[int], bytes | None] = stdin.read
    try:
        while (piece := read(PIECE_BYTES)) is None:
            select.select([stdin], [], [])
    except (OSError, ValueError) as error:
        raise NoInput(f"-: standard input cannot be read: {error}") from error
    return piece


def _write(handle: io.FileIO, piece: bytes, folder: Path) -> None:
    try:
        while piece:
            piece = piece[handle.write(piece) :]
    except OSError as error:
        raise CannotCreate(f"{folder}: standard input does not fit there: {error.strerror}") from error


def _too_large(name: str, max_bytes: int) -> BadData:
    return BadData(f"{name}: has more than {max_bytes:,} bytes", hint="split it into several files")


def _long_line(name: str, line: int) -> BadData:
    return BadData(
        f"{name}:{line}: the line has more than {LINE_BYTES:,} bytes",
        hint="a grant fits in 2,000; is this a list of grants, one a line?",
    )


def _changed(name: str) -> NoInput:
    return NoInput(f"{name}: changed while it was read", hint="wait until it is written, then run this again")
