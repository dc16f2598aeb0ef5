"""What is generated and committed: it is what the commands say now, and man takes the pages."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import generators
from generators import manual
from generators.surface import Value, surface, value_options
from tests import require

FILES = generators.files()
PAGES = sorted(path for path in FILES if path.suffix == ".1")


def test_files_are_what_the_commands_say() -> None:
    stale = [
        str(path.relative_to(generators.ROOT))
        for path, text in FILES.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    standing = {path for name in ("completions", "man") for path in (generators.ROOT / name).iterdir()}
    stale += [f"{path.relative_to(generators.ROOT)} (no longer made)" for path in standing - set(FILES)]
    assert stale == [], "a command has changed: run `make docs` and commit what it changes"


def test_every_command_has_a_page() -> None:
    names = {f"tokenctl-{command.name}.1" for command in surface().commands}
    assert {page.name for page in PAGES} == names | {"tokenctl.1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_has_no_complaint(page: Path) -> None:
    man = require.tool("man", package="man-db")
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    shown = subprocess.run(
        [man, "--warnings", "-E", "UTF-8", "-l", str(page)],
        capture_output=True, text=True, env=env, timeout=60, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    ascii_only = subprocess.run(
        [man, "--warnings", "-l", str(page)],
        capture_output=True, text=True, env={**env, "LC_ALL": "C"}, timeout=60, check=True,
    )  # fmt: skip
    assert ascii_only.stderr == ""
    text = re.sub(r".\x08|\x1b\[[0-9;]*m", "", shown.stdout)
    command = page.stem.replace("tokenctl-", "tokenctl ")
    headings = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"]
    assert [one for one in headings if f"\n{one}\n" not in text] == []
    assert re.search(rf"EXAMPLES\n.*^ +{command}|^ {{10,}}.*{command} ", text, re.DOTALL | re.MULTILINE)


def test_a_synopsis_shows_what_may_be_left_out_and_what_stands_for_what() -> None:
    man = require.tool("man", package="man-db")
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "160"}
    told = ""
    for page in PAGES:
        shown = subprocess.run(
            [man, "-l", str(page)], capture_output=True, text=True, env=env, timeout=60, check=True
        ).stdout  # fmt: skip
        told += re.sub(r".\x08|\x1b\[[0-9;]*m", "", shown).partition("SYNOPSIS\n")[2].partition("\nDESCRIPTION")[0]
    lines = {line.strip() for line in told.splitlines()}
    for synopsis in (
        "balance {USER... | -}", "batch-import {FILE | -}", "breaker reset {NAME | --all}", "config init [FILE | -]",
        "help [TOPIC | COMMAND]", "holds list [USER]", "holds release USER ID --reason CODE", "keys test [ID...]",
        "reverse {USER:SEQ | --batch ID | --operator NAME --since T} --reason CODE", "schema [NAME]",
    ):  # fmt: skip
        assert f"tokenctl {synopsis} [OPTION ...]" in lines, sorted(lines)


def test_a_page_has_the_defaults_that_help_has() -> None:
    for command, default in (("history", "50"), ("batches", "20")):
        page = FILES[generators.ROOT / "man" / f"tokenctl-{command}.1"]
        assert f"At most so many rows, up to 100000. [default: {default}]\n" in page


def test_text_that_roff_would_obey_is_kept_as_text() -> None:
    assert manual.roff(".TH 'a' \\n -x \"~^`…é") == r"\&.TH \(aqa\(aq \en \-x \(dq\(ti\(ha\(ga...\[u00E9]"


def test_what_each_value_is() -> None:
    root = surface()
    values = {
        (command.name, value.name): value
        for command in root.all()
        for value in [*(one.value for one in command.options), *(one.value for one in command.arguments)]
        if value
    }
    assert values["batch-import", "FILE | -"].kind == "file"
    assert values["metrics", "PATH"].kind == "file"
    assert values["verify", "U"].kind == "user"
    assert values["batches show", "ID"].kind == "batch"
    assert values["keys disable", "ID"].kind == "text"
    assert values["show", "USER:SEQ"].kind == "transaction"
    assert values["batch-import", "FORMAT_IN"] == Value("FORMAT_IN", "choice", ("csv", "jsonl"))
    assert "--amount" in value_options(root)
    assert "--dry-run" not in value_options(root)
