"""Seals and whoever owns the tables: what was sealed cannot be changed without the head saying so."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.integration.tampered_seals import PROJECTION, SUMS, TAMPERED, later, rewrite_seals
from tests.pg import LedgerDB, post
from tests.vandal import fill, look, named, seal, vandalize


@pytest.fixture
def db(each_db: LedgerDB) -> LedgerDB:
    """A ledger with everything in it, on each server."""
    fill(each_db)
    return each_db


@pytest.mark.parametrize("what", TAMPERED)
@pytest.mark.parametrize("cover", [None, rewrite_seals], ids=["plain", "rewritten"])
def test_what_was_sealed_cannot_be_changed_unseen(
    ledger_db: LedgerDB, what: str, cover: Callable[[LedgerDB], None] | None
) -> None:
    db = ledger_db
    fill(db)
    first = seal(db)
    later(db)
    second = seal(db)
    post(db.connect("support1"), "u2", 1, key="not sealed")
    vandalize(db, *TAMPERED[what], PROJECTION, SUMS)
    assert {rule for rule, _ in named(look(db))} <= {"sealed-cut"}, "the ledger agrees with itself"
    if cover is not None:
        cover(db)
        assert named(look(db, deep=True)) == set(), "and with its seals, for whoever kept no head"
    for head in (first, second):
        found = named(look(db, head=head))
        if cover is None:
            assert any(rule == "sealed-rows" for rule, _ in found)
        else:
            assert ("head-missing", f"head {head[:12]}…") in found


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (("UPDATE @T SET note = 'other' WHERE user_id = 'u3' AND seq = 1",), {("sealed-rows", "u3:1")}),
        (("UPDATE @T SET reason = 'other' WHERE user_id = 'u1' AND seq = 4",), {("sealed-rows", "u1:1-6")}),
        (("UPDATE @T SET operator = 'other' WHERE user_id = 'u1' AND seq = 7",), {("sealed-rows", "u1:7")}),
        (
            ("DELETE FROM @T WHERE user_id = 'w1'", "DELETE FROM @A WHERE user_id = 'w1'"),
            {("sealed-rows", "w1:1")},
        ),
        (
            ("DELETE FROM @T WHERE user_id = 'u1' AND seq = 7", PROJECTION),
            {("sealed-rows", "u1:7"), ("sealed-cut", "u1:7")},
        ),
        (("UPDATE tokenctl.seals SET entries = entries + 1 WHERE seal_no = 1",), {("seal-broken", "seal 1")}),
        (("UPDATE tokenctl.seals SET claimed_by = 'you' WHERE seal_no = 2",), {("seal-broken", "seal 2")}),
        (("DELETE FROM tokenctl.seals WHERE seal_no = 1",), {("seal-broken", "seal 1"), ("seal-broken", "seal 2")}),
        (
            ("DELETE FROM tokenctl.sealed_ranges WHERE user_id = 'u3' AND seal_no = 2",),
            {("seal-broken", "seal 2")},
        ),
        (
            ("INSERT INTO tokenctl.sealed_ranges VALUES ('u2', 5, 5, 3, 0, sha256(''))",),
            {("seal-broken", "seal 3"), ("sealed-rows", "u2:5"), ("sealed-cut", "u2:5")},
        ),
    ],
)  # fmt: skip
def test_what_was_changed_is_named(
    each_db: LedgerDB, statements: tuple[str, ...], expected: set[tuple[str, str]]
) -> None:
    db = each_db
    fill(db)
    seal(db)
    later(db)
    seal(db)
    vandalize(db, *statements)
    report = look(db, deep=True)
    assert named(report) == expected
    assert all(flaw.what and flaw.hint for flaw in report.flaws)


def test_the_newest_sealed_entry_is_missed_even_without_a_head(db: LedgerDB) -> None:
    """Cut off, and the account made to fit: what is left agrees with itself, and not with the seal."""
    seal(db)
    vandalize(db, "DELETE FROM @T WHERE user_id = 'u3'", PROJECTION)
    for given in ({}, {"since_last": True}, {"user": "u3"}):
        assert named(look(db, **given)) == {("sealed-cut", "u3:1")}


def test_a_tampered_later_seal_leaves_an_earlier_head_alone(db: LedgerDB) -> None:
    first = seal(db)
    later(db)
    second = seal(db)
    vandalize(db, "UPDATE @T SET note = 'x' WHERE user_id = 'w1'")
    assert named(look(db, head=first)) == set()
    assert named(look(db, head=second)) == {("sealed-rows", "w1:1")}


def test_a_ledger_that_was_sealed_anew_has_not_the_old_head(db: LedgerDB) -> None:
    head = seal(db)
    vandalize(db, "DELETE FROM tokenctl.seals", "DELETE FROM tokenctl.sealed_ranges")
    seal(db)
    assert named(look(db, deep=True)) == set()
    assert named(look(db, head=head)) == {("head-missing", f"head {head[:12]}…")}


def test_a_head_of_nowhere_is_a_finding(db: LedgerDB) -> None:
    seal(db)
    assert named(look(db, head="0" * 64)) == {("head-missing", "head 000000000000…")}


def test_seals_cut_off_are_missed_by_their_head(db: LedgerDB) -> None:
    first = seal(db)
    later(db)
    second = seal(db)
    vandalize(
        db, "DELETE FROM tokenctl.seals WHERE seal_no = 2", "DELETE FROM tokenctl.sealed_ranges WHERE seal_no = 2"
    )
    assert named(look(db, deep=True)) == set()
    assert named(look(db, head=first)) == set()
    assert named(look(db, head=second)) == {("head-missing", f"head {second[:12]}…")}


def test_one_user_is_held_against_a_head_alone(db: LedgerDB) -> None:
    head = seal(db)
    vandalize(db, "UPDATE @T SET note = 'x' WHERE user_id = 'u3'")
    assert named(look(db, user="u1", head=head)) == set()
    assert named(look(db, user="u3", head=head)) == {("sealed-rows", "u3:1")}


def test_a_user_who_is_gone_is_still_known_to_the_seals(db: LedgerDB) -> None:
    head = seal(db)
    vandalize(db, "DELETE FROM @T WHERE user_id = 'u3'", "DELETE FROM @A WHERE user_id = 'u3'")
    assert named(look(db, user="u3", head=head)) == {("sealed-rows", "u3:1")}
    assert named(look(db)) == set(), "nothing is left that disagrees"


def test_a_time_without_end_is_another_hash_and_no_failure(db: LedgerDB) -> None:
    head = seal(db)
    vandalize(db, "UPDATE @T SET created_at = 'infinity' WHERE user_id = 'u3'")
    assert named(look(db, head=head)) == {("sealed-rows", "u3:1")}
    vandalize(db, "UPDATE tokenctl.seals SET sealed_at = '-infinity'")
    assert ("seal-broken", "seal 1") in named(look(db, head=head))


def test_an_old_backup_in_the_place_of_the_ledger_has_not_the_head(ledger_db: LedgerDB) -> None:
    """It agrees with itself and with its seals: only the head, and the time of day, know what came after it."""
    fill(ledger_db)
    first = seal(ledger_db)
    name = f"{ledger_db.name}_old"
    with psycopg.connect(ledger_db.server.conninfo("postgres", "postgres"), autocommit=True) as server:
        # Nobody may be connected to what is copied.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (ledger_db.name,))
        server.execute(f"CREATE DATABASE {name} TEMPLATE {ledger_db.name}".encode())
        try:
            later(ledger_db)
            second = seal(ledger_db)
            backup = LedgerDB(ledger_db.server, name, [])
            assert named(look(backup, deep=True)) == set()
            assert named(look(backup, head=first)) == set()
            assert named(look(backup, head=second)) == {("head-missing", f"head {second[:12]}…")}
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
