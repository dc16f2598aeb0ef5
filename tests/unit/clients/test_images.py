"""What image files say of themselves, and files that say it wrongly."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import JPEG_START, PNG_SIGNATURE, REAL, jpeg, png, segment, webp
from tokenctl.clients import images
from tokenctl.clients.images import NotAnImage, judge, measured, read
from tokenctl.errors import NoInput

VP8 = b"\0\0\0\x9d\x01\x2a"


@pytest.mark.parametrize("kind", REAL)
def test_what_encoders_write_is_measured(kind: str) -> None:
    found = measured(REAL[kind])
    assert (found.mime, found.width, found.height) == (f"image/{kind.split(maxsplit=1)[0]}", 7, 5)


@pytest.mark.parametrize("frame", [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCF])
def test_a_jpeg_is_measured_whatever_stands_before_its_frame(frame: int) -> None:
    before = segment(0xE1, bytes(65533)) + b"\xff\xff\xff" + segment(0xC4, b"\xff\xc0") + segment(0xFE, b"")
    found = measured(jpeg(4000, 3000, before=before, frame=frame))
    assert (found.width, found.height) == (4000, 3000)


def test_the_sizes_at_the_end_of_each_range_are_read() -> None:
    assert measured(png(2**31 - 1, 1)).width == 2**31 - 1
    assert measured(jpeg(65535, 65535)).height == 65535
    lossless = webp(b"VP8L", b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little"))
    assert (measured(lossless).width, measured(lossless).height) == (16384, 16384)
    extended = measured(webp(b"VP8X", bytes(4) + b"\xff\xff\xff\0\0\x80"))
    assert (extended.width, extended.height) == (2**24, 2**23 + 1)
    # The two highest bits of a lossy size say how it is to be scaled.
    assert measured(webp(b"VP8 ", VP8 + struct.pack("<HH", 0xC00A, 0x4014))).width == 10


BROKEN = {
    "nothing": (b"", "is empty"),
    "text": (b"hello, world", "of another kind"),
    "gif": (b"GIF89a" + bytes(20), "is a GIF"),
    "svg": (b"<svg xmlns=''>" + bytes(20), "is an SVG"),
    "png: only the signature": (PNG_SIGNATURE, "in the middle"),
    "png: cut in the header": (png(9, 9)[:32], "in the middle"),
    "png: no IHDR first": (png(9, 9).replace(b"IHDR", b"iHDR"), "does not begin with its size"),
    "png: wrong chunk length": (png(9, 9).replace(b"\x0dIHDR", b"\x0eIHDR"), "does not begin with its size"),
    "png: another size than its checksum's": (png(9, 9).replace(b"\0\0\0\x09", b"\0\0\0\x0a"), "damaged"),
    "png: no width": (png(0, 9), "no pixels"),
    "png: beyond the format": (png(2**31, 1), "impossible size"),
    "jpeg: only the start": (JPEG_START + b"\xff", "in the middle"),
    "jpeg: cut in the frame": (jpeg(9, 9)[:12], "in the middle"),
    "jpeg: ends at once": (JPEG_START + b"\xff\xd9", "before its pixels"),
    "jpeg: pixels without a frame": (JPEG_START + segment(0xDA, bytes(10)), "before its pixels"),
    "jpeg: starts twice": (JPEG_START + JPEG_START, "before its pixels"),
    "jpeg: a restart outside the pixels": (JPEG_START + b"\xff\xd3", "before its pixels"),
    "jpeg: a stuffed byte": (JPEG_START + b"\xff\x00", "before its pixels"),
    "jpeg: garbage between segments": (JPEG_START + segment(0xE0, b"x") + b"garbage", "do not follow each other"),
    "jpeg: a length that points back": (JPEG_START + b"\xff\xe0\0\0" + jpeg(9, 9), "impossible length"),
    "jpeg: a length beyond the end": (JPEG_START + b"\xff\xe0\xff\xff" + jpeg(9, 9), "in the middle"),
    "jpeg: a frame too short": (JPEG_START + segment(0xC0, b"\x08\0\x09\0\x09"), "frame is damaged"),
    "jpeg: components that are not there": (JPEG_START + segment(0xC0, b"\x08\0\x09\0\x09\xff"), "frame is damaged"),
    "jpeg: its height comes later": (jpeg(9, 0), "no pixels"),
    "jpeg: a table in place of a frame": (JPEG_START + segment(0xC4, bytes(17)), "in the middle"),
    "jpeg: endless small segments": (JPEG_START + segment(0xE0, b"") * 1_001, "more than 1000 segments"),
    "jpeg: endless filling": (JPEG_START + b"\xff" * 100_000, "more than 1000 segments"),
    "webp: only the name": (webp(b"VP8X", b"")[:12], "cut off"),
    "webp: cut off": (webp(b"VP8 ", VP8 + bytes(100))[:60], "cut off"),
    "webp: longer than the file": (webp(b"VP8 ", VP8 + bytes(4), riff_bytes=1000), "cut off"),
    "webp: a length of zero": (webp(b"VP8 ", VP8 + b"\x09\0\x09\0", riff_bytes=0), "impossible length"),
    "webp: a chunk beyond its end": (webp(b"VP8 ", VP8 + bytes(4), chunk_bytes=2**32 - 1), "impossible length"),
    "webp: an unknown chunk first": (webp(b"ICCP", bytes(20)), "header is damaged"),
    "webp: a short extended header": (webp(b"VP8X", bytes(9)), "header is damaged"),
    "webp: no start code": (webp(b"VP8 ", bytes(10)), "header is damaged"),
    "webp: needs an earlier frame": (webp(b"VP8 ", b"\x01\0\0\x9d\x01\x2a\x09\0\x09\0"), "header is damaged"),
    "webp: no pixels": (webp(b"VP8 ", VP8 + bytes(4)), "no pixels"),
    "webp: no lossless mark": (webp(b"VP8L", bytes(5)), "header is damaged"),
    "webp: a later lossless version": (webp(b"VP8L", b"\x2f\0\0\0\x20"), "header is damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_header_is_refused_with_its_reason(name: str) -> None:
    content, why = BROKEN[name]
    with pytest.raises(NotAnImage, match=why):
        measured(content)


@given(st.sampled_from([b"", PNG_SIGNATURE, JPEG_START, b"RIFF", *REAL.values()]), st.binary(max_size=300))
def test_any_bytes_are_measured_or_refused(begin: bytes, rest: bytes) -> None:
    _measured_or_refused(begin + rest)


@given(st.sampled_from(sorted(REAL)), st.data())
def test_any_damage_to_a_real_image_is_measured_or_refused(kind: str, data: st.DataObject) -> None:
    content = bytearray(REAL[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    _measured_or_refused(bytes(content[: data.draw(st.integers(0, len(content)))]))


def _measured_or_refused(content: bytes) -> None:
    try:
        found = measured(content)
    except NotAnImage:
        return
    assert found.width > 0
    assert found.height > 0
    assert found.mime in {"image/png", "image/jpeg", "image/webp"}


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_a_png_is_measured_exactly_whatever_its_size(width: int, height: int) -> None:
    found = measured(png(width, height))
    assert (found.width, found.height) == (width, height)


def test_a_file_is_judged_by_what_it_holds_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(REAL["jpeg"])
    found = judge(path)
    assert (found.mime, found.width, found.height, found.size_bytes) == ("image/jpeg", 7, 5, len(REAL["jpeg"]))
    assert read(found) == REAL["jpeg"]


def test_a_link_to_an_image_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(REAL["png"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read(judge(tmp_path / "link")) == REAL["png"]


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("pipe", "socket", "."):
            with pytest.raises(NotAnImage, match="not a regular file"):
                judge(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("link", "device"):
        with pytest.raises(NotAnImage, match="not a regular file"):
            judge(tmp_path / name)


def test_fifty_million_pixels_are_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(10_000, 5_000))
    assert judge(path).width == 10_000
    path.write_bytes(png(10_000, 5_001))
    with pytest.raises(NotAnImage, match="10000 x 5001 pixels"):
        judge(path)


def test_a_file_larger_than_all_may_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(REAL["png"])
    os.truncate(path, images.MAX_BYTES)
    assert judge(path).size_bytes == images.MAX_BYTES
    os.truncate(path, images.MAX_BYTES + 1)
    with pytest.raises(NotAnImage, match="70,000,001 bytes"):
        judge(path)


@pytest.mark.parametrize("change", ["content", "longer", "shorter", "gone", "pipe"])
def test_a_file_that_was_changed_after_it_was_judged_is_not_sent(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(9, 9, pixels=b"one"))
    found = judge(path)
    path.unlink()
    if change == "pipe":
        os.mkfifo(path)
    elif change != "gone":
        pixels = {"content": b"two", "longer": b"more", "shorter": b"on"}[change]
        path.write_bytes(png(9, 9, pixels=pixels))
    with pytest.raises(NoInput, match=r"a\.png"):
        read(found)
