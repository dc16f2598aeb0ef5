"""From bytes to text: UTF-8 or a sentence that says what the file is instead."""

from __future__ import annotations

import codecs

from tokenctl.errors import BadData
from tokenctl.grantfile.display import clean
from tokenctl.grantfile.source import Lines

_AS_UTF8 = "save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
_AS_CSV = "export the sheet as CSV UTF-8"
_UNPACK = "unpack it first; only gzip is read as it is"

#: The longer of two beginnings comes first.
_FOREIGN = (
    (b"\x1f\x8b", "is gzip inside gzip", "decompress it once"),
    (b"BZh", "is compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "is compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", _AS_CSV),
    (b"%PDF", "is a PDF document", _AS_CSV),
    (b"PAR1", "is a Parquet file", "export it as CSV"),
    (codecs.BOM_UTF32_LE, "is UTF-32", _AS_UTF8),
    (codecs.BOM_UTF32_BE, "is UTF-32", _AS_UTF8),
    (codecs.BOM_UTF16_LE, "is UTF-16 (little-endian)", _AS_UTF8),
    (codecs.BOM_UTF16_BE, "is UTF-16 (big-endian)", _AS_UTF8),
    (b"<", "is HTML or XML", "look at it: is it the error page of a download?"),
)
_SNIFFED_BYTES = 64


def refuse_foreign(head: bytes, name: str) -> None:
    """Raise BadData, saying what it is, when content that begins with `head` is no UTF-8 text."""
    for magic, what, hint in _FOREIGN:
        if head.startswith(magic):
            raise BadData(f"{name}: {what}, not CSV or JSON Lines", hint=hint)
    if head.startswith(b"PK\x03\x04"):
        office = b"[Content_Types].xml" in head or b"opendocument" in head
        raise BadData(
            f"{name}: is {'a workbook' if office else 'a zip archive'}, not CSV or JSON Lines",
            hint=_AS_CSV if office else _UNPACK,
        )
    start = head[:_SNIFFED_BYTES]
    for endian, zeros, others in (("little", start[1::2], start[::2]), ("big", start[::2], start[1::2])):
        if zeros and not any(zeros) and all(others):
            raise BadData(f"{name}: looks like UTF-16 ({endian}-endian)", hint=_AS_UTF8)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise BadData(
            f"{name}: its lines end in CR alone, as on an old Mac",
            hint=f"convert it: tr '\\r' '\\n' <{name}",
        )


def decode(lines: Lines, name: str) -> str:
    """Return the text of `lines`; BadData with offset and line when it isn't UTF-8 or holds a NUL."""
    if b"\0" in lines.data:
        at = lines.data.index(b"\0")
        raise BadData(
            f"{name}:{_line(lines, at)}: a NUL byte at offset {lines.offset + at:,}: not a text file, or a damaged one",
            hint="transfer or export the file again",
        )
    try:
        return lines.data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(lines, error, name) from None


def _not_utf8(lines: Lines, error: UnicodeDecodeError, name: str) -> BadData:
    byte = lines.data[error.start : error.start + 1]
    read_as = clean(byte.decode("cp1252", "replace"))
    place = f"byte 0x{byte.hex()} at offset {lines.offset + error.start:,}"
    return BadData(
        f"{name}:{_line(lines, error.start)}: {place} is not UTF-8;"
        f" Latin-1 or Windows-1252 would read it as '{read_as}'",
        hint=f"{_AS_UTF8}, or convert it: iconv -f WINDOWS-1252 -t UTF-8 {name}",
    )


def _line(lines: Lines, at: int) -> int:
    """The number of the line of the byte at index `at`."""
    return lines.first + lines.data.count(b"\n", 0, at)
