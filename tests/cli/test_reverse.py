"""`reverse USER:SEQ`: the linked entry, once, and never more than is available."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.cli.running import Cli, Ran
from tests.cli.test_cached_balance import lossy_address
from tests.pg import hold, post, reverse
from tests.proxy import NOTHING, WITHIN_REPLY
from tokenctl.models import Receipt
from tokenctl.storage.ledger import Ledger

ROWS = (
    "SELECT seq, amount, balance_after, kind, reason, note, ticket, campaign, reverses_seq, request_id, idempotency_key"
    " FROM tokenctl.token_transactions WHERE user_id = 'u1' ORDER BY seq"
)
REFUSALS = "SELECT action, outcome, subject, arguments ->> 'missing' FROM tokenctl.audit_log"


def test_every_option_reaches_the_linked_entry(cli: Cli) -> None:
    cli.grant("u1", 500, "--campaign", "spring", "--request-id", "r1")
    options = ("--reason", "mistake", "--note", "wrong user", "--ticket", "T9", "--idempotency-key", "undo-1")
    got = cli("reverse", "u1:1", *options, "--request-id", "r2", "-y")
    assert got.code == 0
    assert cli.db.rows(ROWS) == [
        (1, 500, 500, "bonus", "goodwill", None, None, "spring", None, "r1", "bonus:spring"),
        (2, -500, 0, "bonus", "mistake", "wrong user", "T9", None, 1, "r2", "undo-1"),
    ]
    cli.db.check()


def test_the_receipt_names_both_entries(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli.grant("u1", 70)
    document = cli("reverse", "u1:1", "--reason", "mistake", "--yes", "--json").json
    assert document["schema"] == "tokenctl.reversal.v1"
    data = document["data"]
    assert (data["id"], data["reverses"], data["amount"]) == ("u1:3", "u1:1", -500)
    assert (data["balance_before"], data["balance"]) == (570, 70)
    got = cli("reverse", "u1:2", "--reason", "mistake", "--yes")
    assert "u1   balance 70 → 0   -70 mistake" in got.err
    assert got.lines[0][0] == "u1:4"


def test_a_transaction_is_reversed_once(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli.grant("u1", 70)
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0
    got = cli("reverse", "u1:1", "--reason", "mistake", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:already-reversed")
    assert got.problem["transaction"] == "u1:3"
    assert "u1:1 is already reversed by u1:3 (-500 mistake; " in got.problem["detail"]
    assert cli.balance() == 70
    assert cli.db.rows(REFUSALS) == [("reverse", "already_reversed", "u1:1", None)]


def test_the_same_key_again_is_a_replay(cli: Cli) -> None:
    cli.grant("u1", 500)
    options = ("--reason", "mistake", "--idempotency-key", "undo", "--yes")
    first = cli("reverse", "u1:1", *options, "--json").json["data"]
    again = cli("reverse", "u1:1", *options, "--json").json
    assert again["data"] == first
    assert again["meta"]["replayed"] is True
    told = cli("reverse", "u1:1", *options).err
    assert "already reversed: u1:2 at 20" in told
    assert "✓" not in told
    assert cli("reverse", "u1:1", *options, "-q") == Ran(0, b"", "")
    assert cli.written() == (1, 2, 0)
    assert cli("reverse", "u1:1", "--reason", "other", "--idempotency-key", "undo", "--yes").code == 65


def test_a_reversal_can_be_reversed(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    assert cli("reverse", "u1:2", "--reason", "mistake", "--yes").code == 0
    assert cli.balance() == 500
    again = cli.grant("u1", 500, "--json")  # the first grant counts again
    assert "already granted" in again.err
    data = again.json["data"]
    assert (data["id"], data["undo"]) == ("u1:1", "tokenctl reverse u1:3 --reason mistake")
    assert cli("show", "u1:1", "--json").json["data"]["undo"] == data["undo"]
    told = cli("reverse", "u1:1", "--reason", "other", "--idempotency-key", "k9", "--yes")
    assert told.code == 1
    assert "nothing was changed; tokenctl show u1:1 says whether it counts, and how to undo it\n" in told.err
    assert cli(*shlex.split(data["undo"])[1:], "--yes").code == 0
    assert cli.balance() == 0
    cli.db.check()


def test_tokens_that_are_spent_cannot_be_taken_back(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli.grant("u1", 100)
    cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    cli.db.rows(  # spend 60 of the 100, as a generation will
        "SELECT tokenctl.post_one('u1', 'generation', -60, 'image', NULL, NULL, NULL, 'g1', NULL, 'r', 'c', false)"
    )
    got = cli("reverse", "u1:2", "--reason", "mistake", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:insufficient-tokens")
    assert got.problem["missing"] == 60
    assert got.problem["detail"] == "u1 lacks 60 tokens: balance 40, held 0"
    assert cli.balance() == 40
    assert cli.db.rows(REFUSALS) == [("reverse", "insufficient", "u1:2", "60")]


def test_tokens_that_are_held_cannot_be_taken_back(cli: Cli) -> None:
    cli.grant("u1", 500)
    hold(cli.db, "u1", 200)
    got = cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    assert got.code == 1
    assert "u1 lacks 200 tokens: balance 500, held 200" in got.err
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0


def test_a_dry_run_writes_nothing(cli: Cli) -> None:
    cli.grant("u1", 500)
    got = cli("reverse", "u1:1", "--reason", "mistake", "--dry-run")
    assert got.code == 0
    assert "dry run, nothing was written: u1   balance 500 → 0" in got.err
    assert cli("reverse", "u1:1", "--reason", "mistake", "-n", "--json").json["meta"]["dry_run"] is True
    hold(cli.db, "u1", 1)
    assert cli("reverse", "u1:1", "--reason", "mistake", "-n").code == 1
    assert cli("reverse", "u1:7", "--reason", "mistake", "-n").code == 1
    assert cli.written() == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "code", "kind"), [("u1:2", 1, "not-found"), ("u1:999", 1, "not-found"), ("u9:1", 67, "user-not-found")]
)
def test_what_is_not_there_cannot_be_reversed(cli: Cli, name: str, code: int, kind: str) -> None:
    cli.grant("u1", 500)
    got = cli("reverse", name, "--reason", "mistake", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (code, f"urn:tokenctl:problem:{kind}")
    assert cli.balance() == 500
    assert len(cli.db.rows(REFUSALS)) == 1


def test_an_entry_that_is_not_there_is_named(cli: Cli) -> None:
    cli.grant("u1", 500)
    problem = cli("reverse", "u1:99", "--reason", "mistake", "--yes", "--json").problem
    assert problem["title"] == "No such transaction, batch or hold"
    assert problem["detail"] == "no transaction u1:99 in ledger env"
    assert problem["hint"] == "tokenctl history u1 lists those of the user"


def test_what_becomes_possible_after_the_look_is_not_done_unasked(cli: Cli) -> None:
    cli.grant("u1", 500)
    real = Ledger.preview_reversal

    def overtaken(*args: Any, **options: Any) -> Receipt:
        receipt = real(*args, **options)
        post(cli.db.connect("support1"), "u1", 70, key="overtakes")  # makes the entry that was not there
        return receipt

    cli.patch.setattr(Ledger, "preview_reversal", overtaken)
    assert cli("reverse", "u1:2", "--reason", "mistake", "--yes").code == 1
    assert cli.written() == (1, 2, 1)


def meanwhile(cli: Cli, **given: Any) -> None:
    """Have somebody else reverse u1:1 when the next command has looked, and before it posts."""
    real = Ledger.reverse

    def overtaken(*args: Any) -> Receipt:
        assert reverse(cli.db.connect("support2"), "u1", 1, **given)["outcome"] == "applied"
        return real(*args)

    cli.patch.setattr(Ledger, "reverse", overtaken)


@pytest.mark.parametrize("reason", ["mistake", "other"])
def test_what_somebody_else_reverses_meanwhile_is_no_success(cli: Cli, reason: str) -> None:
    cli.grant("u1", 500)
    meanwhile(cli, reason=reason)
    got = cli("reverse", "u1:1", "--reason", "mistake", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:already-reversed")
    assert f"u1:1 is already reversed by u1:2 (-500 {reason}; " in got.problem["detail"]
    assert "✓" not in got.err
    assert cli.balance() == 0


@pytest.mark.parametrize("shared", [("--idempotency-key", "undo"), ("--request-id", "twice")])
def test_what_a_run_with_the_same_name_reverses_meanwhile_is_a_replay(cli: Cli, shared: tuple[str, str]) -> None:
    cli.grant("u1", 500)
    meanwhile(cli, **{"--idempotency-key": {"key": "undo"}, "--request-id": {"request_id": "twice"}}[shared[0]])
    got = cli("reverse", "u1:1", "--reason", "mistake", "--yes", *shared, "--json")
    assert (got.code, got.json["meta"]["replayed"], got.json["data"]["id"]) == (0, True, "u1:2")
    [line] = got.json["meta"]["warnings"]
    assert line.startswith("already reversed: u1:2 at 20")
    assert line.endswith(" by support2 (me@here); nothing was changed")
    assert f"▸ {line}\n" in got.err
    assert "✓" not in got.err


def test_a_reversal_whose_answer_was_lost_is_this_runs_own(cli: Cli) -> None:
    cli.grant("u1", 500)
    with lossy_address(cli) as between:
        between.trigger, between.faults = b"reverse_v1", [NOTHING, WITHIN_REPLY]  # the look, then the reversal
        got = cli("reverse", "u1:1", "--reason", "mistake", "--yes", "--json")
    assert (got.code, between.befallen) == (0, 2)
    assert (got.json["meta"]["replayed"], got.json["meta"]["warnings"]) == (False, [])
    assert "reversed u1:1, balance 0" in got.err
    assert cli.written() == (1, 2, 0)


def test_an_unknown_batch(cli: Cli) -> None:
    cli.login("batch1")
    got = cli("reverse", "--batch", "0123456789ab", "--reason", "mistake", "--yes")
    assert got.code == 1
    assert "no batch 0123456789ab in this ledger" in got.err


def test_the_name_splits_at_the_last_colon(cli: Cli) -> None:
    cli.grant("team:a:1", 5)
    cli.grant("team:a", 7)
    assert cli("reverse", "team:a:1:1", "--reason", "mistake", "--yes").code == 0
    assert (cli.balance("team:a:1"), cli.balance("team:a")) == (0, 7)


def test_the_kind_stays_what_it_was(cli: Cli) -> None:
    post(cli.db.connect("batch1"), "u1", 10, kind="purchase")
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0
    assert [row[3] for row in cli.db.rows(ROWS)] == ["purchase", "purchase"]


def test_a_reader_may_not_reverse(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli.login("reader1")
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 77
    assert cli.balance() == 500


def test_quiet_is_silent(cli: Cli) -> None:
    cli.grant("u1", 500)
    got = cli("reverse", "u1:1", "--reason", "mistake", "--yes", "-q")
    assert (got.code, got.out, got.err) == (0, b"", "")
    assert cli.balance() == 0
