"""The house rules that no linter checks. Import direction is the contract in pyproject.toml."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = sorted(
    file for folder in ("tokenctl", "tests", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py")
)
# A name that says nothing collects what belongs elsewhere.
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
FILE_LINES = 400
FUNCTION_LINES = 70
# Each takes 50 to 150 ms to import, and start-up is the budget of every command.
HEAVY = {
    "diskcache",
    "google",
    "httpx2",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "pydantic_core",
    "rich",
    "sqlite3",
    "tenacity",
}


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _committed() -> Iterator[Path]:
    """Every file of the project; what is made or installed is left out."""
    made = {".git", ".venv", ".demo", ".hypothesis", "dist"}
    for top in sorted(ROOT.iterdir()):
        if top.name in made or top.name.endswith("_cache"):
            continue
        files = [top] if top.is_file() else sorted(top.rglob("*"))
        yield from (file for file in files if file.is_file() and file.parent.name != "__pycache__")


@pytest.mark.parametrize("file", PYTHON, ids=_name)
def test_files_and_functions_stay_short(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    long = [
        f"{node.name} in line {node.lineno}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []
    assert len(source.splitlines()) <= FILE_LINES


def test_names_say_something() -> None:
    assert [_name(file) for file in _committed() if EMPTY_NAMES & {file.stem, *file.parent.parts[-2:]}] == []


def test_no_file_names_a_place_on_one_machine() -> None:
    somewhere = re.compile(rb"file://|/(?:home|Users)/\w|/root/[\w.]|" + re.escape(str(ROOT).encode()) + rb"\b")
    others = [file for file in _committed() if file != Path(__file__)]
    found = {_name(file): somewhere.search(file.read_bytes()) for file in others}
    assert {name: match.group() for name, match in found.items() if match} == {}


def test_links_stay_inside_the_project() -> None:
    for file in (file for file in _committed() if file.suffix == ".md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", file.read_text(encoding="utf-8")):
            linked = (file.parent / target).resolve()
            assert linked.exists(), f"{_name(file)} links to {target}"
            assert linked.is_relative_to(ROOT), f"{_name(file)} links to {target}"


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Python before 3.11.5, Debian 12's among them, then matches half a repetition (cpython issue 106052)."""
    possessive_group = re.compile(r"\)(?:[*+?]|\{+[0-9,]*\}+)\+")
    files = [file for file in PYTHON if file.is_relative_to(ROOT / "tokenctl")]
    assert [_name(file) for file in files if possessive_group.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("option", "unwanted"),
    [("--version", HEAVY | {"typer"}), ("--help", HEAVY)],
    ids=["version", "help"],
)
def test_start_up_imports_nothing_heavy(option: str, unwanted: set[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tokenctl", option],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "tokenctl" in imported
    assert imported & unwanted == set()


@pytest.mark.parametrize("line", ["keys list", "keys disable env", "health --check keys,breakers,state"])
def test_what_only_looks_at_keys_does_not_load_their_library(line: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tokenctl", *line.split()],
        capture_output=True, text=True, timeout=60, check=False,  # a machine may be unhealthy
        env={**os.environ, "GEMINI_API_KEY": "a-key-that-opens-nothing"},
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "tokenctl.settings" in imported
    assert imported & {"google", "google.genai", "httpx2"} == set()
