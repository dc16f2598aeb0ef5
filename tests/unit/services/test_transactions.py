"""A transaction and its reversals: whether it counts, how to undo it, and what its fingerprint is of."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.entries import NOW
from tokenctl.models import Balance, Entry
from tokenctl.services.transactions import Transaction, fingerprint

ENTRY = Entry(
    "u_42", 17, 500, 1500, NOW, "bonus", "goodwill", "48121", None, "a note", "support1", "me", "r", "k", None, None,
    None,
)  # fmt: skip


def transaction(reversals: int, *, available: int = 10_000, amount: int = 500) -> Transaction:
    """An entry, its reversal, the reversal of that, and so on."""
    first = replace(ENTRY, amount=amount)
    chain = [replace(first, seq=18 + n, amount=-amount if n % 2 == 0 else amount) for n in range(reversals)]
    return Transaction(first, tuple(chain), Balance("u_42", available, 0, available, None))


@pytest.mark.parametrize(
    ("reversals", "stands", "undo"),
    [
        (0, True, "tokenctl reverse u_42:17 --reason mistake"),
        (1, False, None),
        (2, True, "tokenctl reverse u_42:19 --reason mistake"),
        (3, False, None),
    ],
)
def test_it_counts_unless_its_reversal_does(reversals: int, stands: bool, undo: str | None) -> None:
    found = transaction(reversals)
    assert (found.stands, found.undo, found.missing) == (stands, undo, 0)


@pytest.mark.parametrize("reversals", [0, 2])
def test_what_is_spent_cannot_be_taken_back(reversals: int) -> None:
    assert transaction(reversals, available=500).missing == 0
    found = transaction(reversals, available=499)
    assert (found.missing, found.undo) == (1, None)


def test_what_was_taken_can_be_given_back_without_tokens() -> None:
    found = transaction(0, available=0, amount=-500)
    assert (found.missing, found.undo) == (0, "tokenctl reverse u_42:17 --reason mistake")


def test_the_fingerprint_is_what_its_help_says() -> None:
    canonical = b"4:u_425:bonus3:5008:goodwill5:48121-"
    assert fingerprint(ENTRY) == hashlib.sha256(canonical).hexdigest()
    other = replace(ENTRY, ticket=None, reason="söz")
    assert fingerprint(other) == hashlib.sha256("4:u_425:bonus3:5004:söz--".encode()).hexdigest()


CONTENT = ("user_id", "kind", "amount", "reason", "ticket", "campaign")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ENTRIES = st.builds(
    lambda *values: replace(ENTRY, **dict(zip(CONTENT, values, strict=True))),
    TEXTS, TEXTS, st.integers(-99, 99), TEXTS, st.none() | TEXTS, st.none() | TEXTS,
)  # fmt: skip


@given(ENTRIES, ENTRIES)
def test_fingerprints_are_equal_just_when_the_content_is(one: Entry, other: Entry) -> None:
    same = all(getattr(one, name) == getattr(other, name) for name in CONTENT)
    assert (fingerprint(one) == fingerprint(other)) == same
    elsewhere = replace(one, seq=99, note="other", idempotency_key="other", operator="x", balance_after=7)
    assert fingerprint(elsewhere) == fingerprint(one)
