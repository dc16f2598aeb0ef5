"""Ways to break the ledger that tests.vandal.fill makes, and all that verify must find then.

@T, @A and @H are the tables of entries, accounts and holds.
"""

from __future__ import annotations

from tests.vandal import IMPORT

SAME = "(SELECT created_at FROM @T WHERE user_id = 'u3')"
PENDING = (
    "UPDATE tokenctl.import_lanes SET state = 'pending', applied = 0"
    " WHERE (part, slice) IN (SELECT part, slice FROM tokenctl.import_lanes ORDER BY 1, 2 LIMIT 1)"
)


def account(user: str, balance: int, last_seq: int) -> str:
    """The account set to what fits its entries."""
    return f"UPDATE @A SET balance = {balance}, last_seq = {last_seq} WHERE user_id = '{user}'"  # noqa: S608


def drop(table: str, *constraints: str) -> str:
    return f"ALTER TABLE tokenctl.{table} " + ", ".join(f"DROP CONSTRAINT {name}" for name in constraints)


def entry(user: str, seq: int, amount: int, balance: int, **given: str) -> str:
    """An entry that no function posted."""
    values = {
        "user_id": f"'{user}'", "seq": str(seq), "amount": str(amount), "balance_after": str(balance),
        "created_at": "clock_timestamp()", "kind": "'bonus'", "reason": "'x'", "operator": "'x'", "claimed_by": "'x'",
        "request_id": "'x'", "idempotency_key": f"'forged-{user}-{seq}'", **given,
    }  # fmt: skip
    return f"INSERT INTO @T ({', '.join(values)}) VALUES ({', '.join(values.values())})"  # noqa: S608


def swap(first: int, second: int) -> tuple[str, ...]:
    """Let two entries of u1 change their places."""
    moves = ((first, 99), (second, first), (99, second))
    return tuple(f"UPDATE @T SET seq = {to} WHERE user_id = 'u1' AND seq = {seq}" for seq, to in moves)  # noqa: S608


def job(hold: str, image: str) -> tuple[str, str]:
    """A hold of a paid job, whose image has that digest."""
    renamed = f"UPDATE @H SET hold_id = '0123456789ab', purpose = 'image-1k' WHERE hold_id = '{hold}'"  # noqa: S608
    size = "NULL" if image == "NULL" else "1"
    made = f"""
        INSERT INTO tokenctl.generations
          (user_id, generation_id, model, quality, price_version, input_sha256, image_sha256,
          image_bytes, width, height)
        SELECT user_id, hold_id, 'm', '1K', 'v', repeat('0', 64), {image}, {size}, {size}, {size}
        FROM @H WHERE hold_id = '0123456789ab'
    """  # noqa: S608
    return renamed, made


#: Statements, and the rule and name of every finding that they must lead to.
Broken = tuple[tuple[str, ...], set[tuple[str, str]]]

BROKEN: dict[str, Broken] = {
    "an amount edited": (
        ("UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3",),
        {("running-sum", "u1:3"), ("balance", "u1")},
    ),
    "an imported amount edited": (
        ("UPDATE @T SET amount = 5 WHERE user_id = 'v2'",),
        {("running-sum", "v2:1"), ("balance", "v2"), ("batch-rows", f"batch {IMPORT}")},
    ),
    "a running sum edited": (
        ("UPDATE @T SET balance_after = 61 WHERE user_id = 'u1' AND seq = 3",),
        {("running-sum", "u1:3"), ("running-sum", "u1:4")},
    ),
    "the last running sum edited": (
        ("UPDATE @T SET balance_after = 126 WHERE user_id = 'u1' AND seq = 6",),
        {("running-sum", "u1:6")},
    ),
    "a balance edited": (("UPDATE @A SET balance = 1000 WHERE user_id = 'u1'",), {("balance", "u1")}),
    "a last seq edited": (("UPDATE @A SET last_seq = 5 WHERE user_id = 'u1'",), {("last-seq", "u1")}),
    "a middle entry deleted": (
        ("DELETE FROM @T WHERE user_id = 'u1' AND seq = 3",),
        {("seq-gap", "u1:3"), ("balance", "u1"), ("last-seq", "u1")},
    ),
    "several middle entries deleted": (
        ("DELETE FROM @T WHERE user_id = 'u1' AND seq IN (2, 3)",),
        {("seq-gap", "u1:2"), ("balance", "u1"), ("last-seq", "u1")},
    ),
    "the first entry deleted": (
        ("DELETE FROM @T WHERE user_id = 'u1' AND seq = 1",),
        {("seq-gap", "u1:1"), ("balance", "u1"), ("last-seq", "u1")},
    ),
    "the newest entry deleted": (
        ("DELETE FROM @T WHERE user_id = 'u3'",),
        {("balance", "u3"), ("last-seq", "u3:1")},
    ),
    "all entries of a user deleted": (
        ("DELETE FROM @T WHERE user_id = 'u2'",),
        {("balance", "u2"), ("last-seq", "u2:1")},
    ),
    "an account deleted": (("DELETE FROM @A WHERE user_id = 'u3'",), {("no-account", "u3")}),
    "an imported user deleted whole": (
        ("DELETE FROM @T WHERE user_id = 'v2'", "DELETE FROM @A WHERE user_id = 'v2'"),
        {("batch-rows", f"batch {IMPORT}")},
    ),
    "entries that changed places": (
        swap(2, 3),
        {("running-sum", "u1:2"), ("running-sum", "u1:3"), ("running-sum", "u1:4"), ("time-order", "u1:3")},
    ),
    "an account forged": (("INSERT INTO @A (user_id, balance) VALUES ('rich', 5)",), {("balance", "rich")}),
    "an account forged with a seq": (
        ("INSERT INTO @A (user_id, balance, last_seq) VALUES ('rich', 5, 1)",),
        {("balance", "rich"), ("last-seq", "rich:1")},
    ),
    "an entry forged": ((entry("u3", 2, 5, 10),), {("balance", "u3"), ("last-seq", "u3")}),
    "an entry of nobody forged": ((entry("ghost", 1, 5, 5),), {("no-account", "ghost")}),
    "a time set back": (
        ("UPDATE @T SET created_at = created_at - interval '1 hour' WHERE user_id = 'u1' AND seq = 4",),
        {("time-order", "u1:4")},
    ),
    "a time without end": (
        ("UPDATE @T SET created_at = 'infinity' WHERE user_id = 'u1' AND seq = 4",),
        {("time-order", "u1:5")},
    ),
    "a reversal of nothing": (
        (entry("u3", 2, -1, 4, reverses_seq="1"), "UPDATE @T SET reverses_seq = 1 WHERE user_id = 'u1' AND seq = 6",
         "DELETE FROM @T WHERE user_id = 'u3'", entry("u3", 2, -5, 0, reverses_seq="1")),
        {("reversal-of-nothing", "u3:2"), ("reversal-unpaired", "u1:6"), ("seq-gap", "u3:1"), ("balance", "u3")},
    ),
    "a reversal of another amount": (
        (entry("u3", 2, -4, 1, reverses_seq="1"), account("u3", 1, 2)),
        {("reversal-unpaired", "u3:2")},
    ),
    "a reversal of another kind": (
        (entry("u3", 2, -5, 0, reverses_seq="1", kind="'purchase'"), account("u3", 0, 2)),
        {("reversal-unpaired", "u3:2")},
    ),
    "a transaction reversed twice": (
        ("DROP INDEX tokenctl.reversed_once", entry("u2", 5, -100, 7, reverses_seq="1"),
         account("u2", 7, 5)),
        {("reversed-twice", "u2:3"), ("reversed-twice", "u2:5")},
    ),
    "numbers out of range": (
        (drop("token_transactions", "amount_range", "balance_after_range"),
         f"UPDATE @T SET (amount, balance_after) = ({2**63 - 1}, {-(2**63)}) WHERE user_id = 'u1' AND seq = 3"),  # noqa: S608
        {("amount-range", "u1:3"), ("running-sum", "u1:4"), ("balance", "u1")},
    ),
    "an entry of nothing": (
        (drop("token_transactions", "amount_range"), entry("u3", 2, 0, 5), account("u3", 5, 2)),
        {("amount-range", "u3:2")},
    ),
    "a seq below one": (
        (drop("token_transactions", "seq_range"), entry("u3", -(2**63), 1, 1, created_at="'2020-01-01Z'")),
        {("seq-gap", f"u3:{-(2**63)}"), ("seq-gap", "u3:1"), ("balance", "u3"), ("last-seq", "u3")},
    ),
    "a seq that stands twice": (
        (drop("token_transactions", "token_transactions_pkey"), entry("u3", 1, 5, 5, created_at=SAME)),
        {("seq-gap", "u3:1"), ("balance", "u3"), ("last-seq", "u3")},
    ),
    "a captured hold without its entry": (
        ("UPDATE @H SET captured_seq = 7 WHERE hold_id = 'done'",),
        {("hold-captured", "u1"), ("paid-without-hold", "u1:6")},
    ),
    "a hold captured for more": (("UPDATE @H SET amount = 24 WHERE hold_id = 'done'",), {("hold-captured", "u1")}),
    "a hold captured as a grant": (
        ("UPDATE @H SET captured_seq = 5 WHERE hold_id = 'done'",),
        {("hold-captured", "u1"), ("paid-without-hold", "u1:6")},
    ),
    "a captured hold deleted": (("DELETE FROM @H WHERE hold_id = 'done'",), {("paid-without-hold", "u1:6")}),
    "an image that nobody paid": (
        job("released", "'ab'"),
        {("image-unpaid", "u2")},
    ),
    "a payment for no image": (job("done", "NULL"), {("paid-without-image", "u1")}),
    "a payment for a job that is gone": (
        ("UPDATE @H SET purpose = 'image-1k' WHERE hold_id = 'done'",),
        {("paid-without-image", "u1")},
    ),
    "a payment forged": (
        (entry("u3", 2, -5, 0, kind="'generation'"), account("u3", 0, 2)),
        {("paid-without-hold", "u3:2")},
    ),
    "all entries truncated": (
        ("TRUNCATE @T",),
        {("balance", u) for u in ("u1", "u2", "u3", "u4", "v1", "v2", "v3")}
        | {("last-seq", f"{u}:1") for u in ("u1", "u2", "u3", "u4", "v1", "v2", "v3")}
        | {("hold-captured", "u1"), ("batch-rows", f"batch {IMPORT}")},
    ),
    "all accounts truncated": (
        ("TRUNCATE @A",),
        {("no-account", u) for u in ("u1", "u2", "u3", "u4", "v1", "v2", "v3")}
        | {("hold-of-nobody", "u1"), ("hold-of-nobody", "u2")},
    ),
    "an entry captured twice": (
        ("UPDATE @H SET state = 'captured', captured_seq = 6, settled_at = now(), amount = 30 WHERE hold_id = 'late'",),
        {("hold-captured", "u1")},
    ),
    "a hold that contradicts itsel": (
        (drop("token_holds", "hold_captured_paired", "hold_settled_paired"),
         "UPDATE @H SET settled_at = NULL WHERE hold_id = 'released'"),
        {("hold-state", "u2")},
    ),
    "more held than there is": (("UPDATE @H SET amount = 126 WHERE hold_id = 'open'",), {("held-too-much", "u1")}),
    "a hold of nobody": (("UPDATE @H SET user_id = 'ghost' WHERE hold_id = 'open'",), {("hold-of-nobody", "ghost")}),
    "a batch that counts more": (
        (drop("import_batches", "batch_rows_add_up"), "UPDATE tokenctl.import_batches SET applied = applied + 1"),
        {("batch-sums", f"batch {IMPORT}")},
    ),
    "a batch that does not tell what became of a row": (
        (drop("import_batches", "batch_rows_add_up"), "UPDATE tokenctl.import_batches SET rows_read = rows_read + 1"),
        {("batch-sums", f"batch {IMPORT}")},
    ),
    "a batch that counts other tokens": (
        ("UPDATE tokenctl.import_batches SET applied_tokens = 1",),
        {("batch-sums", f"batch {IMPORT}")},
    ),
    "a slice that is not done": (
        (PENDING,),
        {("batch-sums", f"batch {IMPORT}"), ("batch-rows", f"batch {IMPORT}")},
    ),
    "a batch that has not begun": (
        ("UPDATE tokenctl.import_batches SET state = 'staging', finished_at = NULL",),
        {("batch-sums", f"batch {IMPORT}")},
    ),
    "an entry of an unknown batch": (
        ("UPDATE @T SET batch_id = 'bbbbbbbbbbbb' WHERE user_id = 'u3'",),
        {("batch-unknown", "batch bbbbbbbbbbbb")},
    ),
    "an entry taken out of its batch": (
        ("UPDATE @T SET batch_id = NULL WHERE user_id = 'v2'",),
        {("batch-rows", f"batch {IMPORT}")},
    ),
    "the books out of balance as a whole": (("UPDATE @A SET balance = 6 WHERE user_id = 'u3'",), {("balance", "u3")}),
}  # fmt: skip
#: Rules that only --deep asks about.
DEEP: dict[str, Broken] = {
    "a reason without its form": (("UPDATE @T SET reason = 'Bad One' WHERE user_id = 'u3'",), {("form", "u3:1")}),
    "an unknown kind, and no note": (
        (drop("token_transactions", "kind_known", "note_length"),
         "UPDATE @T SET kind = 'x', note = '' WHERE user_id = 'u3'"),
        {("form", "u3:1")},
    ),
    "an operator left empty": (
        (drop("token_transactions", "operator_named"), "UPDATE @T SET operator = '' WHERE user_id = 'u1' AND seq = 2"),
        {("form", "u1:2")},
    ),
    "a batch's name": (
        ("UPDATE @T SET batch_id = 'x' WHERE user_id = 'u3'",),
        {("form", "u3:1"), ("batch-unknown", "batch x")},
    ),
    "a key used twice": (
        (drop("token_transactions", "idempotency_key_once"),
         "UPDATE @T SET idempotency_key = 'k2' WHERE user_id = 'u1' AND seq = 4"),
        {("key-twice", "u1:4")},
    ),
    "a time without end": (
        ("UPDATE @T SET created_at = 'infinity' WHERE user_id = 'u1' AND seq = 6",),
        {("form", "u1:6")},
    ),
}  # fmt: skip
