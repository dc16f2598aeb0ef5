"""Seals as the database keeps them, and what a seal's head must be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True)
class Seal:
    """One seal: how much came since the one before, and the head that stands for everything up to it."""

    seal_no: int
    head: str
    users: int
    entries: int
    tokens: Decimal
    sealed_at: datetime | None
    operator: str


@dataclass(frozen=True)
class Link:
    """sql/queries/verify_seals.sql: a seal as it is kept, and (found_…) what its ranges come to today."""

    seal_no: int
    previous: str | None
    head: str | None
    content: str | None
    users: int | None
    entries: int | None
    tokens: Decimal | None
    sealed_at_us: int | None
    operator: str | None
    claimed_by: str | None
    request_id: str | None
    found_content: str | None
    found_users: Decimal | None
    found_entries: Decimal | None
    found_tokens: Decimal | None

    def follows(self, before: Link | None) -> bool:
        """Whether this seal is what it was when it was made, if `before` is."""
        kept = (self.content, self.users, self.entries, self.tokens)
        return (
            self.seal_no == (1 if before is None else before.seal_no + 1)
            and self.previous == (None if before is None else before.head)
            and kept == (self.found_content, self.found_users, self.found_entries, self.found_tokens)
            and self.head == self._head()
        )

    def _head(self) -> str:
        """The head that follows from what is kept, in the form that sql/functions/080_seal.sql gives it."""
        numbers = (
            self.previous or "-",
            self.seal_no,
            self.content,
            self.users,
            self.entries,
            self.tokens,
            self.sealed_at_us,
        )
        texts = (self.operator or "", self.claimed_by or "", self.request_id or "")
        form = "seal1:" + "".join(f"{n};" for n in numbers) + "".join(f"{len(t)}:{t}" for t in texts)
        return hashlib.sha256(form.encode()).hexdigest()
