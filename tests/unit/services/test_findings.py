"""What verify finds, in words."""

from __future__ import annotations

from typing import Any

import pytest

from tokenctl.services.findings import flaw

BATCH = {"batch": "b", "batch_id": "b", "part": 3, "applied": 1, "applied_tokens": 1, "entries": 1, "tokens": 1}
SUMS = {**BATCH, "lanes_applied": 1, "lanes_applied_tokens": 1, "pending": 0, "state": "done"}
SUMS |= {"rows_read": 1, "rows_told": 1}


@pytest.mark.parametrize(
    ("rule", "detail", "what"),
    [
        ("last-seq", {"last_seq": 1, "newest": 2, "entries": 1}, "the account counts 1 entry, there is 1"),
        ("batch-rows", BATCH, "counts 1 entry of 1 token in partition 3, there is 1 of 1"),
        ("batch-rows", {**BATCH, "entries": None}, "counts 1 entry of 1 token in partition 3, there are 0 of 1"),
        ("batch-sums", {**SUMS, "state": "staging"}, "has not begun, and its slices count 1 entry"),
        ("batch-sums", {**SUMS, "pending": 1}, "is done, and 1 of its slices is not"),
        ("batch-sums", {**SUMS, "rows_told": 2}, "read 1 row, and tells what became of 2"),
        ("batch-sums", SUMS, "counts 1 entry of 1 token, its slices 1 of 1, or other rows differ"),
        ("no-account", {"entries": 1, "tokens": 1}, "has 1 entry, 1 token, and no account"),
        ("hold-of-nobody", {"held": 1}, "has holds of 1 token and no account"),
        ("held-too-much", {"held": 1, "balance": 0}, "1 token is held of a balance of 0"),
        ("batch-unknown", BATCH, "is named by 1 entry in partition 3, and nobody knows it"),
        (
            "sealed-rows",
            {"last_seq": 2, "entries": 1, "seal_no": 1},
            "not what seal 1 holds: edited, reordered or removed; 1 of 2 entries is there",
        ),
    ],
)
def test_a_count_of_one_is_told_as_one(rule: str, detail: dict[str, Any], what: str) -> None:
    assert flaw({"rule": rule, "user_id": "u1", "seq": 1, "detail": detail}).what == what
