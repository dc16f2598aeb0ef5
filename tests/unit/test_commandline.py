"""Commands that are printed name the ledger that their run was on."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from tokenctl import commandline
from tokenctl.cli.app import SECTIONS
from tokenctl.models import Grant, Reversal, Selection
from tokenctl.services import batch_commands, grants, reversals

ROOT = Path(__file__).parents[2]
COMMANDS = {name for names in SECTIONS.values() for name in names}
#: They say the same of every ledger.
ELSEWHERE = {"help", "schema", "completion"}
#: Texts that name commands as examples.
TEXTS = {"cli/app.py", "cli/topics.py", "commandline.py"}


def test_without_flags_nothing_is_added() -> None:
    assert commandline.line("show", "u_1:2") == "tokenctl show u_1:2"
    assert commandline.undo("u_1:2") == "tokenctl reverse u_1:2 --reason mistake"
    assert commandline.undo_batch("5f0c22ab9d10") == "tokenctl reverse --batch 5f0c22ab9d10 --reason mistake"


def test_what_chose_the_ledger_is_added_and_quoted() -> None:
    with commandline.choosing(profile="prod", config=Path("/etc/my file.toml")):
        words = shlex.split(commandline.line("show", "u_1:2"))
    assert words == ["tokenctl", "show", "u_1:2", "--profile", "prod", "--config", "/etc/my file.toml"]
    with commandline.choosing(profile=None, config=Path("/etc/x.toml")):
        assert commandline.line("batches") == "tokenctl batches --config /etc/x.toml"
    assert commandline.line("batches") == "tokenctl batches"


def test_what_ends_an_unknown_outcome_stays_in_its_ledger() -> None:
    with commandline.choosing(profile="prod", config=None):
        commands = [
            grants.command(Grant("u_1", 5, "goodwill", key="k1"), limit=5000),
            grants.command(Grant("u_1", 5001, "goodwill", key="k1"), limit=5000),
            reversals.command(Reversal("u_1", 2, "mistake", key="k2")),
            reversals.command(Reversal("u_1", 2, "mistake", key="k2"), 9000),
            batch_commands.reversing(Selection("5f0c22ab9d10"), reason="mistake"),
        ]
    assert [command.endswith(" --profile prod") for command in commands] == [True] * 5


@pytest.mark.parametrize(
    ("listed", "given"),
    [
        (None, ["mistake", "lost"]),
        ({"wrong", "lost", "mistake"}, ["mistake", "lost"]),
        ({"wrong", "lost"}, ["lost", "lost"]),
        ({"wrong", "goodwill"}, ["goodwill", "goodwill"]),
    ],
)
def test_a_reason_is_one_that_the_run_would_take(listed: set[str] | None, given: list[str]) -> None:
    with commandline.choosing(profile=None, config=None, reasons=listed):
        assert [commandline.reason("mistake"), commandline.reason("lost")] == given
        assert commandline.undo("u_1:2") == f"tokenctl reverse u_1:2 --reason {given[0]}"
        assert commandline.undo_batch("5f0c22ab9d10") == f"tokenctl reverse --batch 5f0c22ab9d10 --reason {given[0]}"
    assert commandline.reason("mistake") == "mistake"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tokenctl").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT / "tokenctl"))
)
def test_no_command_is_printed_past_it(file: Path) -> None:
    """Help may name a command as an example; what is printed for somebody to run is made by `line`."""
    if str(file.relative_to(ROOT / "tokenctl")) in TEXTS:
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    examples = set(_examples(tree))
    named = re.compile(rf"(?<!by )(?<!`)tokenctl ({'|'.join(COMMANDS - ELSEWHERE)})\b(?! --help)")
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in examples]
    assert [one.lineno for one in texts if isinstance(one.value, str) and named.search(one.value)] == []
    lists = [node.elts[0] for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple) and node.elts]
    assert [one.lineno for one in lists if isinstance(one, ast.Constant) and one.value == "tokenctl"] == []


def _examples(tree: ast.Module) -> list[ast.AST]:
    """Docstrings, and the help of groups and options."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr):
            found.append(node.body[0].value)
        if isinstance(node, ast.keyword) and node.arg == "help":
            found += ast.walk(node.value)
    return found
