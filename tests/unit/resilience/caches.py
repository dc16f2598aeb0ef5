"""A small cache of values whose truth is known, and one run of a command on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenctl.resilience.cache import Cache
from tokenctl.resilience.events import Event, Trouble

NAMES = [f"user_{number}" for number in range(40)]


def value_of(name: str) -> dict[str, Any]:
    number = int(name.removeprefix("user_"))
    return {"balance": 1000 + 7 * number, "note": name * 3}


def fill(cache: Cache, names: list[str]) -> None:
    ticket = cache.ticket("n")
    cache.put_many("n", {name: value_of(name) for name in names}, 1000.0, ticket=ticket)


def run(folder: Path, names: list[str] | None = None) -> tuple[dict[str, Any], bool, list[Trouble]]:
    """One run of a command: what it gets, whether what it puts is there, and what it says about the files."""
    events: list[Event] = []
    cache = Cache(folder, emit=events.append)
    found = cache.get_many("n", names or NAMES, max_age_s=1000.0)
    fill(cache, NAMES[:1])
    kept = cache.get_many("n", [NAMES[0]], max_age_s=1000.0).get(NAMES[0])
    cache.close()
    troubles = [event for event in events if isinstance(event, Trouble)]
    return {name: hit.value for name, hit in found.items()}, kept is not None, troubles
