"""Holds of paid jobs: made, claimed, captured or released, once, whatever happens in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.pg import Connection, LedgerDB, call, post, reverse

ID, OTHER = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
INPUT = "a" * 64


def opened(connection: Connection, **given: object) -> dict[str, Any]:
    values = {
        "user": "u1", "id": ID, "amount": 40, "hold_s": 600, "key": "k1", "model": "m", "quality": "2K",
        "aspect": None, "price": "v1", "input": INPUT, "request": "r1", "who": "me@here", **given,
    }  # fmt: skip
    return call(
        connection,
        "SELECT (g).* FROM tokenctl.generation_open_v1(%(user)s, %(id)s, %(amount)s, %(hold_s)s, %(key)s, %(model)s,"
        " %(quality)s, %(aspect)s, %(price)s, %(input)s, %(request)s, %(who)s) AS g",
        values,
    )


def claim(
    connection: Connection, request: str = "r1", *, generation: str = ID, lease_s: int = 60, most: int = 3
) -> dict[str, Any]:
    values: dict[str, object] = {"id": generation, "lease": lease_s, "most": most, "request": request}
    return call(
        connection,
        "SELECT (g).* FROM tokenctl.generation_claim_v1('u1', %(id)s, %(lease)s, 700, %(most)s, %(request)s) AS g",
        values,
    )


def capture(connection: Connection, generation: str = ID, *, lease: str = "r1") -> dict[str, Any]:
    return call(
        connection,
        "SELECT (g).* FROM tokenctl.generation_capture_v1('u1', %(id)s, repeat('c', 64), 1234, 2048, 2048, 'resp',"
        """ 'm-1', '{"total": 7}', %(lease)s, 'r1', 'me@here') AS g""",
        {"id": generation, "lease": lease},
    )


def release(
    connection: Connection, request: str = "r1", *, force: bool = False, past_only: bool | None = False
) -> dict[str, Any]:
    return call(
        connection,
        "SELECT (g).* FROM tokenctl.generation_release_v1('u1', %(id)s, 'blocked', %(force)s, %(past_only)s,"
        " %(request)s, 'r1', 'me') AS g",
        {"id": ID, "force": force, "past_only": past_only, "request": request},
    )


@pytest.fixture
def rich(each_db: LedgerDB) -> Connection:
    """support1 on a ledger where u1 has 100 tokens."""
    connection = each_db.connect("support1")
    post(connection, "u1", 100, key="opening")
    return connection


def test_from_hold_to_payment(each_db: LedgerDB, rich: Connection) -> None:
    held = opened(rich)
    assert (held["outcome"], held["balance"], held["available"], held["attempts"]) == ("held", 100, 60, 0)
    claimed = claim(rich)
    assert (claimed["outcome"], claimed["attempts"]) == ("claimed", 1)
    paid = capture(rich)
    assert (paid["outcome"], paid["captured_seq"], paid["balance"], paid["available"]) == ("captured", 2, 60, 60)
    assert each_db.rows(
        "SELECT amount, kind, reason, operator, claimed_by, request_id, idempotency_key"
        " FROM tokenctl.token_transactions WHERE seq = 2"
    ) == [(-40, "generation", "image-2k", "support1", "me@here", "r1", f"generation:{ID}")]
    assert each_db.rows("SELECT state, captured_seq, settled_at IS NULL FROM tokenctl.token_holds") == [
        ("captured", 2, False)
    ]
    assert each_db.rows("SELECT image_bytes, width, response_id, usage, lease_until FROM tokenctl.generations") == [
        (1234, 2048, "resp", {"total": 7}, None)
    ]
    again = capture(rich)
    assert (again["outcome"], again["captured_seq"]) == ("captured", 2)
    assert release(rich)["outcome"] == "captured"
    assert claim(rich)["outcome"] == "captured"
    assert opened(rich, id=OTHER)["generation_id"] == ID  # the key knows what it began
    each_db.check()


def test_a_release_gives_the_tokens_back_once_and_excludes_the_capture(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    freed = release(rich)
    assert (freed["outcome"], freed["available"]) == ("released", 100)
    assert (release(rich)["outcome"], capture(rich)["outcome"], claim(rich)["outcome"]) == ("released",) * 3
    assert each_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(100,)]
    assert each_db.rows("SELECT released_why FROM tokenctl.generations") == [("blocked",)]
    each_db.check()


def test_capture_and_release_at_once_end_in_one_of_them(each_db: LedgerDB, rich: Connection) -> None:
    connections = [each_db.connect("support1") for _ in range(8)]
    opened(rich)
    claim(rich)
    with ThreadPoolExecutor(8) as pool:
        works = [capture if n % 2 else release for n in range(8)]
        ends = list(pool.map(lambda pair: pair[0](pair[1])["outcome"], zip(works, connections, strict=True)))
    assert len(set(ends)) == 1
    paid = ends[0] == "captured"
    assert each_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(60 if paid else 100,)]
    each_db.check()


def test_the_same_key_asks_for_the_same(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    for other in (
        {"amount": 41}, {"model": "x"}, {"quality": "4K"}, {"aspect": "1:1"}, {"price": "v2"}, {"input": "b" * 64},
    ):  # fmt: skip
        refused = opened(rich, id=OTHER, **other)
        assert (refused["outcome"], refused["generation_id"]) == ("conflict", ID)
    assert opened(rich, id=OTHER)["outcome"] == "open"
    assert each_db.rows("SELECT count(*), sum(amount) FROM tokenctl.token_holds") == [(1, 40)]


def test_what_was_released_or_ran_out_is_held_again(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    release(rich)
    again = opened(rich, id=OTHER, request="r2")
    assert (again["outcome"], again["generation_id"], again["attempts"], again["available"]) == ("held", ID, 0, 60)
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    assert claim(rich)["outcome"] == "expired"
    post(rich, "u1", 10, key="more")
    assert opened(rich)["outcome"] == "held"
    assert claim(rich)["outcome"] == "claimed"


def test_a_hold_needs_what_is_available(each_db: LedgerDB, rich: Connection) -> None:
    assert opened(rich, amount=101)["outcome"] == "insufficient"
    opened(rich, amount=70)
    refused = opened(rich, id=OTHER, key="k2")
    assert (refused["outcome"], refused["missing"], refused["available"]) == ("insufficient", 10, 30)
    assert opened(rich, user="nobody")["outcome"] == "unknown_user"
    assert each_db.rows("SELECT action, outcome FROM tokenctl.audit_log ORDER BY audit_id") == [
        ("generate", "insufficient"), ("generate", "insufficient"),
    ]  # fmt: skip
    assert reverse(rich, "u1", 1)["outcome"] == "insufficient"  # held tokens can't be taken back
    each_db.check()


def test_two_jobs_at_once_hold_no_more_than_there_is(each_db: LedgerDB, rich: Connection) -> None:
    assert not rich.closed
    connections = [each_db.connect("support1") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda n: opened(connections[n], id=f"{n:012x}", key=f"k{n}")["outcome"], range(8)))
    assert sorted(ends) == ["held"] * 2 + ["insufficient"] * 6
    each_db.check()


def test_one_request_at_a_time_may_call_and_so_often(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    assert claim(rich, "r1")["outcome"] == "claimed"
    busy = claim(rich, "r2")
    assert (busy["outcome"], busy["lease_until"] is not None) == ("busy", True)
    assert release(rich, "r2")["outcome"] == "busy"
    assert claim(rich, "r1")["attempts"] == 2  # its own lease is no obstacle: another try
    each_db.rows("UPDATE tokenctl.generations SET lease_until = now() - interval '1 s'")
    assert claim(rich, "r2")["attempts"] == 3
    assert claim(rich, "r2")["outcome"] == "exhausted"
    assert release(rich, "r1", force=True)["outcome"] == "released"
    assert each_db.rows("SELECT action, subject FROM tokenctl.audit_log") == [("release", "u1")]


def test_eight_claims_at_once_are_one(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    connections = [each_db.connect("support1") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda n: claim(connections[n], f"r{n}")["outcome"], range(8)))
    assert sorted(ends) == ["busy"] * 7 + ["claimed"]


def test_only_who_claimed_it_last_is_paid(each_db: LedgerDB, rich: Connection) -> None:
    """Asked of the function itself: the program looks first."""
    opened(rich)
    assert capture(rich)["outcome"] == "busy"  # nobody has claimed it
    claim(rich, "another run")
    assert capture(rich)["outcome"] == "busy"
    assert each_db.rows("SELECT state FROM tokenctl.token_holds") == [("open",)]
    assert each_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(100,)]


@pytest.mark.parametrize(
    "given",
    [
        "NULL, 700, 3, 'r2'",
        "60, NULL, 3, 'r2'",
        "60, 700, NULL, 'r2'",
        "60, 700, 3, NULL",
        "60, 700, 3, ''",
        "-1, 700, 3, 'r2'",
    ],
)
def test_a_claim_says_whose_it_is_for_how_long_and_of_how_many(each_db: LedgerDB, rich: Connection, given: str) -> None:
    opened(rich)
    claim(rich)
    before = each_db.rows("SELECT lease_by, lease_until, attempts FROM tokenctl.generations")
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        rich.execute(f"SELECT tokenctl.generation_claim_v1('u1', '{ID}', {given})".encode())
    assert refused.value.diag.constraint_name == "claim_whole"
    assert each_db.rows("SELECT lease_by, lease_until, attempts FROM tokenctl.generations") == before


def test_nobody_is_not_who_has_the_lease(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    said = "SELECT (g).outcome FROM tokenctl.generation_release_v1('u1', '%s', 'x', %s, false, %s, 'r', 'me') AS g"
    payment = (
        "SELECT (g).outcome FROM tokenctl.generation_capture_v1('u1', '%s', repeat('c', 64), 1, 1, 1, 'r', 'm', '{}',"
        " NULL, 'r', 'me') AS g"
    )
    assert rich.execute((payment % ID).encode()).fetchone() == ("busy",)  # nor is it when nobody has it
    claim(rich)
    for force, lease_by in (("false", "NULL"), ("NULL", "'r2'"), ("NULL", "NULL")):
        assert rich.execute((said % (ID, force, lease_by)).encode()).fetchone() == ("busy",)
    assert rich.execute((payment % ID).encode()).fetchone() == ("busy",)
    assert each_db.rows(
        "SELECT state, lease_by FROM tokenctl.token_holds JOIN tokenctl.generations USING (user_id)"
    ) == [("open", "r1")]
    assert rich.execute((said % (ID, "NULL", "'r1'")).encode()).fetchone() == ("released",)
    each_db.check()


def test_a_claim_moves_the_deadline_along(rich: Connection) -> None:
    first = opened(rich, hold_s=10)["expires_at"]
    assert (claim(rich)["expires_at"] - first).total_seconds() > 600


def test_a_late_payment_is_taken_while_the_tokens_are_there(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    opened(rich, id=OTHER, key="k2", amount=50)
    assert capture(rich)["outcome"] == "captured"
    each_db.check()


def test_a_late_payment_never_takes_what_others_were_promised(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    opened(rich, id=OTHER, key="k2", amount=80)
    late = capture(rich)
    assert (late["outcome"], late["missing"], late["state"]) == ("insufficient", 20, "released")
    assert each_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(100,)]
    claim(rich, generation=OTHER)
    assert capture(rich, OTHER)["outcome"] == "captured"
    each_db.check()


def test_an_unknown_generation_is_told_by_every_step(rich: Connection) -> None:
    assert {claim(rich)["outcome"], capture(rich)["outcome"], release(rich)["outcome"]} == {"unknown_generation"}


def test_readers_look_and_do_not_touch(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    reader = each_db.connect("reader1")
    found = call(reader, "SELECT (g).* FROM tokenctl.generation_v1('u1', %(id)s) AS g", {"id": ID})
    assert (found["outcome"], found["quality"]) == ("open", "2K")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        opened(reader)
    for statement in (
        "UPDATE tokenctl.generations SET attempts = 0",
        "DELETE FROM tokenctl.generations",
        "SELECT tokenctl.generation_row('u1', 'x', 'captured')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rich.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tokenctl.token_holds SET state = 'released', captured_seq = NULL",
        "UPDATE tokenctl.token_holds SET amount = 1",
        "DELETE FROM tokenctl.token_holds",
        "TRUNCATE tokenctl.token_holds CASCADE",
        "UPDATE tokenctl.generations SET image_sha256 = repeat('d', 64)",
        "UPDATE tokenctl.generations SET attempts = 0",
        "DELETE FROM tokenctl.generations",
        "TRUNCATE tokenctl.generations",
    ],
)
def test_what_was_paid_stays_paid_for_the_owner_too(each_db: LedgerDB, rich: Connection, statement: str) -> None:
    opened(rich)
    claim(rich)
    capture(rich)
    with pytest.raises(psycopg.errors.RestrictViolation):
        each_db.rows(statement)
    for (partition,) in each_db.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent IN ('tokenctl.generations'::regclass, 'tokenctl.token_holds'::regclass)"
    ):
        with pytest.raises(psycopg.errors.RestrictViolation):
            each_db.rows(f"TRUNCATE {partition} CASCADE")


def test_an_image_is_known_whole_or_not_at_all(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    for column, value in (("image_sha256", "repeat('d', 64)"), ("width", "1"), ("image_bytes", "1")):
        with pytest.raises(psycopg.errors.CheckViolation, match="image_whole"):
            each_db.rows(f"UPDATE tokenctl.generations SET {column} = {value}")  # noqa: S608 — from above


def test_only_who_claimed_last_may_pay(rich: Connection) -> None:
    opened(rich)
    assert capture(rich)["outcome"] == "busy"  # nobody has claimed it
    claim(rich, "r1", lease_s=0)
    claim(rich, "r2", lease_s=0)
    assert capture(rich, lease="r1")["outcome"] == "busy"  # not after the other's lease either
    assert capture(rich, lease="r2")["outcome"] == "captured"
    assert capture(rich, lease="r1")["outcome"] == "captured"  # what came of it


@pytest.mark.parametrize("why", ["blocked", "exhausted", "deadline"])
def test_calls_of_runs_that_died_are_kept_in_mind(each_db: LedgerDB, rich: Connection, why: str) -> None:
    """Who told how it failed begins anew; who died may have been billed, and three calls are the most."""
    opened(rich)
    claim(rich)
    release(rich)
    each_db.rows("UPDATE tokenctl.generations SET released_why = %s", why)
    assert opened(rich)["attempts"] == (0 if why == "blocked" else 1)
    claim(rich)
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    assert opened(rich)["outcome"] == "held"
    assert claim(rich)["attempts"] == (2 if why == "blocked" else 3)


def test_a_new_price_holds_for_what_was_not_paid(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    assert opened(rich, amount=50, price="v2")["outcome"] == "conflict"  # while it runs
    claim(rich)
    release(rich)
    dearer = opened(rich, amount=50, price="v2")
    assert (dearer["outcome"], dearer["amount"], dearer["price_version"], dearer["available"]) == ("held", 50, "v2", 50)
    claim(rich)
    capture(rich)
    paid = opened(rich, amount=70, price="v3")
    assert (paid["outcome"], paid["amount"], paid["price_version"]) == ("captured", 50, "v2")
    each_db.check()


def test_a_payment_needs_an_image(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    said = "SELECT tokenctl.generation_capture_v1('u1', '%s', %s, 'r', 'm', '{}', 'r1', 'r', 'me@here')"
    no_images = (
        "NULL, NULL, NULL, NULL",
        "'', 1, 1, 1",
        "'no digest', 1, 1, 1",
        "repeat('c', 64), 0, 1, 1",
        "repeat('c', 64), 1, -1, 1",
        "repeat('c', 64), 1, 1, NULL",
    )
    for image in no_images:
        with pytest.raises(psycopg.errors.CheckViolation):
            rich.execute((said % (ID, image)).encode())
    assert each_db.rows("SELECT state FROM tokenctl.token_holds") == [("open",)]
    assert capture(rich)["outcome"] == "captured"
    each_db.check()


def test_a_payment_that_was_taken_back_is_told(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    claim(rich)
    assert capture(rich)["outcome"] == "captured"
    reverse(rich, "u1", 2)
    for again in (opened(rich), claim(rich), capture(rich), release(rich)):
        assert (again["outcome"], again["state"], again["captured_seq"]) == ("reversed", "captured", 2)
    reverse(rich, "u1", 3, request_id="redo")
    assert opened(rich)["outcome"] == "captured"
    each_db.check()
