"""Reading one line of JSON Lines: an object whose members are the columns."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from tokenctl.grantfile.display import shown
from tokenctl.grantfile.explain import did_you_mean
from tokenctl.grantfile.fields import FIELDS, IGNORED, KEY_ALIAS, canonical
from tokenctl.grantfile.values import Number, Value


class Members(NamedTuple):
    """The members of a line by column, and what is wrong with the line as a whole ("" for nothing)."""

    values: dict[str, Value]
    problem: str


class _TwiceError(ValueError):
    """A member stands twice in one object: which one counts would depend on the reader."""


def members(line: str) -> Members:
    """Read `line`; numbers stay as they are written, so no digit is lost and none is too many."""
    try:
        found: object = _DECODER.decode(line)
    except _TwiceError as error:
        return Members({}, f"the member {shown(str(error))} stands twice")
    except RecursionError:
        return Members({}, "is nested too deeply; an object of plain values is wanted")
    except json.JSONDecodeError as error:
        return Members({}, f"is not JSON: {error.msg} at character {error.pos + 1}")
    if not isinstance(found, dict):
        return Members({}, 'is no object; every line is one, such as {"user_id": "u_1", "amount": 5}')
    return _by_column(found)


def as_text(value: Value) -> str:
    """Write a member as a cell of a reject file; what a cell can't hold is written as JSON."""
    if value is None:
        return ""
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else json.dumps(value, default=as_text)


def _by_column(found: dict[str, Value]) -> Members:
    values: dict[str, Value] = {}
    for name, value in found.items():
        column = _COLUMNS.get(name)
        if column is None:
            return Members(found, f"has an unknown member {shown(name)}{did_you_mean(name, _COLUMNS)}")
        if column in values:
            return Members(found, f"has both {column} and {KEY_ALIAS}, which mean the same")
        values[column] = value
    values.pop(IGNORED, None)
    return Members(values, "")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _TwiceError(_first_twice([name for name, _ in pairs]))
    return made


def _first_twice(names: Collection[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


_COLUMNS = {name: canonical(name) for name in (*FIELDS, KEY_ALIAS, IGNORED)}
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number
)  # fmt: skip
