"""`show`: one transaction whole, whether it counts, and the command that undoes it."""

from __future__ import annotations

import hashlib
import re
import shlex

import pytest

from tests.cli.running import Cli, environment, on_terminal, without_escapes
from tests.entries import Row, hours, write
from tests.pg import hold

AT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_everything_of_a_grant(cli: Cli) -> None:
    options = ("--ticket", "48121", "--note", "Sorry", "--campaign", "spring", "--request-id", "r1")
    cli.grant("u1", 500, *options)
    document = cli("show", "u1:1", "--json").json
    assert document["schema"] == "tokenctl.transaction.v1"
    data = document["data"]
    assert AT.fullmatch(data.pop("at"))
    claimed_by = data.pop("claimed_by")
    assert "@" in claimed_by
    assert data == {
        "id": "u1:1", "user_id": "u1", "seq": 1, "amount": 500, "balance_before": 0, "balance": 500, "kind": "bonus",
        "reason": "goodwill", "note": "Sorry", "ticket": "48121", "campaign": "spring", "operator": "support1",
        "request_id": "r1", "idempotency_key": "bonus:spring", "batch_id": None, "reverses": None,
        "reversed_by": None, "stands": True, "reversals": [], "undo": "tokenctl reverse u1:1 --reason mistake",
        "undo_missing": 0,
        "fingerprint": hashlib.sha256(b"2:u15:bonus3:5008:goodwill5:481216:spring").hexdigest(),
    }  # fmt: skip
    [row] = cli("show", "u1:1").lines
    at = row[6]
    assert row == [
        "u1:1", "counts", "bonus", "500", "0", "500", at, "goodwill", "Sorry", "48121", "spring", "",
        f"support1 ({claimed_by})", "", "", "bonus:spring", "r1", data["fingerprint"],
        "tokenctl reverse u1:1 --reason mistake",
    ]  # fmt: skip


def test_the_printed_undo_undoes_it_and_then_its_reversal(cli: Cli) -> None:
    cli.grant("u1", 500)
    balances = []
    for _ in range(4):
        data = cli("show", "u1:1", "--json").json["data"]
        undo = data["undo"] or f"tokenctl reverse {data['reversals'][-1]['id']} --reason mistake"
        assert cli(*shlex.split(undo)[1:], "--yes").code == 0
        balances.append((data["stands"], cli.balance()))
    assert balances == [(True, 0), (False, 500), (True, 0), (False, 500)]


def test_an_entry_and_its_reversals_name_each_other(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    first, second = (cli("show", f"u1:{seq}", "--json").json["data"] for seq in (1, 2))
    assert (first["reversed_by"], first["stands"], first["undo"]) == ("u1:2", False, None)
    assert [(r["id"], r["amount"], r["operator"], r["reason"]) for r in first["reversals"]] == [
        ("u1:2", -500, "support1", "mistake")
    ]
    assert (second["reverses"], second["stands"]) == ("u1:1", True)
    table = cli("show", "u1:1", "--format", "table").text
    assert re.search(r"^ STATE +undone by u1:2$", table, re.MULTILINE)
    assert re.search(r"^ REVERSED BY +u1:2 \(20\d\d-\d\d-\d\d \d\d:\d\d UTC, support1, mistake\)$", table, re.MULTILINE)
    assert "UNDO" not in table
    assert cli("show", "u1:1").lines[0][13:15] == ["", "u1:2"]  # REVERSES and REVERSED BY, for programs the names alone
    assert cli("show", "u1:2").lines[0][13:15] == ["u1:1", ""]
    assert " REVERSES     u1:1, and stands\n" in cli("show", "u1:2", "--format", "table").text
    cli("reverse", "u1:2", "--reason", "mistake", "--yes")
    again = cli("show", "u1:1", "--format", "table").text
    assert " STATE        counts again: u1:3 reversed its reversal\n" in again
    assert " UNDO         tokenctl reverse u1:3 --reason mistake\n" in again
    assert cli("show", "u1:1").lines[0][14] == "u1:2"
    assert "u1:1, and was reversed itself" in cli("show", "u1:2", "--format", "table").text


def test_what_is_spent_or_held_cannot_be_undone_now(cli: Cli) -> None:
    cli.grant("u1", 500)
    hold(cli.db, "u1", 200)
    data = cli("show", "u1:1", "--json").json["data"]
    assert (data["undo"], data["undo_missing"]) == (None, 200)
    assert " UNDO         not now: 200 tokens are spent or held\n" in cli("show", "u1:1", "--format", "table").text


def test_a_name_is_split_at_its_last_colon(cli: Cli) -> None:
    cli.grant("a:b:7", 5)
    assert cli("show", "a:b:7:1", "--json").json["data"]["user_id"] == "a:b:7"


def test_what_is_not_there_is_1_with_a_hint_and_an_unknown_user_67(cli: Cli) -> None:
    cli.grant("u1", 5)
    got = cli("show", "u1:2", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:not-found")
    assert got.problem["detail"] == "no transaction u1:2 in ledger env"
    assert got.problem["hint"] == "tokenctl history u1 lists those of the user"
    got = cli("show", "u2:1", "--json")
    assert (got.code, got.problem["nearest"]) == (67, ["u1"])


@pytest.mark.parametrize("name", ["u1", "u1:", ":1", "u1:0", "u1:x", "u1:1:", "-u:1"])
def test_what_is_no_name_is_a_usage_error(cli: Cli, name: str) -> None:
    got = cli("show", "--", name)
    assert (got.code, got.out) == (2, b"")
    assert got.err.startswith("tokenctl: USER:SEQ: ")


@pytest.mark.parametrize("columns", [60, 40])
def test_a_narrow_terminal_cuts_nothing(cli: Cli, columns: int) -> None:
    write(cli.db, "u_42", [Row(1_000_000, "purchase", "shop", at=hours(1), batch="0123456789ab")])
    seen = on_terminal("show", "u_42:1", columns=columns, env=environment(TERM="xterm", NO_COLOR="1")).text
    for whole in (" TRANSACTION  u_42:1\n", " AMOUNT       +1,000,000\n", "2026-11-23 17:04 UTC", "0123456789ab"):
        assert whole in seen
    assert "NOTE" not in seen  # what is not there is left out


def test_text_of_the_ledger_steers_nothing(cli: Cli) -> None:
    hostile = "[/] \x1b]52;c;eA==\x07\u202e[red]\ntokenctl: forged"
    write(cli.db, "u1", [Row(5, reason="[/]\x1b[31m", ticket=hostile, note=hostile, operator=hostile)])
    for form in ("table", "tsv", "json"):
        got = cli("show", "u1:1", "--format", form)
        assert got.code == 0
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", got.text)
        assert "\ntokenctl: forged" not in got.text
    seen = without_escapes(on_terminal("show", "u1:1", columns=200).text)
    assert r"[/] \x1b]52;c;eA==\x07\u202e[red]\x0atokenctl: forged" in seen


def test_a_reader_may_look(cli: Cli) -> None:
    cli.grant("u1", 5)
    before = cli.written()
    cli.login("reader1")
    assert cli("show", "u1:1").code == 0
    assert cli.written() == before
