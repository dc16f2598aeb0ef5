"""How Gemini's keys are shown: never more of a secret than its last four characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenctl.output import Cell, Column, Schema, Table, TypedDict, View

if TYPE_CHECKING:
    from tokenctl.clients.generator import KeyTest
    from tokenctl.clients.keyring import KeyState

_ACCEPTED = "accepted"
_RESULTS = {
    "success": _ACCEPTED,
    "quota_minute": _ACCEPTED,  # a key that is not accepted has no quota
    "quota_day": _ACCEPTED,
    "key_rejected": "rejected",
    "project_refused": "project refused",
    "precondition": "project refused",
    "not_found": "model unknown",
    "bad_request": "not understood",
}
_SILENT = "no answer"


class KeyData(TypedDict):
    """A key: in_use, ready, cooling, disabled or rejected; `cooldown_s` is null unless it is cooling."""

    id: str
    project: str
    last4: str
    state: str
    why: str | None
    cooldown_s: float | None


class KeyTestData(TypedDict):
    """What Gemini said to a key."""

    id: str
    project: str
    last4: str
    accepted: bool
    outcome: str
    said: str | None
    took_s: float


KEYS = Schema("tokenctl.keys.v1", list[KeyData])
KEY_TESTS = Schema("tokenctl.key_tests.v1", list[KeyTestData])


def keys(states: Sequence[KeyState]) -> View[list[KeyData]]:
    """Every key with its state and how long it still cools down, in seconds."""
    data: list[KeyData] = [
        {
            "id": one.key.id,
            "project": one.key.project,
            "last4": one.key.last4,
            "state": one.state.replace(" ", "_"),
            "why": one.why,
            "cooldown_s": None if one.cooldown_s is None else round(one.cooldown_s, 1),
        }
        for one in states
    ]
    columns = (
        Column("KEY"),
        Column("PROJECT"),
        Column("ENDS IN"),
        Column("STATE"),
        Column("COOLS FOR (S)", number=True),
        Column("WHY"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            one.key.id,
            one.key.project,
            one.key.last4,
            one.state,
            None if one.cooldown_s is None else round(one.cooldown_s),
            one.why,
        )
        for one in states
    ]
    return View(KEYS, data, Table(columns, rows), value="\n".join(one.key.id for one in states) or None)


def tests(found: Sequence[KeyTest]) -> View[list[KeyTestData]]:
    """What Gemini said to every key that was tested, and how long that took, in seconds."""
    data: list[KeyTestData] = [
        {
            "id": one.key.id,
            "project": one.key.project,
            "last4": one.key.last4,
            "accepted": accepted(one),
            "outcome": one.label,
            "said": one.said or None,
            "took_s": round(one.took_s, 3),
        }
        for one in found
    ]
    columns = (Column("KEY"), Column("PROJECT"), Column("ENDS IN"), Column("RESULT"), Column("GEMINI SAID"))
    rows: list[tuple[Cell, ...]] = [
        (one.key.id, one.key.project, one.key.last4, _result(one), one.said or None) for one in found
    ]
    return View(KEY_TESTS, data, Table(columns, rows))


def accepted(test: KeyTest) -> bool:
    """Whether Gemini accepted the key."""
    return _result(test) == _ACCEPTED


def silent(test: KeyTest) -> bool:
    """Whether Gemini did not answer, so that nothing is known of the key."""
    return _result(test) == _SILENT


def _result(test: KeyTest) -> str:
    return _RESULTS.get(test.label, _SILENT)
