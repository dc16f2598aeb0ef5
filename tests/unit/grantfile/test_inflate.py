"""Decompressing gzip: any cut into pieces gives the same, and nothing grows without bound."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import pytest

from tokenctl.errors import BadData
from tokenctl.grantfile.inflate import RATIO_FREE_BYTES, inflate

CONTENT = os.urandom(3000) + bytes(50_000) + b"end"


def _pieces(stored: bytes, size: int) -> Iterator[bytes]:
    return (stored[start : start + size] for start in range(0, len(stored), size))


def _inflate(stored: bytes, *, size: int = 1000, piece_bytes: int = 4096, max_ratio: int = 200) -> list[bytes]:
    return list(inflate(_pieces(stored, size), name="a.gz", piece_bytes=piece_bytes, max_ratio=max_ratio))


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("piece_bytes", [1, 100, 1 << 16])
def test_every_cut_gives_the_same(size: int, piece_bytes: int) -> None:
    stored = gzip.compress(CONTENT) + gzip.compress(b"") + gzip.compress(b"more")
    pieces = _inflate(stored, size=size, piece_bytes=piece_bytes)
    assert b"".join(pieces) == CONTENT + b"more"
    assert max(map(len, pieces)) <= piece_bytes


@pytest.mark.parametrize("kept", [1, 2, 10, 11, 500, -9, -8, -1])
def test_a_cut_file_is_told(kept: int) -> None:
    with pytest.raises(BadData, match=r"^a\.gz: the gzip data is cut off"):
        _inflate(gzip.compress(CONTENT)[:kept])


def test_a_cut_second_member_is_told() -> None:
    with pytest.raises(BadData, match="cut off"):
        _inflate(gzip.compress(CONTENT) + gzip.compress(CONTENT)[:5])


@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 512, b"u1,5,test\n"])
def test_bytes_behind_the_end_are_told(garbage: bytes) -> None:
    with pytest.raises(BadData, match="other bytes follow the end of the gzip data"):
        _inflate(gzip.compress(CONTENT) + garbage)


@pytest.mark.parametrize("at", [5000 - 4, -8, -4], ids=["data", "checksum", "length"])
def test_a_flipped_bit_is_told(at: int) -> None:
    stored = bytearray(gzip.compress(os.urandom(6000)))
    stored[at] ^= 1
    with pytest.raises(BadData, match="the gzip data is damaged"):
        _inflate(bytes(stored))


def test_a_small_file_may_repeat_itself() -> None:
    content = bytes(RATIO_FREE_BYTES)
    assert b"".join(_inflate(gzip.compress(content), max_ratio=2)) == content


def test_a_bomb_is_stopped_early() -> None:
    bomb = _pieces(gzip.compress(bytes(64 << 20)), 1000)
    with pytest.raises(BadData, match="decompresses to more than 200 times its size"):
        list(inflate(bomb, name="a.gz", piece_bytes=1 << 16, max_ratio=200))
    assert len(b"".join(bomb)) > 50_000


def test_the_ratio_counts_what_was_read_so_far() -> None:
    stored = gzip.compress(os.urandom(20_000)) + gzip.compress(bytes(2 << 20))
    assert len(b"".join(_inflate(stored, max_ratio=200))) == 20_000 + (2 << 20)
