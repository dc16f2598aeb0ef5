"""What the tables refuse by themselves, whatever the functions above them do and whoever asks.

The functions check first, so that people get a sentence. Here they are gone around.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest

from tests.pg import LedgerDB, hold, post, reverse


@dataclass(frozen=True)
class Entry:
    """A row of token_transactions as it may not be; by default one that may."""

    user: str = "u1"
    seq: int = 3
    amount: int = 5
    after: int = 5
    reverses: int | None = None
    kind: str = "bonus"
    reason: str = "x"
    operator: str = "x"
    key: str = "new"
    note: str | None = None
    ticket: str | None = None

    def insert(self, db: LedgerDB) -> None:
        db.rows(
            "INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at, reverses_seq,"
            " kind, reason, operator, claimed_by, request_id, idempotency_key, note, ticket) VALUES"
            " (%s, %s, %s, %s, now(), %s, %s, %s, %s, 'x', 'x', %s, %s, %s)",
            self.user, self.seq, self.amount, self.after, self.reverses, self.kind, self.reason, self.operator,
            self.key, self.note, self.ticket,
        )  # fmt: skip


ENTRIES = {
    "idempotency_key_once": Entry(key="k"),
    "token_transactions_pkey": Entry(seq=2),
    "reversed_once": Entry(reverses=1, amount=-5, after=0),
    "reverses_earlier": Entry(reverses=3),
    "seq_range": Entry(seq=0),
    "amount_range": Entry(amount=0),
    "balance_after_range": Entry(after=-1),
    "kind_known": Entry(kind="gift"),
    "reason_length": Entry(reason=""),
    "operator_named": Entry(operator=""),
    "idempotency_key_length": Entry(key="k" * 129),
    "note_length": Entry(note="n" * 501),
    "ticket_length": Entry(ticket="t" * 65),
}
OTHERS = {
    "balance_range": "UPDATE tokenctl.token_accounts SET balance = -1",
    "last_seq_range": "UPDATE tokenctl.token_accounts SET last_seq = -1",
    "user_id_form": "INSERT INTO tokenctl.token_accounts (user_id) VALUES (E'a\\nb')",
    "hold_amount_range": "UPDATE tokenctl.token_holds SET amount = 0",
    "hold_captured_paired": "UPDATE tokenctl.token_holds SET state = 'captured', settled_at = now()",
    "hold_settled_paired": "UPDATE tokenctl.token_holds SET state = 'released'",
    "hold_state_known": "UPDATE tokenctl.token_holds SET state = 'lost', settled_at = now()",
    "hold_key_once": "UPDATE tokenctl.token_holds SET idempotency_key = 'same'",
    "batch_done_counted": "UPDATE tokenctl.import_batches SET state = 'done'",
    "batch_rows_add_up": "UPDATE tokenctl.import_batches SET state = 'done', finished_at = now(), rows_read = 7,"
    " applied = 1, replayed = 1, conflicting = 1, refused = 1, rejected = 1, duplicate = 1",
    "batch_slices_range": "UPDATE tokenctl.import_batches SET slices = 0",
    "lane_adds_up": "UPDATE tokenctl.import_lanes SET state = 'done', applied = 2",
}


@pytest.fixture
def db(each_db: LedgerDB) -> LedgerDB:
    """One entry and its reversal, two holds, a batch with a lane."""
    connection = each_db.connect("support1")
    post(connection, "u1", 5, key="k")
    reverse(connection, "u1", 1)
    for name in ("h1", "h2"):
        hold(each_db, "u1", 1, hold_id=name)
    each_db.rows(
        "INSERT INTO tokenctl.import_batches (batch_id, kind, file_sha256, slices, operator, claimed_by, request_id)"
        " VALUES ('aaaaaaaaaaaa', 'import', 'x', 1, 'x', 'x', 'x')"
    )
    each_db.rows(
        "INSERT INTO tokenctl.import_lanes (batch_id, part, slice, staged, staged_tokens, staged_users)"
        " VALUES ('aaaaaaaaaaaa', 0, 0, 1, 1, 1)"
    )
    return each_db


def test_what_the_tables_refuse(db: LedgerDB, subtests: pytest.Subtests) -> None:
    for constraint, entry in ENTRIES.items():
        with subtests.test(constraint), pytest.raises(psycopg.IntegrityError) as refused:
            entry.insert(db)
        assert (refused.value.diag.constraint_name or "").endswith(_own_name(constraint)), constraint
    for constraint, statement in OTHERS.items():
        with subtests.test(constraint), pytest.raises(psycopg.IntegrityError) as refused:
            db.rows(statement)
        assert (refused.value.diag.constraint_name or "").endswith(_own_name(constraint)), constraint


def _own_name(constraint: str) -> str:
    """What a partition calls it: a key's name is made of its columns there."""
    return {
        "idempotency_key_once": "_user_id_idempotency_key_key",
        "hold_key_once": "_user_id_idempotency_key_key",
        "token_transactions_pkey": "_pkey",
        "reversed_once": "_user_id_reverses_seq_idx",
    }.get(constraint, constraint)


def test_an_entry_that_is_as_it_should_be_is_taken(db: LedgerDB) -> None:
    """So that the others are refused for what they say."""
    Entry().insert(db)
