"""Accounts of a test's own making, written as the ledger would have: any kind, any time, any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import psycopg

from tests.pg import LedgerDB

NOW = datetime(2026, 11, 23, 18, 4, 9, 123456, tzinfo=UTC)
_COLUMNS = (
    "user_id, seq, amount, balance_after, created_at, reverses_seq, kind, reason, ticket, campaign, operator,"
    " claimed_by, request_id, idempotency_key, batch_id, note"
)


@dataclass(frozen=True)
class Row:
    """One entry; `at` must not run against the order of rows."""

    amount: int
    kind: str = "bonus"
    reason: str = "test"
    reverses: int | None = None
    at: datetime = NOW
    ticket: str | None = None
    note: str | None = None
    batch: str | None = None
    operator: str = "support1"


def hours(ago: float) -> datetime:
    """So many hours before NOW."""
    return NOW - timedelta(hours=ago)


def write(db: LedgerDB, user: str, rows: Sequence[Row]) -> None:
    """An account with these entries, the first one first."""
    balances = list(accumulate(row.amount for row in rows))
    with psycopg.connect(db.conninfo("postgres"), autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY tokenctl.token_transactions ({_COLUMNS}) FROM STDIN".encode()) as copy:
            for seq, (row, balance) in enumerate(zip(rows, balances, strict=True), 1):
                copy.write_row((
                    user, seq, row.amount, balance, row.at, row.reverses, row.kind, row.reason, row.ticket, None,
                    row.operator, "anna@desk7", f"request-{seq}", f"key-{seq}", row.batch, row.note,
                ))  # fmt: skip
        cursor.execute(
            "INSERT INTO tokenctl.token_accounts (user_id, balance, last_seq, updated_at) VALUES (%s, %s, %s, %s)",
            (user, balances[-1] if rows else 0, len(rows), rows[-1].at if rows else NOW),
        )
