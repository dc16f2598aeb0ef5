"""The single-user posting path, called as support staff's role calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.pg import LedgerDB, hold, post, reverse

BIGGEST = 2**53 - 1


def test_a_grant_is_posted_with_everything_that_was_said(each_db: LedgerDB) -> None:
    got = post(each_db.connect("support1"), "u1", 500, reason="goodwill", note="söz", ticket="T-1", request_id="r1")
    assert got["outcome"] == "applied"
    assert (got["seq"], got["balance_before"], got["balance_after"]) == (1, 0, 500)
    stored = each_db.rows(
        "SELECT user_id, seq, amount, balance_after, kind, reason, note, ticket, campaign, operator, claimed_by,"
        " request_id, batch_id, reverses_seq FROM tokenctl.token_transactions"
    )
    assert stored == [
        ("u1", 1, 500, 500, "bonus", "goodwill", "söz", "T-1", None, "support1", "me@here", "r1", None, None)
    ]
    each_db.check()


def test_the_same_grant_on_the_same_day_is_the_same_grant(each_db: LedgerDB) -> None:
    connection = each_db.connect("support1")
    first = post(connection, note="one")
    again = post(connection, note="another note is no other grant", request_id="later")
    assert (first["outcome"], again["outcome"]) == ("applied", "replayed")
    assert (again["seq"], again["note"], again["request_id"]) == (1, "one", "request")
    assert again["idempotency_key"] == first["idempotency_key"]
    each_db.check()


@pytest.mark.parametrize("other", [{"amount": 11}, {"reason": "other"}, {"ticket": "T"}, {"user": "u2"}])
def test_a_derived_key_differs_when_the_grant_differs(ledger_db: LedgerDB, other: dict[str, object]) -> None:
    connection = ledger_db.connect("support1")
    first, second = post(connection), post(connection, **other)  # type: ignore[arg-type]  # keywords by name
    assert second["outcome"] == "applied"
    assert second["idempotency_key"] != first["idempotency_key"]


@pytest.mark.parametrize("other", [{"amount": 11}, {"reason": "other"}, {"ticket": "T"}, {"campaign": "c"}])
def test_one_key_with_other_content_is_a_conflict_and_changes_nothing(
    ledger_db: LedgerDB, other: dict[str, object]
) -> None:
    connection = ledger_db.connect("support1")
    post(connection, key="k")
    got = post(connection, key="k", **other)  # type: ignore[arg-type]  # keywords by name
    assert (got["outcome"], got["amount"], got["seq"]) == ("conflict", 10, 1)
    assert ledger_db.rows("SELECT balance, last_seq FROM tokenctl.token_accounts") == [(10, 1)]
    assert ledger_db.rows("SELECT action, outcome, subject FROM tokenctl.audit_log") == [("grant", "conflict", "u1")]


def test_a_campaign_is_one_claim_per_user(ledger_db: LedgerDB) -> None:
    connection = ledger_db.connect("support1")
    assert post(connection, "u1", campaign="spring")["idempotency_key"] == "bonus:spring"
    assert post(connection, "u1", campaign="spring")["outcome"] == "replayed"
    assert post(connection, "u1", 11, campaign="spring")["outcome"] == "conflict"
    assert post(connection, "u2", campaign="spring")["outcome"] == "applied"


def test_no_user_is_made_unless_asked(ledger_db: LedgerDB) -> None:
    got = post(ledger_db.connect("support1"), new_user=False)
    assert got["outcome"] == "unknown_user"
    assert ledger_db.rows("SELECT count(*) FROM tokenctl.token_accounts") == [(0,)]


def test_a_balance_stays_within_what_json_can_carry(ledger_db: LedgerDB) -> None:
    connection = ledger_db.connect("support1")
    for n in range(9):
        post(connection, amount=999_999_999_999_999, key=f"k{n}")
    assert post(connection, amount=BIGGEST - 9 * 999_999_999_999_999, key="last")["balance_after"] == BIGGEST
    assert post(connection, amount=1, key="more")["outcome"] == "too_large"
    ledger_db.check()


@pytest.mark.parametrize("amount", [0, -5])
def test_a_grant_is_never_negative(ledger_db: LedgerDB, amount: int) -> None:
    import psycopg

    with pytest.raises(psycopg.errors.CheckViolation):
        post(ledger_db.connect("support1"), amount=amount)


@pytest.mark.parametrize(
    ("login", "kind", "outcome"),
    [
        ("support1", "bonus", "applied"),
        ("support1", "purchase", "not_allowed"),
        ("support1", "adjustment", "not_allowed"),
        ("support1", "generation", "not_allowed"),
        ("batch1", "purchase", "applied"),
        ("batch1", "adjustment", "not_allowed"),
        ("admin1", "adjustment", "applied"),
    ],
)
def test_which_role_may_post_which_kind(ledger_db: LedgerDB, login: str, kind: str, outcome: str) -> None:
    assert post(ledger_db.connect(login), kind=kind)["outcome"] == outcome
    refused = ledger_db.rows("SELECT operator FROM tokenctl.audit_log WHERE outcome = 'not_allowed'")
    assert refused == ([(login,)] if outcome == "not_allowed" else [])


def test_a_reversal_is_linked_and_happens_once(each_db: LedgerDB) -> None:
    connection = each_db.connect("support1")
    post(connection, amount=500)
    got = reverse(connection, "u1", 1, ticket="T-2")
    assert (got["outcome"], got["seq"], got["amount"], got["reverses_seq"]) == ("applied", 2, -500, 1)
    assert (got["kind"], got["reason"], got["ticket"], got["balance_after"]) == ("bonus", "mistake", "T-2", 0)
    again = reverse(connection, "u1", 1, request_id="later")
    assert (again["outcome"], again["seq"]) == ("already_reversed", 2)
    each_db.check()


def test_the_retry_of_a_reversal_is_told_from_a_second_one(ledger_db: LedgerDB) -> None:
    connection = ledger_db.connect("support1")
    post(connection)
    reverse(connection, "u1", 1, request_id="r")
    assert reverse(connection, "u1", 1, request_id="r")["outcome"] == "replayed"
    assert reverse(connection, "u1", 1, request_id="x", key="reverse:1")["outcome"] == "replayed"
    assert reverse(connection, "u1", 1, request_id="x", key="other")["outcome"] == "already_reversed"


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ({"key": "a"}, {"key": "b"}, "already_reversed"),
        ({}, {"key": "b"}, "already_reversed"),
        ({"key": "a"}, {"key": "reverse:1"}, "already_reversed"),
        ({}, {"reason": "other"}, "already_reversed"),
        ({"key": "a"}, {"reason": "other"}, "already_reversed"),
        ({}, {"reason": "other", "key": "reverse:1"}, "already_reversed"),
        ({}, {"reason": "other", "key": "reverse:1", "request_id": "x"}, "already_reversed"),
        ({"key": "a"}, {"reason": "other", "key": "a"}, "conflict"),
        ({"key": "a"}, {}, "replayed"),
        ({"key": "a"}, {"key": "a", "request_id": "x"}, "replayed"),
    ],
)
def test_a_second_reversal_is_a_conflict_only_of_a_key_that_somebody_chose(
    ledger_db: LedgerDB, first: dict[str, str], second: dict[str, str], outcome: str
) -> None:
    connection = ledger_db.connect("support1")
    post(connection, key="k")
    assert reverse(connection, "u1", 1, **first)["outcome"] == "applied"
    got = reverse(connection, "u1", 1, **second)
    assert (got["outcome"], got["seq"], got["reverses_seq"]) == (outcome, 2, 1)
    ledger_db.check()


def test_the_replay_of_a_reversed_grant_is_refused_until_the_reversal_is_undone(ledger_db: LedgerDB) -> None:
    connection = ledger_db.connect("support1")
    post(connection, key="k")
    reverse(connection, "u1", 1)
    assert post(connection, key="k")["outcome"] == "replay_reversed"
    undone = reverse(connection, "u1", 2)
    assert (undone["outcome"], undone["amount"]) == ("applied", 10)
    assert post(connection, key="k")["outcome"] == "replayed"
    ledger_db.check()


@pytest.mark.parametrize(("user", "seq", "outcome"), [("u1", 9, "unknown_entry"), ("nobody", 1, "unknown_user")])
def test_what_is_not_there_cannot_be_reversed(ledger_db: LedgerDB, user: str, seq: int, outcome: str) -> None:
    connection = ledger_db.connect("support1")
    post(connection)
    assert reverse(connection, user, seq)["outcome"] == outcome


def test_held_tokens_cannot_be_taken_back(each_db: LedgerDB) -> None:
    connection = each_db.connect("support1")
    post(connection, amount=100)
    hold(each_db, "u1", 30)
    got = reverse(connection, "u1", 1)
    assert (got["outcome"], got["held"], got["missing"]) == ("insufficient", 30, 30)


@pytest.mark.parametrize(("seconds", "state"), [(-1, "open"), (60, "released")])
def test_a_hold_past_its_deadline_or_released_no_longer_counts(ledger_db: LedgerDB, seconds: int, state: str) -> None:
    connection = ledger_db.connect("support1")
    post(connection, amount=100)
    hold(ledger_db, "u1", 30, seconds=seconds, state=state)
    assert reverse(connection, "u1", 1)["outcome"] == "applied"


def test_twins_that_post_at_once_post_once(each_db: LedgerDB) -> None:
    connections = [each_db.connect("support1") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(20):
            outcomes = [r["outcome"] for r in pool.map(lambda c, k=f"k{round_}": post(c, key=k), connections)]
            assert sorted(outcomes) == ["applied"] + ["replayed"] * 7
    assert each_db.rows("SELECT balance, last_seq FROM tokenctl.token_accounts") == [(200, 20)]
    each_db.check()


def test_reversals_at_once_are_one(each_db: LedgerDB) -> None:
    """Who comes second is told of the first, and of no constraint."""
    connections = [each_db.connect("support1") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for seq in range(1, 40, 2):
            post(connections[0], key=f"k{seq}")
            outcomes = [
                r["outcome"]
                for r in pool.map(
                    lambda c, n=seq: reverse(c, "u1", n, request_id=f"r{c.info.backend_pid}"), connections
                )
            ]
            assert sorted(outcomes) == ["already_reversed"] * 3 + ["applied"]
    each_db.check()


def test_time_never_runs_against_seq(ledger_db: LedgerDB) -> None:
    connection = ledger_db.connect("support1")
    post(connection, key="a")
    ledger_db.rows("UPDATE tokenctl.token_accounts SET updated_at = clock_timestamp() + interval '1 hour'")
    ahead = ledger_db.rows("SELECT updated_at FROM tokenctl.token_accounts")[0][0]
    assert post(connection, key="b")["created_at"] == ahead
    assert reverse(connection, "u1", 1)["created_at"] == ahead
    ledger_db.check()
