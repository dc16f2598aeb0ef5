"""`grant-bonus`: what each option changes, down to the row; replays, conflicts, refusals."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import socket
from typing import Any

import pytest

from tests.cli.running import Cli, Ran
from tests.cli.test_cached_balance import lossy_address
from tests.cli.test_pipeline import measured
from tests.pg import post
from tests.proxy import NOTHING, WITHIN_REPLY
from tokenctl.errors import Unavailable
from tokenctl.models import Receipt
from tokenctl.storage.history import History
from tokenctl.storage.ledger import Ledger

ROW = (
    "SELECT user_id, seq, amount, balance_after, kind, reason, note, ticket, campaign, operator, claimed_by,"
    " request_id, idempotency_key FROM tokenctl.token_transactions ORDER BY user_id, seq"
)
REFUSALS = "SELECT action, outcome, subject, operator, request_id, arguments FROM tokenctl.audit_log"


def undo_of(got: Ran) -> list[str]:
    """The words of the undo command that the receipt names."""
    program, *words = shlex.split(got.lines[0][-1])
    assert program == "tokenctl"
    return words


def test_every_option_reaches_the_row(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_OPERATOR", "ann")
    options = ["--amount", "500", "--reason", "goodwill", "--note", "söz: 3 hours", "--ticket", "T-1/2#3"]
    options += ["--idempotency-key", "k/1", "--new-user", "--yes", "--request-id", "run-7"]
    got = cli("grant-bonus", "u1", *options)
    assert got.code == 0
    claimed = f"ann@{socket.gethostname()}"
    assert cli.db.rows(ROW) == [
        ("u1", 1, 500, 500, "bonus", "goodwill", "söz: 3 hours", "T-1/2#3", None, "support1", claimed, "run-7", "k/1")
    ]
    cli.db.check()


def test_a_campaign_is_the_key(cli: Cli) -> None:
    cli.grant("u1", 50, "--campaign", "spring/2026")
    [row] = cli.db.rows(ROW)
    assert (row[8], row[12]) == ("spring/2026", "bonus:spring/2026")


def test_without_an_operator_the_system_user_is_the_claim(cli: Cli) -> None:
    cli.grant()
    [[claimed]] = cli.db.rows("SELECT claimed_by FROM tokenctl.token_transactions")
    assert re.fullmatch(rf"[^@]+@{re.escape(socket.gethostname())}", claimed)


def test_the_json_receipt_is_the_row(cli: Cli) -> None:
    cli.grant("u1", 1000)
    got = cli.grant("u1", 500, "--json", "--request-id", "r9", "--ticket", "T")
    document = got.json
    assert document["schema"] == "tokenctl.grant.v1"
    data = document["data"]
    [created] = [row[0] for row in cli.db.rows("SELECT created_at FROM tokenctl.token_transactions WHERE seq = 2")]
    assert dt.datetime.fromisoformat(data.pop("at")) == created
    key, claimed = data.pop("idempotency_key"), data.pop("claimed_by")
    assert cli.db.rows("SELECT idempotency_key, claimed_by FROM tokenctl.token_transactions WHERE seq = 2") == [
        (key, claimed)
    ]
    assert data == {
        "id": "u1:2",
        "user_id": "u1",
        "seq": 2,
        "kind": "bonus",
        "amount": 500,
        "balance_before": 1000,
        "balance": 1500,
        "reason": "goodwill",
        "note": None,
        "ticket": "T",
        "campaign": None,
        "operator": "support1",
        "request_id": "r9",
        "reverses": None,
        "undo": "tokenctl reverse u1:2 --reason mistake",
    }
    assert (document["meta"]["request_id"], document["meta"]["replayed"]) == ("r9", False)


def test_a_repeated_grant_is_told_where_its_undo_cannot_be_looked_up(cli: Cli) -> None:
    def lost(*_: object) -> None:
        raise Unavailable("gone")

    cli.grant("u1", 500)
    cli.patch.setattr(History, "chain", lost)
    got = cli.grant("u1", 500, "--json")
    assert (got.code, got.json["data"]["id"], got.json["data"]["undo"]) == (0, "u1:1", None)


def test_each_format_gives_the_receipt(cli: Cli) -> None:
    assert cli.grant("u1", 1, "--format", "value").out == b"u1:1\n"
    [row] = cli.grant("u1", 2).lines
    assert (row[0], row[2:5]) == ("u1:2", ["2", "1", "3"])
    table = cli.grant("u1", 1300, "--format", "table").text
    assert re.search(r"^ AFTER +1,303$", table, re.MULTILINE)
    assert "TICKET" not in table  # what a receipt lacks is left out for people
    assert json.loads(cli.grant("u1", 4, "--format", "jsonl").text)["data"]["seq"] == 4


def test_what_is_about_to_change_and_where_stands_on_standard_error_first(cli: Cli) -> None:
    cli.grant("u1", 1000)
    got = cli.grant("u1", 500, "--ticket", "48121")
    lines = got.err.splitlines()
    assert re.fullmatch(r"▸ env · ledger_\d+@\S+ · operator support1", lines[0])
    assert lines[1] == "  u1   balance 1,000 → 1,500   +500 goodwill, ticket 48121"
    assert lines[2].startswith("  key grant:")
    assert lines[3] == "✓ granted 500 tokens to u1, balance 1,500"
    assert got.lines[0][-1] == "tokenctl reverse u1:2 --reason mistake"


def test_the_printed_undo_command_undoes_it_once(cli: Cli) -> None:
    cli.grant("u1", 1000)
    undo = undo_of(cli.grant("u1", 500))
    assert cli(*undo, "--yes").code == 0
    assert cli.balance() == 1000
    assert cli(*undo, "--yes").code == 1
    assert cli.balance() == 1000
    cli.db.check()


def test_quiet_is_silent_on_success(cli: Cli) -> None:
    assert cli.grant("u1", 5, "-q") == Ran(0, b"", "")
    cli.patch.setenv("TOKENCTL_QUIET", "1")
    assert cli.grant("u1", 6) == Ran(0, b"", "")
    assert cli.balance() == 11
    asked_for = cli.grant("u1", 7, "--format", "value")
    assert (asked_for.out, asked_for.err) == (b"u1:3\n", "")


def test_the_same_grant_again_is_a_replay_that_says_when_and_by_whom(cli: Cli) -> None:
    first = cli.grant("u1", 500, "--json").json["data"]
    cli.login("support2")
    got = cli.grant("u1", 500)
    assert got.code == 0
    assert re.search(r"already granted: u1:1 at 20\d\d-\d\d-\d\d \d\d:\d\d UTC by support1 \(", got.err)
    assert "to grant once more add --ticket or --idempotency-key" in got.err
    assert cli.grant("u2", 500, "--ticket", "T1").code == 0
    again = cli.grant("u2", 500, "--ticket", "T1")
    assert "to grant once more give another --ticket, or --idempotency-key" in again.err
    replay = cli.grant("u1", 500, "--json").json
    assert replay["data"] == first
    assert replay["meta"]["replayed"] is True
    assert "already granted" in replay["meta"]["warnings"][0]
    assert cli.written() == (2, 2, 0)
    cli.login("support1")
    quiet = cli.grant("u1", 500, "-q")
    assert (quiet.code, quiet.out, "already granted" in quiet.err) == (0, b"", True)  # it may have been meant once more
    assert cli.grant("u1", 500, "-q", "--json").json["meta"]["replayed"] is True
    keyed = ("--idempotency-key", "k1", "-q")
    assert [cli.grant("u1", 500, *keyed) for _ in range(2)] == [Ran(0, b"", "")] * 2  # cron would mail it


def test_a_grant_whose_answer_was_lost_is_no_replay_and_is_counted(cli: Cli) -> None:
    """Whoever read "already granted" and how to grant once more would grant twice."""
    with lossy_address(cli) as between:
        between.faults = [NOTHING, WITHIN_REPLY]  # the look, then the grant itself
        got = cli.grant("u1", 500, "--json")
    assert (got.code, between.befallen) == (0, 2)
    assert (got.json["meta"]["replayed"], got.json["meta"]["warnings"]) == (False, [])
    assert "granted 500 tokens to u1, balance 500" in got.err
    assert "already granted" not in got.err
    assert measured()["bonus_grants_total", "other"] == 1
    assert cli.balance() == 500


def test_a_replay_needs_no_question(cli: Cli) -> None:
    options = ("--amount", "500", "--reason", "goodwill", "--idempotency-key", "k")
    assert cli("grant-bonus", "u1", *options, "--new-user", "--yes").code == 0
    assert cli("grant-bonus", "u1", *options, "--yes").code == 0
    assert cli.balance() == 500


@pytest.mark.parametrize("more", [("--ticket", "T2"), ("--idempotency-key", "again"), ("--campaign", "spring")])
def test_a_ticket_a_key_or_a_campaign_makes_another_grant(cli: Cli, more: tuple[str, str]) -> None:
    cli.grant("u1", 500)
    assert cli.grant("u1", 500, *more).code == 0
    assert cli.balance() == 1000


def test_a_campaign_is_claimed_once_by_each_user(cli: Cli) -> None:
    for user in ("u1", "u2", "u1"):
        assert cli.grant(user, 50, "--campaign", "spring").code == 0
    assert (cli.balance("u1"), cli.balance("u2")) == (50, 50)
    conflict = cli.grant("u1", 60, "--campaign", "spring")
    assert conflict.code == 65
    assert "campaign spring" in conflict.err
    assert "nothing was changed; a campaign is granted to a user once\n" in conflict.err


def test_one_key_with_other_content_is_a_conflict_that_shows_both(cli: Cli) -> None:
    cli.grant("u1", 500, "--idempotency-key", "k", "--ticket", "T1")
    got = cli.grant("u1", 600, "--idempotency-key", "k", "--json")
    assert got.code == 65
    problem = got.problem
    assert problem["type"] == "urn:tokenctl:problem:key-conflict"
    assert "u1:1 (+500 goodwill, ticket T1; " in problem["detail"]
    assert problem["detail"].endswith("asked for now: +600 goodwill")
    assert (problem["key"], problem["transaction"]) == ("k", "u1:1")
    assert cli.balance() == 500
    [(action, outcome, subject, operator, request_id, arguments)] = cli.db.rows(REFUSALS)
    assert (action, outcome, subject, operator) == ("grant", "conflict", "u1", "support1")
    assert request_id == problem["instance"].rpartition(":")[2]
    assert (arguments["amount"], arguments["key"]) == (600, "k")


def test_another_note_is_no_other_grant(cli: Cli) -> None:
    cli.grant("u1", 500, "--note", "first")
    assert cli.grant("u1", 500, "--note", "second", "--json").json["data"]["note"] == "first"


def test_the_replay_of_a_reversed_grant_is_refused(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli("reverse", "u1:1", "--reason", "mistake", "--yes")
    got = cli.grant("u1", 500, "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:replay-of-reversed")
    assert (got.problem["transaction"], got.problem["reversed_by"]) == ("u1:1", "u1:2")
    assert "--ticket" in got.problem["hint"]
    assert cli.balance() == 0
    assert [row[1] for row in cli.db.rows(REFUSALS)] == ["replay_reversed"]
    assert cli.grant("u1", 500, "--ticket", "again").code == 0


def test_an_unknown_user_is_67_with_the_nearest_id_and_is_not_made(cli: Cli) -> None:
    cli.grant("user_42", 1)
    got = cli("grant-bonus", "user_24", "--amount", "5", "--reason", "goodwill", "--yes")
    assert (got.code, got.out) == (67, b"")
    assert "no user 'user_24' in ledger env" in got.err
    assert "did you mean user_42?" in got.err
    assert cli.written() == (1, 1, 1)
    assert [row[:3] for row in cli.db.rows(REFUSALS)] == [("grant", "unknown_user", "user_24")]


def test_a_user_who_comes_after_the_look_is_given_nothing_unasked(cli: Cli) -> None:
    real = Ledger.preview_grant

    def overtaken(*args: Any, **options: Any) -> Receipt:
        receipt = real(*args, **options)
        post(cli.db.connect("support1"), "u1", 70, key="overtakes")
        return receipt

    cli.patch.setattr(Ledger, "preview_grant", overtaken)
    assert cli("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes").code == 67
    assert cli.written() == (1, 1, 1)


def test_a_known_user_needs_no_flag_and_the_flag_does_no_harm(cli: Cli) -> None:
    cli.grant("u1", 1)
    assert cli("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes").code == 0
    assert cli.grant("u1", 7).code == 0
    assert cli.written() == (1, 3, 0)


@pytest.mark.parametrize("how", ["--dry-run", "-n"])
def test_a_dry_run_checks_everything_and_writes_nothing(cli: Cli, how: str) -> None:
    cli.grant("u1", 1000)
    before = cli.written()
    got = cli("grant-bonus", "u1", "--amount", "500", "--reason", "goodwill", how)
    assert got.code == 0
    assert "dry run, nothing was written: u1   balance 1,000 → 1,500" in got.err
    document = cli("grant-bonus", "u1", "--amount", "500", "--reason", "goodwill", how, "--json").json
    assert document["meta"]["dry_run"] is True
    data = document["data"]
    assert (data["id"], data["seq"], data["undo"]) == (None, None, None)
    assert (data["balance_before"], data["balance"]) == (1000, 1500)
    assert cli("grant-bonus", "u1", "--amount", "1000", "--reason", "goodwill", how, "--json").json["meta"]["replayed"]
    got = cli("grant-bonus", "nobody", "--amount", "5", "--reason", "goodwill", how)
    assert (got.code, "grant-bonus --new-user and batch-import make users" in got.err) == (67, True)
    assert cli("grant-bonus", "new", "--amount", "5", "--reason", "goodwill", "--new-user", how).code == 0
    conflict = ("--amount", "7", "--reason", "goodwill", "--idempotency-key", data["idempotency_key"])
    assert cli("grant-bonus", "u1", *conflict, how).code == 0  # nothing was written under that key
    assert cli.written() == before


def test_a_dry_run_tells_which_number_the_run_will_want(cli: Cli) -> None:
    asked = ("grant-bonus", "u1", "--reason", "goodwill", "--new-user", "--dry-run", "--amount")
    got = cli(*asked, "5001")
    told = "  above the limit of 5,000 tokens for one grant: it will need --confirm-amount 5001\n"
    assert (got.code, got.err.endswith(told)) == (0, True)
    assert "it will need" not in cli(*asked, "5001", "--confirm-amount", "5001").err
    assert "it will need" not in cli(*asked, "5000").err


def test_a_dry_run_meets_a_conflict_and_leaves_no_trace(cli: Cli) -> None:
    cli.grant("u1", 500, "--idempotency-key", "k")
    assert cli.grant("u1", 600, "--idempotency-key", "k", "-n").code == 65
    assert cli.written() == (1, 1, 0)


def test_the_balance_has_a_ceiling(cli: Cli) -> None:
    most = 10**15 - 1
    for number in range(9):
        assert cli.grant("u1", most, "--confirm-amount", str(most), "--ticket", f"T{number}").code == 0
    got = cli.grant("u1", most, "--confirm-amount", str(most), "--ticket", "T9", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:balance-too-large")
    assert cli.balance() == 9 * most
    assert [row[1] for row in cli.db.rows(REFUSALS)] == ["too_large"]


def test_a_role_that_may_only_read_is_told_so_and_recorded_nowhere_it_cannot_write(cli: Cli) -> None:
    cli.grant("u1", 500)
    cli.login("reader1")
    got = cli.grant("u1", 600, "--json")
    assert (got.code, got.problem["type"]) == (77, "urn:tokenctl:problem:not-allowed")
    assert cli("balance", "u1", "--format", "value").out == b"500\n"
    assert cli.written() == (1, 1, 0)


def test_the_key_that_is_printed_is_the_key_that_was_used(cli: Cli) -> None:
    got = cli.grant("u1", 500)
    [[key]] = cli.db.rows("SELECT idempotency_key FROM tokenctl.token_transactions")
    assert f"  key {key}\n" in got.err
    assert cli.grant("u1", 500, "--idempotency-key", key).code == 0
    assert cli.balance() == 500
