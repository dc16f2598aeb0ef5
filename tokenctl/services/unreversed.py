"""Users of whose entries a reversal leaves some out: in words, and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from tokenctl.models import Shortage
from tokenctl.storage.staged import LeftOut
from tokenctl.wording import counted

#: Users that a message names; JSON names up to NAMED.
SHOWN = 20
NAMED = 10_000
#: What a balance holds at most.
MOST = "9,007,199,254,740,991 tokens"
TOO_LARGE = f"the balance would pass {MOST}"


def named(shortages: Sequence[LeftOut]) -> list[str]:
    """A line for each user who lacks tokens, the first of them."""
    return _first(
        [
            f"{s.user_id} lacks {s.missing:,} (wanted {s.wanted:,}, available {s.available:,})"
            for s in shortages[:SHOWN]
        ],
        len(shortages),
    )


def named_overflows(overflows: Sequence[LeftOut]) -> list[str]:
    """A line for each user whose balance would be too large, the first of them."""
    return _first(
        [f"{o.user_id} has {o.balance:,}, would be given {o.given:,} back" for o in overflows[:SHOWN]], len(overflows)
    )


def as_data(shortages: Sequence[LeftOut]) -> list[Shortage]:
    """Who lacks how much, for programs; at most NAMED users."""
    return [
        {"user_id": s.user_id, "wanted": s.wanted, "available": s.available, "missing": s.missing}
        for s in shortages[:NAMED]
    ]


def _first(lines: list[str], count: int) -> list[str]:
    rest = count - len(lines)
    return [*lines, f"and {counted(rest, 'more user')}"] if rest > 0 else lines
