"""What an image file says of itself, read from its header and never decoded.

Whatever the bytes are, measuring takes little time and memory: it reads a few bytes of
each of at most `_MOST_SEGMENTS` segments.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tokenctl.clients.generation import InputImage
from tokenctl.errors import NoInput

#: What one input may have, in pixels, and what all may have together, in bytes as they are on the disk.
MAX_PIXELS = 50_000_000
MAX_BYTES = 70_000_000

# A large photograph has some dozen segments before its size, most of them a colour profile.
_MOST_SEGMENTS = 1_000
_PNG = b"\x89PNG\r\n\x1a\n"
_OTHERS = {b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"<svg": "an SVG"}
# Frames by which a JPEG says its size; C4, C8 and CC in between are tables and reserved.
_SIZE_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_RESTARTS = frozenset(range(0xD0, 0xD8))
_BARE = 0x01  # a marker without a segment that no encoder writes


class NotAnImage(ValueError):  # noqa: N818 — it says more than a suffix Error
    """The bytes are no image that can be used; the text is a sentence's end that says why."""


@dataclass(frozen=True)
class Measured:
    """What a header says: the kind, and the size in pixels."""

    mime: str
    width: int
    height: int


def measure(file: BinaryIO) -> Measured:
    """What the image in `file`, which can seek, says of itself. Raises NotAnImage."""
    head = file.read(12)
    if not head:
        raise NotAnImage("is empty")
    if head.startswith(_PNG):
        found = Measured("image/png", *_png(file))
    elif head.startswith(b"\xff\xd8\xff"):
        found = Measured("image/jpeg", *_jpeg(file))
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        found = Measured("image/webp", *_webp(file, int.from_bytes(head[4:8], "little")))
    else:
        kind = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "of another kind")
        raise NotAnImage(f"is {kind}; PNG, JPEG and WebP can be used")
    if not found.width or not found.height:
        raise NotAnImage("says that it has no pixels")
    return found


def measured(content: bytes) -> Measured:
    """The same of an image in memory."""
    return measure(io.BytesIO(content))


def judge(path: Path) -> InputImage:
    """The image at `path`, if it may be sent. Raises NotAnImage or OSError.

    Links are followed, and only regular files are opened: a pipe would wait for ever.
    """
    with _opened(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > MAX_BYTES:
            raise NotAnImage(f"has {size_bytes:,} bytes; all images together may have {MAX_BYTES:,}")
        found = measure(file)
        if found.width * found.height > MAX_PIXELS:
            raise NotAnImage(f"has {found.width} x {found.height} pixels; at most {MAX_PIXELS:,} can be sent")
        file.seek(0)
        digest = hashlib.sha256(_whole(file, size_bytes)).hexdigest()
    return InputImage(path, found.mime, found.width, found.height, size_bytes, digest)


def read(image: InputImage) -> bytes:
    """The bytes of an image that was judged. Raises NoInput when they are not the same any more."""
    try:
        with _opened(image.path) as file:
            content = _whole(file, image.size_bytes)
    except (OSError, NotAnImage) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NoInput(f"{image.path} cannot be read any more: {why}") from error
    if hashlib.sha256(content).hexdigest() != image.sha256:
        raise NoInput(f"{image.path} was changed while it was to be sent", hint="start again")
    return content


def _opened(path: Path) -> BinaryIO:
    # Asked before it is opened, because to open a device can do something, and again afterwards.
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotAnImage("is not a regular file")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotAnImage("is not a regular file")
    return file


def _whole(file: BinaryIO, size_bytes: int) -> bytes:
    content = file.read(size_bytes + 1)
    if len(content) != size_bytes:
        raise NotAnImage("changed while it was read")
    return content


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on."""
    file.seek(offset)
    found = file.read(size)
    if len(found) < size:
        raise NotAnImage("ends in the middle of its header")
    return found


def _png(file: BinaryIO) -> tuple[int, int]:
    """The first chunk has to be IHDR: 4 bytes of length, the name, 13 bytes, a checksum over name and bytes."""
    chunk = _at(file, len(_PNG), 25)
    if chunk[:8] != b"\0\0\0\x0dIHDR":
        raise NotAnImage("is a PNG that does not begin with its size")
    if zlib.crc32(chunk[4:21]) != int.from_bytes(chunk[21:], "big"):
        raise NotAnImage("is a PNG whose header is damaged")
    width, height = int.from_bytes(chunk[8:12], "big"), int.from_bytes(chunk[12:16], "big")
    if max(width, height) >= 2**31:
        raise NotAnImage("is a PNG with an impossible size")
    return width, height


def _jpeg(file: BinaryIO) -> tuple[int, int]:
    """Segments, each with its own length, up to the frame that has the size."""
    offset = 2
    for _ in range(_MOST_SEGMENTS):
        mark, marker = _at(file, offset, 2)
        if mark != 0xFF:
            raise NotAnImage("is a JPEG whose segments do not follow each other")
        if marker == 0xFF:  # any number of them may fill up the space before a marker
            offset += 1
            continue
        if marker in _RESTARTS or marker in (0x00, _BARE, _START, _END, _SCAN):
            raise NotAnImage("is a JPEG that does not say its size before its pixels")
        length = int.from_bytes(_at(file, offset + 2, 2), "big")
        if length < 2:
            raise NotAnImage("is a JPEG with a segment of an impossible length")
        if marker in _SIZE_FRAMES:
            return _frame_size(_at(file, offset + 4, length - 2))
        offset += 2 + length
    raise NotAnImage(f"is a JPEG with more than {_MOST_SEGMENTS} segments before its size")


def _frame_size(frame: bytes) -> tuple[int, int]:
    """One byte of precision, height, width, the number of components, and 3 bytes for each."""
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5]:
        raise NotAnImage("is a JPEG whose frame is damaged")
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def _webp(file: BinaryIO, riff_bytes: int) -> tuple[int, int]:
    """The first chunk says which of the three forms it is; RIFF's own length counts from its ninth byte."""
    if riff_bytes + 8 > file.seek(0, os.SEEK_END):
        raise NotAnImage("is a WebP that was cut off")
    name, size = (chunk := _at(file, 12, 8))[:4], int.from_bytes(chunk[4:], "little")
    if 12 + size > riff_bytes:
        raise NotAnImage("is a WebP with a chunk of an impossible length")
    if name == b"VP8X" and size == 10:
        data = _at(file, 20, 10)
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if name == b"VP8L" and size >= 5:
        data = _at(file, 20, 5)
        bits = int.from_bytes(data[1:], "little")
        if data[0] == 0x2F and bits >> 29 == 0:
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 " and size >= 10:
        data = _at(file, 20, 10)
        if data[3:6] == b"\x9d\x01\x2a" and not data[0] & 1:  # the lowest bit says that it needs an earlier frame
            return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    raise NotAnImage("is a WebP whose header is damaged")
