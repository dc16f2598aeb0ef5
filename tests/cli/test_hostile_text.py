"""Text from the ledger cannot steer a terminal, break a line or crash a table; ids are never cut."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.running import Cli, on_terminal, without_escapes
from tests.pg import post

HOSTILE = {
    "colour": "\x1b[31mred",
    "clipboard": "a\x1b]52;c;eA==\x07b",
    "eight-bit": "a\x9b31mb\x85c",
    "turned around": "a\u202egnirts",
    "zero width": "a\u200b\ufeff\u2066b",
    "line ends": "a\u2028b\u2029c",
    "newline": "a\ntokenctl: forged line\r\x08",
    "tab": "a\tb",
    "markup": "[/] [red]x[/red] [bold",
    "emoji code": ":smile: :warning:",
    "backslash": r"\x1b[0m \[",
    "private and unassigned": "\ue000\U000e0001",
}
# What must never come out raw, but for the colours that tokenctl itself sets.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2066-\u2069\ufeff\ue000\U000e0001]")


def plant(cli: Cli, text: str, key: str = "k") -> None:
    """A grant as another client may write it: every text that is free is hostile."""
    connection = cli.db.connect("support1")
    post(connection, "u1", 500, note=text[:500], ticket=text[:64], campaign=text, claimed_by=text, key=key)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_replayed_receipt_is_clean_in_every_format(cli: Cli, text: str) -> None:
    """The key is the same and so is the content, so the planted entry is answered."""
    connection = cli.db.connect("support1")
    post(connection, "u1", 500, note=text, claimed_by=text, key="k")
    again = ("grant-bonus", "u1", "--amount", "500", "--reason", "test", "--idempotency-key", "k", "--yes")
    for form in ("table", "tsv", "json", "jsonl", "value"):
        got = cli(*again, "--format", form)
        assert got.code == 0
        assert not STEERING.search(got.text + got.err)
        assert "forged line" not in [line.partition(": ")[2] for line in (got.text + got.err).splitlines()]
        assert len(got.text.splitlines()) == 1 or form == "table"
        if form in ("json", "jsonl"):
            data = json.loads(got.text)["data"]
            assert (data["note"], data["claimed_by"]) == (text, text)  # whole, for programs
    [row] = cli(*again).lines
    assert len(row) == 14


def test_markup_is_shown_as_it_is_written(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u1", 500, note="[/] [red]x[/red] :smile:", key="k")
    again = ("grant-bonus", "u1", "--amount", "500", "--reason", "test", "--idempotency-key", "k", "--yes")
    assert "[/] [red]x[/red] :smile:" in cli(*again, "--format", "table").text
    assert "[/] [red]x[/red] :smile:" in cli(*again, "--format", "tsv").text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_refusal_repeats_nothing_raw(cli: Cli, text: str) -> None:
    plant(cli, text)
    conflict = ("grant-bonus", "u1", "--amount", "7", "--reason", "test", "--idempotency-key", "k", "--yes")
    got = cli(*conflict)
    assert got.code == 65
    assert not STEERING.search(got.err)
    assert not re.search("^tokenctl: forged", got.err, re.MULTILINE)
    assert not STEERING.search(cli(*conflict, "--json").err)
    cli("reverse", "u1:1", "--reason", "test", "--ticket", "T", "--yes")
    assert not STEERING.search(cli("reverse", "u1:1", "--reason", "other", "--yes").err)


def test_a_planted_reason_cannot_break_the_balance_table(cli: Cli) -> None:
    """The functions hold reasons to their form; a superuser's row is not held to anything."""
    post(cli.db.connect("support1"), "u1", 500)
    cli.db.rows(
        "INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at, kind, reason,"
        " operator, claimed_by, request_id, idempotency_key) VALUES"
        " ('u1', 2, 5, 505, clock_timestamp(), 'bonus', %s, 'x', 'x', 'x', 'k2')",
        "[/]\x1b]52;c;eA==\x07\u202e:x:",
    )
    cli.db.rows("UPDATE tokenctl.token_accounts SET balance = 505, last_seq = 2")
    for form in ("table", "tsv", "json"):
        got = cli("balance", "u1", "--format", form)
        assert got.code == 0
        assert not STEERING.search(got.text)
    seen = without_escapes(on_terminal("balance", "u1", columns=160).text)
    assert r"[/]\x1b]52;c;eA==\x07\u202e:x:" in seen
    assert not STEERING.search(seen)


@pytest.mark.parametrize("columns", [200, 40])
def test_ids_are_whole_at_every_width(cli: Cli, columns: int) -> None:
    long = "user_" + "x" * 60
    post(cli.db.connect("support1"), long, 123456789)
    post(cli.db.connect("support1"), "u2", 7)
    got = on_terminal("balance", long, "u2", columns=columns)
    seen = without_escapes(got.text)
    assert got.code == 0
    assert long in seen
    assert seen.count("123,456,789") == 3  # balance, available, amount
    assert "…" not in seen
    for heading in ("USER", "BALANCE", "HELD", "AVAILABLE", "LAST CHANGE", "AMOUNT", "REASON"):
        assert heading in seen


def test_a_table_that_does_not_fit_becomes_records(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u1", 1500)
    wide = without_escapes(on_terminal("balance", "u1", columns=100).text)
    narrow = without_escapes(on_terminal("balance", "u1", columns=40).text)
    assert len(wide.splitlines()) == 3
    assert re.search(r"^ AVAILABLE +1,500$", narrow, re.MULTILINE)
    assert max(map(len, wide.splitlines())) <= 100
