"""The published schema of a row says what the importer does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.unit.grantfile.corpus import jsonl
from tests.unit.grantfile.opened import blocks_of
from tokenctl.grantfile.check import CheckOptions
from tokenctl.grantfile.fields import FIELDS, IGNORED, KEY_ALIAS
from tokenctl.grantfile.judge import Judge, row_schema
from tokenctl.grantfile.values import Number

SCHEMA = Draft202012Validator(row_schema())
GOOD = {"user_id": "u1", "amount": 5, "reason": "test", "idempotency_key": "k1"}
#: What a row may lack is given by the command line.
DEFAULTS = CheckOptions(format="jsonl", default_reason="test")


def test_the_schema_names_every_column() -> None:
    assert set(row_schema()["properties"]) == {*FIELDS, KEY_ALIAS, IGNORED}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"reason": ""}, True),
        ({"note": None, "ticket": "", "kind": None, "error": [1]}, True),
        ({"note": "x" * 500, "ticket": "A/1#2", "kind": "purchase"}, True),
        ({"amount": 10**15 - 1, "user_id": "a" * 128}, True),
        ({"user_id": "-u"}, False),
        ({"user_id": "a" * 129}, False),
        ({"user_id": None}, False),
        ({"amount": 0}, False),
        ({"amount": -5}, False),
        ({"amount": 10**15}, False),
        ({"amount": "5"}, False),
        ({"amount": 5.5}, False),
        ({"amount": True}, False),
        ({"reason": "Goodwill"}, False),
        ({"idempotency_key": "a b"}, False),
        ({"key": "k2"}, False),
        ({"kind": "generation"}, False),
        ({"note": "x" * 501}, False),
        ({"ticket": 7}, False),
        ({"other": 1}, False),
    ],
)
def test_schema_and_importer_judge_alike(change: dict[str, Any], good: bool, tmp_path: Path) -> None:
    row = {**GOOD, **change}
    blocks = blocks_of(jsonl(json.dumps(row)), tmp_path, DEFAULTS)
    assert (sum(block.rows for block in blocks), SCHEMA.is_valid(row)) == (int(good), good)


_TEXTS = st.text(st.sampled_from("aZ0-_.:@/# é"), max_size=4) | st.sampled_from(["bonus", "x" * 129, "k" * 65])
_NAMES = [name for name in FIELDS if name not in ("amount", "note")]


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _TEXTS | st.none())))
def test_any_row_is_judged_alike(change: dict[str, Any]) -> None:
    row = {**GOOD, **change}
    judge = Judge(default_reason="test", campaign=None, reasons=None)
    filled = {**row, "amount": Number("5"), "idempotency_key": row["idempotency_key"] or "k1"}
    assert SCHEMA.is_valid(row) == (not isinstance(judge.judge(filled), tuple))
