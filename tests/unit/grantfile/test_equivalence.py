"""The quick way and the exact way give the same rows, and both give what a plain reading of the rules gives."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.grantfile.opened import Row, blocks_of, rows_of
from tokenctl.errors import TokenctlError
from tokenctl.grantfile import check, source
from tokenctl.grantfile.check import CheckOptions
from tokenctl.grantfile.rows import BadRow

FOLDER = Path(tempfile.gettempdir())
NEVER = re.compile(r"(?!)")

# Good and bad values of each column, the borders among them.
VALUES = {
    "user_id": ["u1", "u_2", "a.b@c:d-e", "9", "u" * 128, "u" * 129, "-u", "u 1", " u1", "ü", "u\t1", "", "u\ufeff"],
    "amount": ["1", "42", "9" * 15, "9" * 16, "0", "05", "+5", "-5", "1.000", "1_000", " 5", "5 ", "٣", "1e3", ""],
    "reason": ["test", "a", "r" * 32, "r" * 33, "promo", "Test", "1a", "a b", "", "a_b-9", "ä"],
    "idempotency_key": [
        "k1", "a/b", "k" * 128, "k" * 129, "bonus:x", "reverse:7", "generation:x", "reverse", "k 1", "", "k,1",
        "ke\ny", 'k"', "k#",
    ],
    "note": [
        "", "a", "Für Ä", "画像", "🎄", "a\u00a0b", "\u00a0a", "a\u3000", " a", "a ", "a  b", "a\tb", "a,b", "a;b",
        'a "b"', '"', "a\nb", "a\rb", "a\\b", r"\N", r"\.", "\x01\x02", "\x7f", "\x85", "\u2028", "\u200b", "\u202e",
        "\ue000", "\u0378", "n" * 500, "n" * 501, "🎄" * 500, "🎄" * 501, "null", "'", "=1+1", "{",
    ],
    "ticket": ["", "48123", "T-1", "a#1", "t" * 64, "t" * 65, "T 1", "ü", "\\"],
    "kind": ["", "bonus", "purchase", "gift", "Bonus", "bonus "],
    "error": ["", "amount: 'x' is wrong", "x" * 3000, 'say "x"', "\x1b[2J", "Ä", "a,b;c", "\x01\x02"],
}  # fmt: skip
FORMS = {
    "user_id": r"[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}",
    "amount": r"[1-9][0-9]{0,14}",
    "reason": r"[a-z][a-z0-9_-]{0,31}",
    "idempotency_key": r"(?!reverse:|generation:)[A-Za-z0-9._:@/-]{1,128}",
    "ticket": r"[A-Za-z0-9._:@/#-]{0,64}",
    "kind": r"|bonus|purchase",
}
REQUIRED = ["user_id", "amount", "reason", "idempotency_key"]
MALFORMED = [
    "u1,5",
    "u1,5,test,k1,a,b,c,d,e,f,g",
    '"u1"x,5,test,k1',
    'u1,5,te"st,k1',
    ",,,",
    "   ",
    "u1,5\r,test,k1",
    '"u1',
    "{",
]


def _is_good(cells: dict[str, str]) -> bool:
    note = cells.get("note", "")
    hidden = any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in note)
    return (
        all(re.fullmatch(FORMS[name], value) for name, value in cells.items() if name in FORMS)
        and len(note) <= 500
        and note == note.strip()
        and not hidden
    )


def _as_row(line: int, cells: dict[str, str]) -> Row:
    return Row(
        line, cells["user_id"], int(cells["amount"]), cells.get("kind") or "bonus", cells["reason"],
        cells.get("note") or None, cells.get("ticket") or None, cells["idempotency_key"],
    )  # fmt: skip


def _columns() -> st.SearchStrategy[list[str]]:
    optional = st.lists(st.sampled_from(["note", "ticket", "kind", "error"]), unique=True)
    return optional.flatmap(lambda more: st.permutations([*REQUIRED, *more]))


@st.composite
def _rows(draw: st.DrawFn, columns: list[str]) -> list[dict[str, str]]:
    """Rows of which about half are good: a bad value everywhere would hide what the quick way does."""
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        cells = {name: VALUES[name][draw(st.integers(0, 2))] for name in columns}
        for name in draw(st.lists(st.sampled_from(columns), max_size=2)):
            cells[name] = draw(st.sampled_from(VALUES[name]))
        rows.append(cells)
    return rows


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[bytes, list[Row]]:
    """A well-formed CSV file and its good rows."""
    columns = draw(_columns())
    delimiter = draw(st.sampled_from(",;\t"))
    quote_all = draw(st.booleans())
    text = delimiter.join(
        draw(st.sampled_from(["key", name])) if name == "idempotency_key" else name for name in columns
    )
    text += draw(st.sampled_from(["\n", "\r\n"]))
    good = []
    for cells in draw(_rows(columns)):
        text += draw(st.sampled_from(["", "", "", "\n", "\r\n"]))
        line = text.count("\n") + 1
        written = [_cell(cells[name], delimiter, force=quote_all or draw(st.booleans())) for name in columns]
        if _is_good(cells) and "\n" not in "".join(written):
            good.append(_as_row(line, cells))
        text += delimiter.join(written) + draw(st.sampled_from(["\n", "\r\n"]))
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return (b"\xef\xbb\xbf" if draw(st.booleans()) else b"") + text.encode(), good


def _cell(value: str, delimiter: str, *, force: bool) -> str:
    if force or any(sign in value for sign in (delimiter, '"', "\r", "\n")):
        return '"' + value.replace('"', '""') + '"'
    return value


@st.composite
def broken_csv_files(draw: st.DrawFn) -> bytes:
    """A CSV file with lines that are no rows, cut anywhere."""
    content, _ = draw(csv_files())
    lines = content.split(b"\n")
    for line in draw(st.lists(st.sampled_from(MALFORMED), max_size=3)):
        lines.insert(draw(st.integers(1, len(lines))), line.encode())
    joined = b"\n".join(lines)
    return joined[: draw(st.integers(0, len(joined)))] if draw(st.booleans()) else joined


@st.composite
def json_files(draw: st.DrawFn) -> tuple[bytes, list[Row]]:
    """A JSON Lines file and its good rows; no value is left for JSON itself to refuse."""
    columns = draw(_columns())
    text = ""
    good = []
    for cells in draw(_rows(columns)):
        text += draw(st.sampled_from(["", "", "\n", " \r\n"]))
        order = draw(st.permutations(columns)) if draw(st.booleans()) else columns
        members: dict[str, Any] = {name: cells[name] for name in order if cells[name] or draw(st.booleans())}
        if re.fullmatch(r"0|[1-9][0-9]*", cells["amount"]):
            members["amount"] = int(cells["amount"])
        elif cells["amount"] == "1.000":
            members["amount"] = 1.0
        is_number = isinstance(members.get("amount"), int)
        if not cells.get("note") and "note" in columns and draw(st.booleans()):
            members["note"] = None
        if _is_good(cells) and is_number:
            good.append(_as_row(text.count("\n") + 1, cells))
        dense = draw(st.booleans())
        text += json.dumps(members, ensure_ascii=draw(st.booleans()), separators=(",", ":") if dense else None)
        text += draw(st.sampled_from(["\n", "\r\n"]))
    return text.encode(), good


Outcome = tuple[list[Row], list[BadRow], str]


def _outcome(content: bytes, options: CheckOptions, piece_bytes: int) -> Outcome:
    with mock.patch.object(source, "PIECE_BYTES", piece_bytes):
        try:
            blocks = blocks_of(content, FOLDER, options)
        except TokenctlError as error:
            return [], [], f"{type(error).__name__}: {error.detail}"
    return rows_of(blocks), [bad for block in blocks for bad in block.bad], ""


def _exactly(content: bytes, options: CheckOptions, piece_bytes: int) -> Outcome:
    """As _outcome, with every row judged by itself."""
    nothing = mock.Mock()
    nothing.run.return_value = NEVER
    with mock.patch.object(check, "grammar_of", return_value=nothing):
        return _outcome(content, options, piece_bytes)


def _borders() -> list[dict[str, str]]:
    """For every value of every column a row that is good but for it."""
    columns = [*REQUIRED, "note", "ticket", "kind"]
    usual = {name: VALUES[name][1] for name in columns}
    return [{**usual, name: value} for name in columns for value in VALUES[name]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("force", [False, True])
def test_every_value_at_a_border_in_csv(delimiter: str, force: bool) -> None:
    text, good = delimiter.join(_borders()[0]) + "\n", []
    for cells in _borders():
        written = delimiter.join(_cell(value, delimiter, force=force) for value in cells.values())
        if _is_good(cells) and "\n" not in written:
            good.append(_as_row(text.count("\n") + 1, cells))
        text += written + "\n"
    rows, bad, _ = _outcome(text.encode(), CheckOptions(), source.PIECE_BYTES)
    assert rows == good
    assert len(rows) + len(bad) == len(_borders())
    assert _outcome(text.encode(), CheckOptions(), 16) == _exactly(text.encode(), CheckOptions(), 16)


@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_every_value_at_a_border_in_json_lines(ensure_ascii: bool) -> None:
    rows_as_json = []
    for cells in _borders():
        is_integer = re.fullmatch(r"-?(0|[1-9][0-9]*)", cells["amount"])
        amount = int(cells["amount"]) if is_integer else cells["amount"]
        rows_as_json.append(json.dumps({**cells, "amount": amount}, ensure_ascii=ensure_ascii))
    content = "\n".join(rows_as_json).encode()
    rows, bad, _ = _outcome(content, CheckOptions(), source.PIECE_BYTES)
    assert rows == [_as_row(line, cells) for line, cells in enumerate(_borders(), start=1) if _is_good(cells)]
    assert len(rows) + len(bad) == len(_borders())
    assert _outcome(content, CheckOptions(), 16) == _exactly(content, CheckOptions(), 16)


PIECES = st.sampled_from([16, 100, source.PIECE_BYTES])
OPTIONS = st.sampled_from([CheckOptions(), CheckOptions(reasons=frozenset({"test", "a"}))])


@settings(max_examples=150, deadline=None)
@given(csv_files(), PIECES)
def test_good_rows_of_csv_are_those_of_the_rules(made: tuple[bytes, list[Row]], piece_bytes: int) -> None:
    content, good = made
    rows, bad, error = _outcome(content, CheckOptions(), piece_bytes)
    assert (rows, error) == (good, "")
    assert {each.line for each in bad}.isdisjoint(row.line for row in good)


@settings(max_examples=150, deadline=None)
@given(json_files(), PIECES)
def test_good_rows_of_json_lines_are_those_of_the_rules(made: tuple[bytes, list[Row]], piece_bytes: int) -> None:
    content, good = made
    rows, _, error = _outcome(content, CheckOptions(), piece_bytes)
    if content.strip():
        assert (rows, error) == (good, "")
    else:
        assert error.endswith("is empty")


@settings(max_examples=150, deadline=None)
@given(st.one_of(broken_csv_files(), json_files().map(lambda made: made[0])), PIECES, PIECES, OPTIONS)
def test_quick_and_exact_agree(content: bytes, quick_bytes: int, exact_bytes: int, options: CheckOptions) -> None:
    assert _outcome(content, options, quick_bytes) == _exactly(content, options, exact_bytes)


@settings(max_examples=100, deadline=None)
@given(st.one_of(csv_files(), json_files()), st.integers(0, 10_000))
def test_a_cut_file_never_gives_rows_that_the_whole_has_not(made: tuple[bytes, list[Row]], cut: int) -> None:
    content, good = made
    rows, _, _ = _outcome(content[: cut % (len(content) + 1)], CheckOptions(), source.PIECE_BYTES)
    # The last row may have lost digits or letters; that is why the newline at the end is asked for.
    assert rows[:-1] == good[: len(rows[:-1])]
