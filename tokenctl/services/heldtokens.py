"""The tokens of images on their way, from held to captured or released: counted and logged by whoever moves them."""

from __future__ import annotations

from tokenctl.models import Generation
from tokenctl.telemetry import catalog, logs
from tokenctl.telemetry.metrics import Metrics


def moved(metrics: Metrics, step: str, at: Generation) -> None:
    """Tell that this run held, captured or released the tokens of `at`."""
    metrics.count(catalog.GENERATION_TOKENS, at.amount or 0, step=step)
    logs.emit(
        "info",
        "generation",
        step=step,
        generation=at.generation_id,
        user_id=at.user_id,
        tokens=at.amount,
        quality=at.quality,
        price_version=at.price_version,
        transaction=at.transaction,
    )
