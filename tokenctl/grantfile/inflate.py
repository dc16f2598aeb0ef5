"""Decompressing gzip piece by piece, within a bounded ratio.

By zlib itself and not by the gzip module, because that one hides how much was
read for what came out, and lets zeros after the last member pass.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from tokenctl.errors import BadData

MAGIC = b"\x1f\x8b"
#: A small file may repeat itself as it likes: the ratio is judged from here on.
RATIO_FREE_BYTES = 1 << 20
_EXPECT_GZIP = 31  # zlib's way of saying it, with the largest window


def inflate(pieces: Iterable[bytes], *, name: str, piece_bytes: int, max_ratio: int) -> Iterator[bytes]:
    """Yield what `pieces` decompress to, at most `piece_bytes` at a time.

    Raises BadData for a damaged or cut file, for bytes after its end, and when it
    grows to more than `max_ratio` times its size.
    """
    taken = given = 0
    member = zlib.decompressobj(_EXPECT_GZIP)
    for piece in pieces:
        taken += len(piece)
        rest = piece
        while rest:
            if member.eof:
                member = _next_member(rest, name)
            out = _decompress(member, rest, name, piece_bytes)
            rest = member.unconsumed_tail or member.unused_data
            given += len(out)
            if given > RATIO_FREE_BYTES and given > max_ratio * taken:
                raise BadData(
                    f"{name}: decompresses to more than {max_ratio} times its size; that is no list of grants",
                    hint="decompress it, look at it, and import the decompressed file",
                )
            if out:
                yield out
    if not member.eof:
        raise BadData(f"{name}: the gzip data is cut off", hint="transfer the file again")


def _next_member(rest: bytes, name: str) -> zlib._Decompress:
    """Start the next of several gzip streams in one file; raises BadData when it is none."""
    if not rest.startswith(MAGIC[:1]):
        raise BadData(f"{name}: other bytes follow the end of the gzip data", hint="transfer the file again")
    return zlib.decompressobj(_EXPECT_GZIP)


def _decompress(member: zlib._Decompress, data: bytes, name: str, limit: int) -> bytes:
    try:
        return member.decompress(data, limit)
    except zlib.error as error:
        raise BadData(f"{name}: the gzip data is damaged ({error})", hint="transfer the file again") from None
