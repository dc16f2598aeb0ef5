"""What `doctor` prints."""

from __future__ import annotations

from collections.abc import Sequence

from tokenctl.output import Cell, Column, Schema, Table, TypedDict, View
from tokenctl.services.doctor import Fact


class FactData(TypedDict):
    """One thing that is so here, and what is wrong with it."""

    area: str
    name: str
    value: str
    problem: str | None


FACTS = Schema("tokenctl.doctor.v1", list[FactData])


def facts(found: Sequence[Fact]) -> View[list[FactData]]:
    """All of them; in the table what is wrong stands behind <<."""
    data: list[FactData] = [
        {"area": one.area, "name": one.name, "value": one.value, "problem": one.problem} for one in found
    ]
    rows: list[tuple[Cell, ...]] = [(f"{one.area}: {one.name}", _told(one)) for one in found]
    return View(FACTS, data, Table((Column("WHAT"), Column("IS")), rows))


def _told(fact: Fact) -> str:
    return fact.value if fact.problem is None else f"{fact.value}  << {fact.problem}"
