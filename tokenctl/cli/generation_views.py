"""How holds and generations are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokenctl import commandline
from tokenctl.models import Generation, Hold
from tokenctl.output import Cell, Column, Count, EntryName, Schema, Table, Tokens, TypedDict, View
from tokenctl.output.views import json_ready
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.clients.generation import Request
    from tokenctl.services.generations import Order


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
    released_by: str | None
    released_claimed_by: str | None


class UsageData(TypedDict):
    """The tokens that Gemini counted, which are not the ledger's; null is what it did not tell."""

    prompt: Count | None
    output: Count | None
    thoughts: Count | None
    total: Count | None


class PhotoData(TypedDict):
    """A photo that would be sent."""

    path: str
    mime: str
    width: Count
    height: Count
    bytes: Count


class PlanData(TypedDict):
    """What a generation would cost and send; `already` is what the key has begun or paid."""

    user_id: str
    cost: Tokens
    price_version: str
    balance: Tokens | None
    available_before: Tokens
    available: Tokens | None
    already: str | None
    transaction: EntryName | None
    model: str
    quality: str
    aspect_ratio: str | None
    prompt_characters: Count
    images: list[PhotoData]
    bytes: Count


class ImageData(TypedDict):
    """What stands beside an image as <id>.json: where it comes from and what it cost."""

    id: str
    user_id: str
    created_at: datetime | None
    quality: str | None
    aspect_ratio: str | None
    width: Count | None
    height: Count | None
    full_size: bool
    bytes: Count | None
    sha256: str | None
    charged: Tokens
    price_version: str | None
    transaction: EntryName | None
    model: str | None
    model_version: str | None
    response_id: str | None
    usage: UsageData
    prompt: str | None


class GenerationData(TypedDict):
    """A paid job: its image, its payment, and what its user has now."""

    id: str
    user_id: str
    state: str | None
    image: str | None
    quality: str | None
    aspect_ratio: str | None
    width: Count | None
    height: Count | None
    full_size: bool | None
    bytes: Count | None
    sha256: str | None
    charged: Tokens
    transaction: EntryName | None
    balance: Tokens | None
    available: Tokens | None
    price_version: str | None
    model: str | None
    model_version: str | None
    response_id: str | None
    usage: UsageData
    calls: Count | None
    idempotency_key: str | None
    undo: str | None


HOLDS = Schema("tokenctl.holds.v1", list[HoldData])
GENERATION = Schema("tokenctl.generation.v1", GenerationData)
PLAN = Schema("tokenctl.generation_plan.v1", PlanData)


def holds(found: Sequence[Hold]) -> View[list[HoldData]]:
    """A list of holds."""
    columns = [
        Column("USER"), Column("ID"), Column("TOKENS", number=True), Column("STATE"), Column("DEADLINE"),
        Column("CALLS", number=True, optional=True), Column("BY", optional=True), Column("KEY", optional=True),
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
        "released_by": hold.released_by,
        "released_claimed_by": hold.released_claimed_by,
    }


def plan(request: Request, order: Order, at: Generation) -> View[PlanData]:
    """What `generate` would charge and send; `at` is what the ledger says to it."""
    paid = at.outcome == "captured"
    data: PlanData = {
        "user_id": order.user_id,
        "cost": 0 if paid else order.price,
        "price_version": order.price_version,
        "balance": at.balance,
        "available_before": (at.available or 0) + (order.price if at.outcome == "held" else 0),
        "available": at.available,
        "already": at.generation_id if at.outcome != "held" else None,
        "transaction": at.transaction,
        "model": request.model,
        "quality": request.quality,
        "aspect_ratio": request.aspect_ratio,
        "prompt_characters": len(request.prompt),
        "images": [
            {"path": str(i.path), "mime": i.mime, "width": i.width, "height": i.height, "bytes": i.size_bytes}
            for i in request.images
        ],
        "bytes": sum(image.size_bytes for image in request.images),
    }
    photos: dict[str, Cell] = {
        f"IMAGE {number}": f"{i.path}  {i.width} x {i.height}, {i.size_bytes:,} bytes"
        for number, i in enumerate(request.images, 1)
    }
    shown: dict[str, Cell] = {
        "USER": order.user_id,
        "COST": data["cost"],
        "AVAILABLE": data["available_before"],
        "LEFT": at.available,
        "PRICES": order.price_version,
        "MODEL": request.model,
        "QUALITY": request.quality,
        "ASPECT RATIO": request.aspect_ratio,
        "PROMPT": counted(len(request.prompt), "character"),
        "ALREADY": f"generation {at.generation_id}, {at.state}" if data["already"] else None,
        **photos,  # three to ten, so they come last
    }
    return View(PLAN, data, _pairs(shown), value=str(data["cost"]))


def generation(at: Generation, image: str | None = None) -> View[GenerationData]:
    """One generation: its image, its payment, and what its user has now."""
    data: GenerationData = {
        "id": at.generation_id,
        "user_id": at.user_id,
        "state": at.state,
        "image": image,
        "quality": at.quality,
        "aspect_ratio": at.aspect_ratio,
        "width": at.width,
        "height": at.height,
        "full_size": None if at.width is None else at.is_full_size,
        "bytes": at.image_bytes,
        "sha256": at.image_sha256,
        "charged": _charged(at),
        "transaction": at.transaction,
        "balance": at.balance,
        "available": at.available,
        "price_version": at.price_version,
        "model": at.model,
        "model_version": at.model_version,
        "response_id": at.response_id,
        "usage": _usage(at),
        "calls": at.attempts,
        "idempotency_key": at.idempotency_key,
        "undo": None if at.transaction is None else commandline.undo(at.transaction),
    }
    shown: dict[str, Cell] = {
        "IMAGE": image,
        "SIZE": f"{at.width} x {at.height}, {at.image_bytes:,} bytes" if at.width else None,
        "GENERATION": at.generation_id,
        "USER": at.user_id,
        "STATE": at.state,
        "CHARGED": data["charged"],
        "TRANSACTION": at.transaction,
        "BALANCE": at.balance,
        "AVAILABLE": at.available,
        "QUALITY": at.quality,
        "PRICES": at.price_version,
        "MODEL": at.model_version or at.model,
        "KEY": at.idempotency_key,
        "UNDO": data["undo"],
    }
    return View(GENERATION, data, _pairs(shown), value=image)


def sidecar(at: Generation, prompt: str | None) -> dict[str, Any]:
    """What stands beside the image, as JSON; `prompt` is None unless it is to be kept."""
    data: ImageData = {
        "id": at.generation_id,
        "user_id": at.user_id,
        "created_at": at.created_at,
        "quality": at.quality,
        "aspect_ratio": at.aspect_ratio,
        "width": at.width,
        "height": at.height,
        "full_size": at.is_full_size,
        "bytes": at.image_bytes,
        "sha256": at.image_sha256,
        "charged": _charged(at),
        "price_version": at.price_version,
        "transaction": at.transaction,
        "model": at.model,
        "model_version": at.model_version,
        "response_id": at.response_id,
        "usage": _usage(at),
        "prompt": prompt,
    }
    ready: dict[str, Any] = json_ready(data)
    return ready


def _charged(at: Generation) -> int:
    return (at.amount or 0) if at.state == "captured" else 0


def _usage(at: Generation) -> UsageData:
    told = at.usage or {}
    return {
        "prompt": told.get("prompt"),
        "output": told.get("output"),
        "thoughts": told.get("thoughts"),
        "total": told.get("total"),
    }


def _pairs(shown: Mapping[str, Cell]) -> Table:
    return Table([Column(name) for name in shown], [tuple(shown.values())], pairs=True)
