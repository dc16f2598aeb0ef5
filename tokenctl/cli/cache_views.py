"""What `cache` prints."""

from __future__ import annotations

from tokenctl.cli.views import pairs
from tokenctl.output import Count, Schema, TypedDict, View


class StatsData(TypedDict):
    """Where the cache is and how much it holds; `ttl_s` is how long an entry is shown as it is, 0 for not at all."""

    directory: str
    format: Count
    entries: Count
    size_bytes: Count
    oldest_s: Count | None
    ttl_s: float


class ClearedData(TypedDict):
    """How many entries were forgotten."""

    cleared: Count


STATS = Schema("tokenctl.cache_stats.v1", StatsData)
CLEARED = Schema("tokenctl.cache_cleared.v1", ClearedData)


def stats(facts: StatsData) -> View[StatsData]:
    """The cache as it is now."""
    return View(STATS, facts, pairs({**facts, "ttl_s": f"{facts['ttl_s']:g}"}))


def cleared(entries: int) -> View[ClearedData]:
    """What `cache clear` did."""
    data: ClearedData = {"cleared": entries}
    return View(CLEARED, data, pairs(data))
