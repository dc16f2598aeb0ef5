"""SECURITY.md: every promise names tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", TEXT)


def functions(file: str) -> set[str]:
    """The tests that a file defines."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_is_named_is_there() -> None:
    assert [
        f"{file}::{name}" for file, name in NAMED if not functions(file) or (name and name not in functions(file))
    ] == []


def test_ten_promises_each_with_a_test() -> None:
    rows = re.findall(r"^\| (P\d+) \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE)
    assert [number for number, _, _ in rows] == [f"P{n}" for n in range(1, 11)]
    assert [number for number, _, shown in rows if not re.search(r"`tests/\S+::test_\w+`", shown)] == []


def test_no_reference_is_misspelt() -> None:
    assert len(re.findall("tests/", TEXT)) == len(NAMED)
    assert [path for path in re.findall(r"`((?:tokenctl|ops)/[\w./]+)`", TEXT) if not (ROOT / path).exists()] == []
