"""What follows from how long Gemini may take, and from the price list, before anything is connected to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tokenctl.clients.generation import QUALITIES, InputImage, Request
from tokenctl.clients.generator import CALL_S, TOTAL_S
from tokenctl.errors import ConfigError, TooExpensive
from tokenctl.services import generations
from tokenctl.settings import Prices

PRICES = Prices("v1", {"1K": 40, "2K": 60})
PHOTO = InputImage(Path("a.png"), "image/png", 7, 5, 69, "a" * 64)
REQUEST = Request("m", "a cat", (PHOTO, replace(PHOTO, sha256="b" * 64)), "2K")


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_lease_outlives_a_call_and_a_hold_outlives_them_all(quality: Any) -> None:
    limits = generations.times(quality)
    waits_s = 60 + 30  # for a key, and between two calls
    assert CALL_S[quality] + waits_s < limits.lease_s < limits.hold_s
    assert TOTAL_S[quality] + waits_s < limits.hold_s


def test_an_order_has_the_price_of_its_quality() -> None:
    order = generations.order("u1", REQUEST, PRICES, max_cost=60)
    assert (order.price, order.price_version, order.model, order.quality) == (60, "v1", "m", "2K")
    with pytest.raises(TooExpensive, match="costs 60 tokens and --max-cost is 59"):
        generations.order("u1", REQUEST, PRICES, max_cost=59)


@pytest.mark.parametrize("prices", [Prices(), Prices("v1"), Prices(None, {"2K": 60}), Prices("v1", {"1K": 40})])
def test_without_a_price_or_its_version_there_is_no_order(prices: Prices) -> None:
    with pytest.raises(ConfigError) as caught:
        generations.order("u1", REQUEST, prices)
    assert "[prices]" in caught.value.hint


def test_inputs_are_told_apart() -> None:
    one, other = REQUEST.images
    requests = [
        REQUEST,
        replace(REQUEST, prompt="a dog"),
        replace(REQUEST, images=(other, one)),
        replace(REQUEST, images=(one,)),
        replace(REQUEST, images=(one, one)),
        replace(REQUEST, images=(one, other, other)),
    ]
    assert len({generations.order("u1", request, PRICES).input_sha256 for request in requests}) == len(requests)
    renamed = replace(REQUEST, images=(replace(one, path=Path("b.png")), other))
    assert generations.order("u1", renamed, PRICES) == generations.order("u1", REQUEST, PRICES)
