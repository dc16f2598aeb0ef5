"""Grant files that must be refused, each with the class of error and the words that say why.

Written to be fed to the package and to the finished command alike: a case makes its
file in a folder, or is fed through standard input under the name "-".
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import socket
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenctl.errors import BadData, NoInput, TokenctlError, UsageError

HEADER = "user_id,amount,reason,idempotency_key"
NOTED = f"{HEADER},note,ticket,kind"
GOOD = "u1,5,test,k1"
#: More than a line may have.
LONG = 70_000


@dataclass(frozen=True)
class Case:
    """A file that must be refused.

    `error` is the class that is raised, or None when the file is read and rows of it are bad.
    `message` is searched for (re.search) in the error, or in the `file:line: column: why` lines.
    `options` are those of CheckOptions. `make` puts a special file into a folder.
    """

    name: str
    message: str
    content: bytes = b""
    error: type[TokenctlError] | None = BadData
    options: dict[str, Any] = field(default_factory=dict)
    file_name: str = "grants.csv"
    make: Callable[[Path], str] | None = None
    stdin: bool = False

    def path(self, folder: Path) -> str:
        """Make the file in `folder`; return the argument that names it."""
        if self.stdin:
            return "-"
        if self.make is not None:
            return self.make(folder)
        file = folder / self.file_name
        file.write_bytes(self.content)
        return str(file)


def csv(*rows: str, header: str = HEADER, end: str = "\n") -> bytes:
    """A CSV file of these lines."""
    return "".join(f"{line}{end}" for line in (header, *rows)).encode("utf-8", "surrogatepass")


def jsonl(*rows: str) -> bytes:
    """A JSON Lines file of these lines."""
    return "".join(f"{line}\n" for line in rows).encode()


def archive(*members: str) -> bytes:
    """A zip archive with these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for member in members:
            file.writestr(member, "x")
    return made.getvalue()


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.csv")
    return str(folder / "pipe.csv")


def _socket(folder: Path) -> str:
    # A socket's path is short; tmp_path may be too long for it.
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.csv")
    finally:
        os.chdir(here)
    return str(folder / "socket.csv")


def _loop(folder: Path) -> str:
    (folder / "loop.csv").symlink_to("loop.csv")
    return str(folder / "loop.csv")


def _below_a_file(folder: Path) -> str:
    (folder / "file").write_bytes(b"")
    return str(folder / "file" / "grants.csv")


SPECIAL = [
    Case("missing", r"gone\.csv: cannot be opened: No such file", error=NoInput, make=lambda f: str(f / "gone.csv")),
    Case("directory", r"is a directory, not a regular file", error=NoInput, make=str),
    Case("fifo", r"is a named pipe, not a regular file", error=NoInput, make=_fifo),
    Case("socket", r"is a socket, not a regular file", error=NoInput, make=_socket),
    Case("device", r"/dev/null: is a device, not a regular file", error=NoInput, make=lambda _: "/dev/null"),
    Case("symlink-loop", r"cannot be opened: Too many levels", error=NoInput, make=_loop),
    Case("below-a-file", r"cannot be opened: Not a directory", error=NoInput, make=_below_a_file),
    Case("long-name", r"cannot be opened: File name too long", error=NoInput, make=lambda f: str(f / ("x" * 300))),
    Case("no-name", r"^'': cannot be opened: No such file", error=NoInput, make=lambda _: ""),
]

if Path("/proc/self/status").exists():  # not on macOS
    SPECIAL.append(
        Case("proc", r"says that it is empty and has content", error=NoInput, make=lambda _: "/proc/self/status")
    )

CONTAINERS = [
    Case("empty", r"is empty$"),
    Case("empty-stdin", r"^-: is empty$", stdin=True),
    Case("only-bom", r"is empty$", codecs.BOM_UTF8),
    Case("only-blank-lines", r"is empty$", b"\n\r\n\n"),
    Case("gzip-of-nothing", r"is empty$", gzip.compress(b"")),
    Case("gzip-in-gzip", r"is gzip inside gzip", gzip.compress(gzip.compress(csv(GOOD)))),
    Case("gzip-cut", r"the gzip data is cut off", gzip.compress(csv(GOOD))[:-9]),
    Case("gzip-cut-in-header", r"the gzip data is cut off", gzip.compress(csv(GOOD))[:5]),
    Case("gzip-garbage-behind", r"other bytes follow the end", gzip.compress(csv(GOOD)) + b"\0\0"),
    Case("gzip-damaged", r"the gzip data is damaged .*incorrect data check", gzip.compress(csv(GOOD))[:-8] + b"x" * 8),
    Case("gzip-bomb", r"decompresses to more than 200 times its size", gzip.compress(bytes(8 << 20))),
    Case("excel", r"is a workbook, not CSV", archive("[Content_Types].xml", "xl/workbook.xml"), file_name="a.xlsx"),
    Case("opendocument", r"is a workbook, not CSV", archive("mimetype.opendocument"), file_name="a.ods"),
    Case("zip", r"is a zip archive, not CSV", archive("grants.csv")),
    Case("bzip2", r"is compressed with bzip2", bz2.compress(csv(GOOD))),
    Case("xz", r"is compressed with xz", lzma.compress(csv(GOOD))),
    Case("zstd", r"is compressed with zstd", b"\x28\xb5\x2f\xfd\x04\x00"),
    Case("old-excel", r"is an old Excel workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    Case("pdf", r"is a PDF document", b"%PDF-1.7\n"),
    Case("parquet", r"is a Parquet file", b"PAR1\x15\x04"),
    Case("html", r"is HTML or XML", b"<!DOCTYPE html>\n<title>Sign in</title>\n"),
]

ENCODINGS = [
    Case("utf-16-le", r"is UTF-16 \(little-endian\)", codecs.BOM_UTF16_LE + csv(GOOD).decode().encode("utf-16-le")),
    Case("utf-16-be", r"is UTF-16 \(big-endian\)", codecs.BOM_UTF16_BE + csv(GOOD).decode().encode("utf-16-be")),
    Case("utf-16-le-no-bom", r"looks like UTF-16 \(little-endian\)", csv(GOOD).decode().encode("utf-16-le")),
    Case("utf-16-be-no-bom", r"looks like UTF-16 \(big-endian\)", csv(GOOD).decode().encode("utf-16-be")),
    Case("utf-32", r"is UTF-32", codecs.BOM_UTF32_LE + csv(GOOD).decode().encode("utf-32-le")),
    Case(
        "latin-1",
        r"grants\.csv:3: byte 0xfc at offset 89 is not UTF-8; .*'ü'",
        csv(f"{GOOD},fine,,", "u2,5,test,k2,für,,", header=NOTED).decode().encode("latin-1"),
    ),
    Case("latin-1-header", r"grants\.csv:1: byte 0xe9 at offset 38 is not UTF-8", f"{HEADER},é\n".encode("latin-1")),
    Case(
        "windows-1252", r"byte 0x80 .* would read it as '€'", csv("u1,5,test,k1,5 €,,", header=NOTED)[:-6] + b"\x80,,\n"
    ),
    Case("cut-character", r"grants\.csv:2: byte 0xe2 at offset", csv("u1,5,test,k1,5 €", header=f"{HEADER},note")[:-2]),
    Case("overlong", r"byte 0xc0 at offset .* is not UTF-8", csv(GOOD) + b"\xc0\xaf"),
    Case(
        "surrogate-bytes", r"byte 0xed at offset .* is not UTF-8", csv("u1,5,test,k1,\ud800", header=f"{HEADER},note")
    ),
    Case("nul", r"grants\.csv:3: a NUL byte at offset 58", csv(GOOD, "u2,5,te\0st,k2")),
    Case("nul-in-note", r"grants\.csv:2: a NUL byte", csv('u1,5,test,k1,"a\0b"', header=f"{HEADER},note")),
    Case("cr-only", r"its lines end in CR alone", csv(GOOD, GOOD, end="\r")),
]

HEADERS = [
    Case("no-header", r"grants\.csv:1: no header: 'u1,5,test,k1' names no known column", csv(header=GOOD)),
    Case("unknown-column", r"'amout' is no column .* did you mean 'amount'\?", csv(header="user_id,amout,reason,key")),
    Case("foreign-column", r"'balance' is no column of a grant file", csv(header=f"{HEADER},balance")),
    Case("column-twice", r"grants\.csv:1: column 'amount' stands twice", csv(header=f"{HEADER},amount")),
    Case("two-key-columns", r"'key' and 'idempotency_key' mean the same", csv(header=f"key,{HEADER}")),
    Case("two-key-columns-too", r"'idempotency_key' and 'key' mean the same", csv(header=f"{HEADER},key")),
    Case("no-amount-column", r"the column 'amount' is missing", csv(header="user_id,reason,key")),
    Case("two-missing", r"the column 'user_id' and 'amount' is missing", csv(header="reason,key")),
    Case("no-reason-column", r"the column 'reason' is missing", csv(header="user_id,amount,key")),
    Case("no-keys", r"grants\.csv:1: no row has an idempotency key", csv(header="user_id,amount,reason")),
    Case(
        "keys-twice",
        r"the file has keys of its own, and --campaign gives others",
        csv(GOOD),
        error=UsageError,
        options={"campaign": "spring"},
    ),
    Case(
        "json-keys-twice",
        r"grants\.jsonl:1: the file has keys of its own, and --campaign gives others",
        jsonl(*['{"user_id": "u1", "amount": 5, "reason": "test", "key": "k1"}'] * 60),
        error=UsageError,
        file_name="grants.jsonl",
        options={"campaign": "spring"},
    ),
    Case("blank-in-header", r"' amount' is no column .* remove the blanks", csv(header="user_id, amount,reason,key")),
    Case(
        "capital-header", r"'Amount' is no column .* did you mean 'amount'\?", csv(header="user_id,Amount,reason,key")
    ),
    Case("unnamed-column", r"column 5 has no name", csv(header=f"{HEADER},")),
    Case("bars", r"has no comma, semicolon or tab|names no known column", csv(header=HEADER.replace(",", "|"))),
    Case("one-column", r"'user_id' has no comma, semicolon or tab", csv("u1", header="user_id")),
    Case("sep-line", r"'sep=;' is a note for spreadsheets", b"sep=;\n" + csv(GOOD)),
    Case("open-quote-in-header", r"the quotes of the header are wrong", csv(GOOD, header=f'"{HEADER}')),
    Case("many-columns", r"column 5 has no name", csv(header=HEADER + "," * 20_000)),
    Case("byte-order-mark-twice", r"is no column", codecs.BOM_UTF8 * 2 + csv(GOOD)),
    Case("csv-as-json", r"grants\.csv:1: is not JSON Lines", csv(GOOD), options={"format": "jsonl"}),
    Case("json-as-csv", r"is JSON, not the header", jsonl('{"user_id": "u1"}'), options={"format": "csv"}),
    Case(
        "bad-reason-option",
        r"--reason: 'Test' has capitals",
        csv(GOOD),
        error=UsageError,
        options={"default_reason": "Test"},
    ),
    Case(
        "unlisted-reason-option",
        r"--reason: 'tset' is not among .* did you mean 'test'\?",
        csv(GOOD),
        error=UsageError,
        options={"default_reason": "tset", "reasons": frozenset({"test", "promo"})},
    ),
    Case("bad-campaign", r"--campaign: 'a b' is no campaign", csv(GOOD), error=UsageError, options={"campaign": "a b"}),
    Case("long-campaign", r"--campaign: ", csv(GOOD), error=UsageError, options={"campaign": "x" * 123}),
]

STRUCTURE = [
    Case("too-many-rows", r"has more than 2 rows", csv(*[GOOD] * 3), options={"max_rows": 2}),
    Case("missing-cell", r":3: row: 3 cells where the header has 4", csv(GOOD, "u2,5,test"), error=None),
    Case("one-cell", r":3: row: 1 cell where the header has 4; one is missing", csv(GOOD, "u2"), error=None),
    Case("extra-cell", r":2: row: 5 cells where the header has 4; a cell with ','", csv(f"{GOOD},x"), error=None),
    Case("number-with-comma", r":2: row: 5 cells", csv("u1,1,000,test,k1"), error=None),
    Case("empty-cells", r":3: row: every cell is empty", csv(GOOD, ",,,"), error=None),
    Case("blank-line-of-spaces", r":3: row: every cell is empty", csv(GOOD, "   "), error=None),
    Case("header-again", r":3: row: is the header once more", csv(GOOD, HEADER, "u2,5,test,k2"), error=None),
    Case(
        "joined-files", r":3: user_id: .*U\+FEFF", csv(GOOD) + codecs.BOM_UTF8 + csv(header="u2,5,test,k2"), error=None
    ),
    Case("cr-in-line", r":2: row: a carriage return \(U\+000D\)", csv("u1,5,te\rst,k1"), error=None),
    Case("quote-in-cell", r":2: row: a quote in the middle", csv('u1,5,te"st,k1'), error=None),
    Case("text-after-quote", r":2: row: text follows a closing quote", csv('u1,5,"test"x,k1'), error=None),
    Case("blank-before-quote", r":2: row: a quote in the middle", csv('u1,5, "test",k1'), error=None),
    Case(
        "newline-in-note",
        r":2: row: a quoted cell runs on to line 3",
        csv('u1,5,test,k1,"a', 'b"', "u2,5,test,k2,", header=f"{HEADER},note"),
        error=None,
    ),
    Case(
        "unclosed-quote",
        r"grants\.csv:3: a quote opens here and is not closed by the end of the file",
        csv("u1,5,test,k1", 'u2,5,test,"k2', "u3,5,test,k3"),
    ),
    Case(
        "unclosed-quote-then-quotes",
        r"grants\.csv:2: a quote opens here and is not closed where a cell ends",
        csv('u1,5,test,"k1', 'u2,5,test,"k2"', 'u3,5,test,"k3"'),
    ),
    Case(
        "unclosed-quote-far",
        r"grants\.csv:3: a quote opens here and is not closed within 65,536 bytes",
        csv(GOOD, 'u2,5,test,"k2', *["u3,5,test,k3"] * 20_000),
    ),
    Case("long-line", r"grants\.csv:3: the line has more than 65,536 bytes", csv(GOOD, "x" * LONG)),
    Case("long-last-line", r"grants\.csv:3: the line has more than", csv(GOOD) + b"x" * LONG),
    Case("long-first-line", r"grants\.csv:1: the line has more than", b"x" * LONG + csv(GOOD)),
    Case("long-quoted-line", r"grants\.csv:3: the line has more than", csv(GOOD, f'u2,5,test,"{"k" * LONG}"')),
]

WHOLE_FILES = [*SPECIAL, *CONTAINERS, *ENCODINGS, *HEADERS, *STRUCTURE]
