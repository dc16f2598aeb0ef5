"""How holds and generations are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tokenctl.cli.views import pairs
from tokenctl.models import Generation, Hold
from tokenctl.output import Column, Count, EntryName, Schema, Table, Tokens, TypedDict, View


class HoldData(TypedDict):
    """Tokens promised to a job: open, captured or released; `is_past` when its deadline is over."""

    user_id: str
    hold_id: str
    amount: Tokens
    state: str
    expires_at: datetime
    is_past: bool
    purpose: str
    idempotency_key: str
    captured_seq: Count | None
    operator: str
    claimed_by: str
    created_at: datetime
    settled_at: datetime | None
    attempts: Count | None
    lease_until: datetime | None
    released_why: str | None


class GenerationData(TypedDict):
    """A paid job: its image, its payment, and what its user has now."""

    id: str
    user_id: str
    state: str | None
    image: str | None
    quality: str | None
    width: Count | None
    height: Count | None
    bytes: Count | None
    sha256: str | None
    charged: Tokens
    transaction: EntryName | None
    balance: Tokens | None
    available: Tokens | None
    model: str | None
    price_version: str | None
    idempotency_key: str | None


HOLDS = Schema("tokenctl.holds.v1", list[HoldData])
GENERATION = Schema("tokenctl.generation.v1", GenerationData)


def holds(found: Sequence[Hold]) -> View[list[HoldData]]:
    """A list of holds."""
    columns = [
        Column("USER"), Column("ID"), Column("TOKENS", number=True), Column("STATE"), Column("DEADLINE"),
        Column("CALLS", number=True), Column("BY"), Column("KEY"),
    ]  # fmt: skip
    rows = [
        (
            hold.user_id,
            hold.hold_id,
            hold.amount,
            "past" if hold.state == "open" and hold.is_past else hold.state,
            hold.expires_at,
            hold.attempts,
            hold.operator,
            hold.idempotency_key,
        )
        for hold in found
    ]
    return View(HOLDS, [_hold(hold) for hold in found], Table(columns, rows))


def _hold(hold: Hold) -> HoldData:
    return {
        "user_id": hold.user_id,
        "hold_id": hold.hold_id,
        "amount": hold.amount,
        "state": hold.state,
        "expires_at": hold.expires_at,
        "is_past": hold.is_past,
        "purpose": hold.purpose,
        "idempotency_key": hold.idempotency_key,
        "captured_seq": hold.captured_seq,
        "operator": hold.operator,
        "claimed_by": hold.claimed_by,
        "created_at": hold.created_at,
        "settled_at": hold.settled_at,
        "attempts": hold.attempts,
        "lease_until": hold.lease_until,
        "released_why": hold.released_why,
    }


def generation(at: Generation, path: Path | None = None) -> View[GenerationData]:
    """One generation: its image, its payment, and what its user has now."""
    data: GenerationData = {
        "id": at.generation_id,
        "user_id": at.user_id,
        "state": at.state,
        "image": None if path is None else str(path),
        "quality": at.quality,
        "width": at.width,
        "height": at.height,
        "bytes": at.image_bytes,
        "sha256": at.image_sha256,
        "charged": (at.amount or 0) if at.state == "captured" else 0,
        "transaction": at.transaction,
        "balance": at.balance,
        "available": at.available,
        "model": at.model,
        "price_version": at.price_version,
        "idempotency_key": at.idempotency_key,
    }
    return View(GENERATION, data, pairs(data))
