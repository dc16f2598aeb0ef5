"""Opening content as a source, and reading COPY's text format back."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tokenctl.grantfile.block import Block
from tokenctl.grantfile.check import CheckOptions, check
from tokenctl.grantfile.copytext import NULL
from tokenctl.grantfile.rows import BadRow
from tokenctl.grantfile.source import Source, open_source

MAX_BYTES = 1 << 30
MAX_RATIO = 200


class Row(NamedTuple):
    """A row as COPY would store it."""

    line: int
    user_id: str
    amount: int
    kind: str
    reason: str
    note: str | None
    ticket: str | None
    idempotency_key: str


@contextmanager
def opened(path: str, *, spool: Path, stdin: bytes = b"") -> Iterator[Source]:
    """Open `path` with generous limits; `stdin` is what standard input would give."""
    with open_source(
        path, stdin=io.BytesIO(stdin), spool_dir=spool, max_bytes=MAX_BYTES, max_ratio=MAX_RATIO
    ) as source:
        yield source


def blocks_of(content: bytes, folder: Path, options: CheckOptions | None = None) -> list[Block]:
    """Check `content` as standard input."""
    with opened("-", spool=folder, stdin=content) as source:
        return list(check(source, options or CheckOptions()))


def rows_of(blocks: list[Block]) -> list[Row]:
    """Read the rows of COPY's text format, by line."""
    rows = []
    for block in blocks:
        lines = block.copy.decode().split("\n")
        assert lines.pop() == ""
        for line in lines:
            cells = {"kind": "bonus", "note": NULL, "ticket": NULL} | dict(
                zip(block.columns, line.split("\t"), strict=True)
            )
            number, amount = int(cells.pop("line")), int(cells.pop("amount"))
            rows.append(Row(line=number, amount=amount, **{name: _value(text) for name, text in cells.items()}))  # type: ignore[arg-type]  # three may be null, and these are
    return sorted(rows)


def messages_of(blocks: list[Block], name: str = "-") -> list[str]:
    """What is said of the bad rows, as file:line: column: why."""
    return [said for block in blocks for row in block.bad for said in said_of(row, name)]


def said_of(row: BadRow, name: str) -> list[str]:
    """What is said of one: a line for each wrong column."""
    return [f"{name}:{row.line}: {problem.column}: {problem.why}" for problem in row.problems]


def _value(text: str) -> str | None:
    return None if text == NULL else re.sub(r"\\(.)", r"\1", text)
