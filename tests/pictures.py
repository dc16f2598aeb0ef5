"""Image files for tests: small ones that an encoder made, and headers of any size, whole or broken."""

from __future__ import annotations

import base64
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
#: 7 x 5 pixels each, as libpng, libjpeg and libwebp write them.
REAL = {
    "png": base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAAAAACs8akEAAAADElEQVR4nGNgIA4AAAAoAAE1VHKEAAAAAElFTkSuQmCC"
    ),
    "jpeg": base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////"
        "////////////wAALCAAFAAcBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQR"
        "BRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4"
        "eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEB"
        "AAA/AI6//9k="
    ),
    "webp lossy": base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoHAAUADMDOJaQAA3AA/uxnAAA="),
    "webp lossless": base64.b64decode("UklGRhoAAABXRUJQVlA4TA4AAAAvBgABAAcQEf0PRET/Aw=="),
    "webp extended": base64.b64decode(
        "UklGRkIAAABXRUJQVlA4WAoAAAAgAAAABgAABAAASUNDUAMAAABpY2MAVlA4IBgAAAAwAQCdASoHAAUAAUAmJaQAA3AA/v02aAA="
    ),
}


def png(width: int, height: int, *, pixels: bytes = b"") -> bytes:
    """A PNG of that size by its header; `pixels` makes it longer."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int, *, before: bytes = b"", frame: int = 0xC0) -> bytes:
    """A JPEG of that size by its header, with `before` in front of the frame."""
    size = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    return JPEG_START + before + segment(frame, size) + segment(0xDA, bytes(10)) + b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def webp(name: bytes, content: bytes, *, riff_bytes: int | None = None, chunk_bytes: int | None = None) -> bytes:
    """A WebP with one chunk; the lengths are the right ones unless given."""
    chunk = name + struct.pack("<I", len(content) if chunk_bytes is None else chunk_bytes) + content
    length = 4 + len(chunk) if riff_bytes is None else riff_bytes
    return b"RIFF" + struct.pack("<I", length) + b"WEBP" + chunk


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
