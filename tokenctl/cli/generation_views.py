"""How holds and generations are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenctl.models import Generation, Hold
from tokenctl.output import Column, Table, View


def holds(found: Sequence[Hold]) -> View:
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
    return View("tokenctl.holds.v1", [asdict(hold) for hold in found], Table(columns, rows))


def generation(at: Generation, path: Path | None = None) -> View:
    """One generation: its image, its payment, and what its user has now."""
    data: dict[str, Any] = {
        "id": at.generation_id,
        "user_id": at.user_id,
        "state": at.state,
        "image": None if path is None else str(path),
        "quality": at.quality,
        "width": at.width,
        "height": at.height,
        "bytes": at.image_bytes,
        "sha256": at.image_sha256,
        "charged": at.amount if at.state == "captured" else 0,
        "transaction": at.transaction,
        "balance": at.balance,
        "available": at.available,
        "model": at.model,
        "price_version": at.price_version,
        "idempotency_key": at.idempotency_key,
    }
    shown = [(name, value) for name, value in data.items() if value is not None]
    columns = [Column(name.upper().replace("_", " ")) for name, _ in shown]
    return View("tokenctl.generation.v1", data, Table(columns, [[value for _, value in shown]], pairs=True))
