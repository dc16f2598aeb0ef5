"""Checking whole files: every good row comes out once, under its line, and every figure adds up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.unit.grantfile.corpus import HEADER, NOTED, csv, jsonl
from tests.unit.grantfile.good_files import GOOD_FILES, Good, row
from tests.unit.grantfile.opened import blocks_of, messages_of, opened, rows_of, said_of
from tokenctl.errors import BadData, NoInput
from tokenctl.grantfile.block import Block
from tokenctl.grantfile.check import CheckOptions, check, rows_at
from tokenctl.grantfile.source import PIECE_BYTES
from tokenctl.grantfile.tally import Tally


def _tally(blocks: list[Block]) -> Tally:
    tally = Tally()
    for block in blocks:
        tally.add(block)
    return tally


@pytest.mark.parametrize("good", GOOD_FILES, ids=lambda good: good.name)
def test_rows_of_unusual_files(good: Good, tmp_path: Path) -> None:
    blocks = blocks_of(good.content, tmp_path, CheckOptions(**good.options))
    assert messages_of(blocks) == []
    assert rows_of(blocks) == good.rows
    tally = _tally(blocks)
    assert tally.rows == len(good.rows)
    assert tally.tokens == sum(row.amount for row in good.rows)


@pytest.mark.parametrize(
    ("content", "optional"),
    [
        (csv("u1,5,test,k1"), []),
        (csv("u1,5,test,k1,x", header=f"{HEADER},error"), []),
        (csv(",,u1,5,test,k1", header=f"kind,note,{HEADER}"), ["kind", "note"]),
        (csv("u1,5,test,k1,", header=f"{HEADER},ticket"), ["ticket"]),
        (jsonl('{"user_id": "u1", "amount": 5, "reason": "test", "key": "k1"}'), ["kind", "note", "ticket"]),
    ],
)
def test_only_columns_that_the_file_has_are_copied(content: bytes, optional: list[str], tmp_path: Path) -> None:
    (block,) = [block for block in blocks_of(content, tmp_path) if block.rows]
    required = {"line", "user_id", "amount", "reason", "idempotency_key"}
    assert sorted(set(block.columns) - required) == optional
    assert set(block.columns) >= required
    assert rows_of([block]) == [row(block.last_line, "u1", 5, "k1")]


def test_figures_of_a_file_of_many_blocks(tmp_path: Path) -> None:
    rows = [row(2 + n, f"u{n}", n % 900 + 1, f"k{n}", reason=("test", "promo")[n % 2]) for n in range(20_000)]
    lines = [
        f"{r.user_id},{'x' if n % 1000 == 7 else r.amount},{r.reason},{r.idempotency_key}" for n, r in enumerate(rows)
    ]
    content = csv(*lines)
    blocks = blocks_of(content, tmp_path)
    good = [r for n, r in enumerate(rows) if n % 1000 != 7]
    assert len(blocks) > len(content) // PIECE_BYTES > 4
    assert rows_of(blocks) == good
    tally = _tally(blocks)
    assert (tally.rows, tally.last_line) == (20_000, 20_001)
    assert tally.tokens == sum(r.amount for r in good)
    assert tally.by_reason == {
        reason: (len(amounts), sum(amounts))
        for reason in ("test", "promo")
        if (amounts := [r.amount for r in good if r.reason == reason])
    }
    assert [bad.line for block in blocks for bad in block.bad] == [9 + 1000 * n for n in range(20)]


@pytest.mark.parametrize("content", [csv("u1,5,test,k1", "", "x"), csv("u1,5,test,k1")[:-1], csv(), csv(*["x"] * 3000)])
def test_bytes_read_add_up_to_the_size(content: bytes, tmp_path: Path) -> None:
    assert sum(block.bytes_read for block in blocks_of(content, tmp_path)) == len(content)


def test_totals_are_exact_beyond_64_bits(tmp_path: Path) -> None:
    count = 20_000
    tally = _tally(blocks_of(csv(*["u1,999999999999999,test,k1"] * count), tmp_path))
    assert tally.tokens == 999_999_999_999_999 * count > 2**63


def test_blocks_stay_small_when_every_row_is_bad(tmp_path: Path) -> None:
    assert max(len(block.bad) for block in blocks_of(csv(*["x"] * 9000), tmp_path)) <= 500
    garbage = jsonl('{"user_id": "u1"}', *["x"] * 9000)
    assert max(len(block.bad) for block in blocks_of(garbage, tmp_path)) <= 3000


def test_a_row_with_two_wrong_columns_is_one_bad_row(tmp_path: Path) -> None:
    (block,) = blocks_of(csv("u 1,0,test,k1"), tmp_path)
    assert [[problem.column for problem in bad.problems] for bad in block.bad] == [["user_id", "amount"]]
    assert _tally([block]).rows == 1


def test_rows_after_a_quoted_newline_keep_their_lines(tmp_path: Path) -> None:
    rows = csv('u1,5,test,k1,"a', "u9,9,test,k9,", '"', "u2,5,test,k2,", header=f"{HEADER},note")
    blocks = blocks_of(rows, tmp_path)
    assert rows_of(blocks) == [row(5, "u2", 5, "k2")]
    (bad,) = (bad for block in blocks for bad in block.bad)
    assert (bad.line, bad.cells) == (2, ("u1", "5", "test", "k1", "a\nu9,9,test,k9,\n"))


def test_a_quote_may_stay_open_from_one_block_to_the_next(tmp_path: Path) -> None:
    before = ["u1,5,test,k1,"] * (PIECE_BYTES // 14 - 8)
    across = ['u2,5,test,k2,"a', *["b"] * 200, 'c"']
    assert len(csv(*before, header=f"{HEADER},note")) < PIECE_BYTES < len(csv(*before, *across)) - 100
    blocks = blocks_of(csv(*before, *across, "u3,5,test,k3,", header=f"{HEADER},note"), tmp_path)
    (bad,) = (bad for block in blocks for bad in block.bad)
    assert bad.line == len(before) + 2
    assert bad.problems[0].why.startswith(f"a quoted cell runs on to line {len(before) + 203};")
    assert rows_of(blocks)[-1] == row(len(before) + 204, "u3", 5, "k3")


def test_a_row_limit_counts_good_and_bad_rows(tmp_path: Path) -> None:
    content = csv("u1,5,test,k1", "x", "u2,5,test,k2")
    assert _tally(blocks_of(content, tmp_path, CheckOptions(max_rows=3))).rows == 3
    with pytest.raises(BadData, match="more than 2 rows"):
        blocks_of(content, tmp_path, CheckOptions(max_rows=2))


def test_rows_found_bad_later_come_with_their_cells(tmp_path: Path) -> None:
    content = csv('u1,5,test,k1,"a, b",,', "", "u2,5,test,k2,,T-1,", "u3,x,test,k3,,,", header=NOTED)
    with opened("-", spool=tmp_path, stdin=content) as source:
        later = {2: ("idempotency_key", "was used"), 4: ("user_id", "no user 'u2'")}
        bad = list(rows_at(source, CheckOptions(), later))
    assert [said for each in bad for said in said_of(each, "f")] == [
        "f:2: idempotency_key: was used",
        "f:4: user_id: no user 'u2'",
    ]
    assert [each.cells for each in bad] == [
        ("u1", "5", "test", "k1", "a, b", "", ""),
        ("u2", "5", "test", "k2", "", "T-1", ""),
    ]


def test_rows_found_bad_later_in_json_lines(tmp_path: Path) -> None:
    content = "\ufeff".encode() + jsonl('{"key": "k1", "amount": 5, "user_id": "u1", "reason": "test", "note": null}')
    with opened("-", spool=tmp_path, stdin=content) as source:
        (bad,) = rows_at(source, CheckOptions(), {1: ("user_id", "unknown")})
    assert bad.cells == ("u1", "5", "test", "k1", "", "", "")


def test_rows_found_bad_later_in_every_block(tmp_path: Path) -> None:
    content = csv(*[f"u{n},5,test,k{n}" for n in range(20_000)])
    with opened("-", spool=tmp_path, stdin=content) as source:
        bad = list(rows_at(source, CheckOptions(), dict.fromkeys(range(3, 20_002, 1000), ("row", "why"))))
    assert [(each.line, each.cells[0]) for each in bad] == [(n, f"u{n - 2}") for n in range(3, 20_002, 1000)]


def test_a_file_changed_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "grants.csv"
    file.write_bytes(csv("u1,5,test,k1"))
    with opened(str(file), spool=tmp_path) as source:
        assert source.sha256 == hashlib.sha256(csv("u1,5,test,k1")).hexdigest()
        file.write_bytes(csv("u1,9,test,k1"))
        with pytest.raises(NoInput, match="changed while it was read"):
            list(check(source, CheckOptions()))
