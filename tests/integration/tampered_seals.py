"""Seals tampered with by whoever owns the tables, and the form of what a seal hashes, written down once more.

@T, @A and @H are the tables of entries, accounts and holds.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import psycopg

from tests.pg import LedgerDB, post, reverse
from tests.vandal import unguarded, vandalize

SEAL = "SELECT (s).* FROM tokenctl.seal_v1('r1', 'me@here') s"
COLUMNS = (
    "user_id, seq, amount, balance_after, created_at, reverses_seq, kind, reason, ticket, campaign, operator,"
    " claimed_by, request_id, idempotency_key, batch_id, note"
)


def later(db: LedgerDB) -> None:
    """What comes after a seal: known users and new ones."""
    support = db.connect("support1")
    post(support, "u1", 7, key="later")
    post(support, "w1", 8, key="later")
    reverse(support, "u3", 1, key="later")


PROJECTION = """
UPDATE @A a SET balance = t.balance, last_seq = t.last_seq
FROM (SELECT a.user_id, coalesce(sum(t.amount), 0) AS balance, coalesce(max(t.seq), 0) AS last_seq
      FROM @A a LEFT JOIN @T t USING (user_id) GROUP BY 1) t
WHERE t.user_id = a.user_id AND (a.balance, a.last_seq) <> (t.balance, t.last_seq)
"""
SUMS = """
UPDATE @T t SET balance_after = s.running FROM (
  SELECT user_id, seq, sum(amount) OVER (PARTITION BY user_id ORDER BY seq) AS running FROM @T) s
WHERE (s.user_id, s.seq) = (t.user_id, t.seq) AND t.balance_after <> s.running
"""
# Entries move down to close a gap; in two steps, because no two may meet.
ASIDE = """
UPDATE @T t SET seq = s.n + 1000000 FROM (
  SELECT user_id, seq, row_number() OVER (PARTITION BY user_id ORDER BY seq) AS n FROM @T) s
WHERE (s.user_id, s.seq) = (t.user_id, t.seq)
"""
CLOSE = (ASIDE, "UPDATE @T SET seq = seq - 1000000")
SLIPPED = f"""
INSERT INTO @T ({COLUMNS})
SELECT user_id, 1, 1, 1, created_at, NULL, kind, reason, NULL, NULL, operator, claimed_by, request_id,
  'slipped', NULL, NULL
FROM @T WHERE user_id = 'v2'
"""  # noqa: S608
# What an import counts, where its entries were taken away.
UNCOUNT = (
    "UPDATE tokenctl.import_lanes l SET applied = 0, applied_tokens = 0, staged = 0",
    "UPDATE tokenctl.import_batches SET applied = 0, applied_tokens = 0, rows_read = 0",
)
LESS = "applied = applied - 1, applied_tokens = applied_tokens - 9, staged = staged - 1"
UNCOUNT_ONE = (
    f"UPDATE tokenctl.import_lanes SET {LESS} WHERE applied_tokens >= 9",  # noqa: S608
    "UPDATE tokenctl.import_batches SET applied = 4, applied_tokens = 15, rows_read = 4",
)
#: What was done to sealed entries, with everything that verify looks at put right again.
TAMPERED: dict[str, tuple[str, ...]] = {
    "an amount": ("UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3", SUMS, PROJECTION),
    "a kind": ("UPDATE @T SET kind = 'purchase' WHERE user_id = 'u3'",),
    "a reason": ("UPDATE @T SET reason = 'other' WHERE user_id = 'u3'",),
    "a ticket": ("UPDATE @T SET ticket = 'T-9' WHERE user_id = 'u3'",),
    "no ticket": ("UPDATE @T SET ticket = NULL WHERE user_id = 'u3'",),
    "a campaign": ("UPDATE @T SET campaign = 'autumn' WHERE campaign = 'spring'",),
    "an operator": ("UPDATE @T SET operator = 'support2' WHERE user_id = 'u3'",),
    "a claim": ("UPDATE @T SET claimed_by = 'you@here' WHERE user_id = 'u3'",),
    "a request": ("UPDATE @T SET request_id = 'another' WHERE user_id = 'u3'",),
    "a key": ("UPDATE @T SET idempotency_key = 'another' WHERE user_id = 'u3' AND seq = 1",),
    "a note": ("UPDATE @T SET note = 'Grüsse 😀' WHERE user_id = 'u3'",),
    "no note": ("UPDATE @T SET note = NULL WHERE user_id = 'u3'",),
    "a batch": ("UPDATE @T SET batch_id = NULL", *UNCOUNT),
    "a time, by a microsecond": ("UPDATE @T SET created_at = created_at + interval '1 us' WHERE user_id = 'u3'",),
    "what is reversed": (
        "UPDATE @T SET reverses_seq = NULL, kind = 'adjustment' WHERE user_id = 'u2' AND seq IN (3, 4)",
    ),
    "what two columns share": ("UPDATE @T SET claimed_by = 'me', request_id = '@hererequest' WHERE user_id = 'u3'",),
    "an entry in the middle removed": ("DELETE FROM @T WHERE user_id = 'u1' AND seq = 3", *CLOSE, SUMS, PROJECTION,
                                       "UPDATE tokenctl.token_holds SET captured_seq = 5 WHERE hold_id = 'done'"),
    "the newest entry cut off": ("DELETE FROM @T WHERE user_id = 'u4' AND seq = 5", PROJECTION, *UNCOUNT_ONE),
    "the newest entry cut off and another in its place": (
        "UPDATE @T SET reason = 'x', idempotency_key = 'y', note = NULL WHERE user_id = 'u3' AND seq = 1",
    ),
    "entries that changed places": (
        "UPDATE @T SET seq = 99 WHERE user_id = 'u1' AND seq = 2",
        "UPDATE @T SET seq = 2, created_at = created_at - interval '1 s' WHERE user_id = 'u1' AND seq = 3",
        "UPDATE @T SET seq = 3 WHERE user_id = 'u1' AND seq = 99",
        "UPDATE @T SET created_at = (SELECT min(created_at) FROM @T WHERE user_id = 'u1') WHERE user_id = 'u1'",
        SUMS,
    ),
    "a user gone": ("DELETE FROM @T WHERE user_id = 'u3'", "DELETE FROM @A WHERE user_id = 'u3'"),
    "a user by another name": (
        "UPDATE @T SET user_id = 'u9' WHERE user_id = 'u3'", "UPDATE @A SET user_id = 'u9' WHERE user_id = 'u3'",
    ),
    "an entry slipped in": ("UPDATE @T SET seq = 2 WHERE user_id = 'v2'", SLIPPED, SUMS, PROJECTION),
    "everything": ("DELETE FROM @T", "DELETE FROM @A", "DELETE FROM tokenctl.token_holds",
                   "DELETE FROM tokenctl.import_lanes", "DELETE FROM tokenctl.import_batches"),
}  # fmt: skip


def rewrite_seals(db: LedgerDB) -> None:
    """Make the seals fit the tampered rows, each with its old number, moment and author, and a chain that holds."""
    old = db.rows(
        "SELECT s.seal_no, s.sealed_at, s.operator, s.claimed_by, s.request_id,"
        " (SELECT jsonb_object_agg(user_id, last_seq) FROM (SELECT user_id, max(last_seq) AS last_seq"
        "   FROM tokenctl.sealed_ranges r WHERE r.seal_no <= s.seal_no GROUP BY 1) x)"
        " FROM tokenctl.seals s ORDER BY 1"
    )
    vandalize(db, "DELETE FROM tokenctl.seals", "DELETE FROM tokenctl.sealed_ranges")
    for number, at, operator, claimed_by, request_id, ends in old:
        with unguarded(db):
            _seal_up_to(db, ends)
            _as_before(db, number, at, (operator, claimed_by, request_id))


def _seal_up_to(db: LedgerDB, ends: dict[str, int]) -> None:
    """Have sealed what users had up to their `ends`: later entries step aside for a moment."""
    with psycopg.connect(db.conninfo("postgres"), autocommit=True) as owner, owner.transaction():
        owner.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        owner.execute("CREATE TEMPORARY TABLE aside ON COMMIT DROP AS SELECT * FROM tokenctl.token_accounts")
        owner.execute("UPDATE tokenctl.token_accounts SET last_seq = 0 WHERE user_id <> ALL (%s)", (list(ends),))
        for user, last in ends.items():
            owner.execute(
                "UPDATE tokenctl.token_accounts SET last_seq = least(last_seq, %s) WHERE user_id = %s", (last, user)
            )
        owner.execute(SEAL)
        owner.execute(
            "UPDATE tokenctl.token_accounts a SET last_seq = s.last_seq FROM aside s WHERE s.user_id = a.user_id"
        )


def _as_before(db: LedgerDB, number: int, at: datetime, who: tuple[str, str, str]) -> None:
    """Give the newest seal the columns that it had, and the head that follows."""
    for previous, *counted in db.rows(
        "SELECT previous, content, users, entries, tokens::text FROM tokenctl.seals WHERE seal_no = %s", number
    ):
        head = head_of(previous, number, *counted, at, *who)
        db.rows(
            "UPDATE tokenctl.seals SET (sealed_at, operator, claimed_by, request_id, head) = (%s, %s, %s, %s, %s)"
            " WHERE seal_no = %s",
            at, *who, head, number,
        )  # fmt: skip


def microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def text(value: str | None) -> str:
    return "-" if value is None else f"{len(value)}:{value}"


def sha(form: str) -> bytes:
    return hashlib.sha256(form.encode()).digest()


def row_hash(row: tuple[object, ...]) -> bytes:
    """A row of COLUMNS as it is hashed."""
    user, seq, amount, after, at, reverses, *texts = row
    assert isinstance(at, datetime)
    numbers = f"{seq};{amount};{after};{microseconds(at)};" + ("-" if reverses is None else f"{reverses};")
    return sha(f"row1:{text(str(user))}{numbers}" + "".join(text(t) for t in texts))  # type: ignore[arg-type]  # texts or None


def head_of(previous: str | None, *rest: object) -> str:
    """A seal's head: of its number, content, users, entries, tokens and moment, and of whom it is by."""
    *numbers, at, operator, claimed_by, request_id = rest
    assert isinstance(at, datetime)
    form = "".join(f"{number};" for number in (previous or "-", *numbers, microseconds(at)))
    return sha(f"seal1:{form}" + "".join(text(str(t)) for t in (operator, claimed_by, request_id))).hex()
