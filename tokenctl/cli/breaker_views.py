"""What `breaker` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenctl.output import Cell, Column, Count, Schema, Table, TypedDict, View

if TYPE_CHECKING:
    from tokenctl.resilience.breaker import BreakerState


class BreakerData(TypedDict):
    """A breaker that has failures, closed, open or half_open; both times are null while closed."""

    name: str
    state: str
    failures: Count
    opened_s: float | None
    next_try_s: float | None
    last_cause: str


class NameData(TypedDict):
    """A breaker that was reset."""

    name: str


BREAKERS = Schema("tokenctl.breakers.v1", list[BreakerData])
RESET = Schema("tokenctl.breakers_reset.v1", list[NameData])


def breakers(states: Sequence[BreakerState]) -> View[list[BreakerData]]:
    """Breakers, times in seconds."""
    data: list[BreakerData] = [
        {
            "name": state.name,
            "state": state.state,
            "failures": state.failures,
            "opened_s": None if state.opened_s is None else round(state.opened_s, 3),
            "next_try_s": None if state.next_try_s is None else round(state.next_try_s, 3),
            "last_cause": state.cause,
        }
        for state in states
    ]
    columns = [Column("BREAKER"), Column("STATE"), Column("FAILURES", number=True)]
    columns += [Column("OPEN FOR (S)", number=True), Column("NEXT TRY IN (S)", number=True), Column("LAST CAUSE")]
    rows: list[tuple[Cell, ...]] = [
        (
            state.name,
            state.state,
            state.failures,
            None if state.opened_s is None else int(state.opened_s),
            None if state.next_try_s is None else math.ceil(state.next_try_s),
            state.cause,
        )
        for state in states
    ]
    return View(BREAKERS, data, Table(columns, rows))


def reset(names: Sequence[str]) -> View[list[NameData]]:
    """Names of breakers that were closed."""
    data: list[NameData] = [{"name": name} for name in names]
    table = Table([Column("RESET")], [(name,) for name in names])
    return View(RESET, data, table, value="\n".join(names) or None)
