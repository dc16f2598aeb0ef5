"""Completion as people meet it: real shells on a terminal, with nothing but a stand-in for tokenctl in PATH.

The stand-in prints its arguments, so a test types, presses TAB and ENTER, and reads what would
have been run. As nothing else can be found, whatever a completion would start is missed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import require
from tests.cli.running import ROOT, Cli, CommandLine, Terminal, terminal
from tokenctl.cli import recent

COMPLETIONS = ROOT / "completions"
FILES = {"bash": "tokenctl.bash", "zsh": "_tokenctl", "fish": "tokenctl.fish"}
STAND_IN = """#!/bin/sh
printf '<%s>' "$@"
echo ' was run'
"""
USER = "u_zoe:x@example.org"
#: What is typed after `tokenctl`, and the arguments that should come of it.
CASES = [
    ("gr\t", "<grant-bonus>"),
    ("db mig\t", "<db><migrate>"),
    ("batches sh\t5f\t", "<batches><show><5f0c22ab9d10>"),
    ("batches --state unf\t", "<batches><--state><unfinished>"),
    ("completion fi\t", "<completion><fish>"),
    ("help exit\t", "<help><exit-codes>"),
    ("balance --allow\t", "<balance><--allow-stale>"),
    ("history u_1 --kind pu\t--lim\t5", "<history><u_1><--kind><purchase><--limit><5>"),
    ("batch-import --format-in c\t", "<batch-import><--format-in><csv>"),
    ("batch-import --format=va\t", "<batch-import><--format=value>"),
    ("metrics --format op\t", "<metrics><--format><openmetrics>"),
    ("batch-import dec\t", "<batch-import><december grants.csv>"),
    ("balance --config=other\t", "<balance><--config=other.toml>"),
    ("balance --config other\t", "<balance><--config><other.toml>"),
    ("generate u_1 --quality 2\t--aspect-ratio 16:\t", "<generate><u_1><--quality><2K><--aspect-ratio><16:9>"),
    ("health --check database,sch\t", "<health><--check><database,schema>"),
    ("balance u_z\t", f"<balance><{USER}>"),
    ("balance u_1 u_zoe:x@\t", f"<balance><u_1><{USER}>"),
    ("show u_z\t17", f"<show><{USER}:17>"),
    ("reverse --batch 5f\t", "<reverse><--batch><5f0c22ab9d10>"),
    # Nothing fits, so what was typed stays.
    ("grant-bonus u_1 --amount 5\t", "<grant-bonus><u_1><--amount><5>"),
    ("nosuch gr\t", "<nosuch><gr>"),
    ("balance -- --allow\t", "<balance><--><--allow>"),
    ("grant-bonus --reason gr\t", "<grant-bonus><--reason><gr>"),
]


@pytest.fixture
def place(home: Path) -> Path:
    """A folder with files to complete and a stand-in to run; ids that were seen are in the state directory."""
    for name in ("december grants.csv", "other.toml"):
        (home / name).touch()
    (home / "bin").mkdir()
    stand_in = home / "bin" / "tokenctl"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    recent.remember(home / ".local/state/tokenctl", ["batch 5f0c22ab9d10", f"user {USER}"])
    return home


@contextmanager
def opened(shell: str, place: Path, setup: str, **environ: str) -> Iterator[Terminal]:
    """The shell, interactive, after `setup`."""
    argv = {
        "bash": ("--norc", "--noprofile", "-i"),
        "zsh": ("-f", "-i"),
        "fish": ("--private", "-C", 'function fish_prompt; printf "ready> "; end'),
    }[shell]
    env = {"PATH": str(place / "bin"), "HOME": str(place), "TERM": "dumb", "PS1": "ready> ", "LANG": "C.UTF-8"}
    program = require.tool(shell)
    with terminal(*argv, columns=200, env={**env, **environ}, program=(program,)) as session:
        session.wait_for("ready> ")
        # Typed, so that it also tells when the shell reads keys; the echo has no such line of its own.
        session.type(f"cd {shlex.quote(str(place))}; {setup}; printf 'set %s\\n' up\r")
        session.wait_for("set up")
        yield session


SETUPS = {
    "bash": f"source {COMPLETIONS}/tokenctl.bash",
    # As people install it: the file stands in fpath and is loaded by the first TAB.
    "zsh": f"fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -D -u",
    "fish": f"source {COMPLETIONS}/tokenctl.fish",
}


@pytest.mark.parametrize("shell", FILES)
def test_tab_completes_commands_options_values_files_and_ids(shell: str, place: Path) -> None:
    with opened(shell, place, SETUPS[shell]) as session:
        ready = len(session.seen)
        for typed, expected in CASES:
            before = len(session.seen)
            session.type(f"tokenctl {typed}\r")
            session.wait_for("> was run", after=before)
            told = re.findall(r"(<[^\r\n]*>) was run", session.seen[before:])
            if shell == "zsh":  # which writes the = that an option may have before its value
                told = [re.sub("(--lim[a-z]*)=", r"\1><", arguments) for arguments in told]
            assert told == [expected], (typed, session.seen[before:])
    assert "not found" not in session.seen[ready:]
    assert "nknown command" not in session.seen[ready:]


def test_zsh_completes_when_the_file_is_sourced(place: Path) -> None:
    setup = f"autoload -Uz compinit; compinit -D -u; source {COMPLETIONS}/_tokenctl"
    with opened("zsh", place, setup) as session:
        session.type("tokenctl db st\ta\tr\t\r")  # start, stop and status: one letter at a time
        session.wait_for("<db><start> was run")


def test_bash_offers_both_ways_of_writing_a_value(place: Path) -> None:
    with opened("bash", place, f"COMP_WORDBREAKS=' \t\n'; {SETUPS['bash']}") as session:
        session.type("tokenctl batch-import --format=va\tu_z\t\r")
        session.wait_for("<batch-import><--format=value><u_z> was run")
        session.type("tokenctl balance u_zoe:x@\t\r")
        session.wait_for(f"<balance><{USER}> was run")


@pytest.mark.parametrize("shell", FILES)
def test_what_stands_in_the_file_of_ids_is_never_run(shell: str, place: Path) -> None:
    kept = place / ".local/state/tokenctl/recent"
    traps = ["$(touch trap)", "`touch trap`", "u_trap;touch trap", "u_trap\x1b]0;trap\x07", "*", "-x", "u_trap\\"]
    kept.write_text("".join(f"user {trap}\n" for trap in traps) + "user u_good\n")
    with opened(shell, place, SETUPS[shell]) as session:
        session.type("tokenctl balance u\t\r")
        session.wait_for("<balance><u_good> was run")
        session.type("tokenctl explain u_t\t\r")
        session.wait_for("<explain><u_t> was run")
    assert not (place / "trap").exists()


def bash_offers(words: list[str], **environ: str) -> list[str]:
    """What the function of bash answers for these words, in a bash that can start nothing."""
    asked = " ".join(shlex.quote(word) for word in words)
    script = f"""source {COMPLETIONS}/tokenctl.bash; PATH=/nonexistent
        COMP_WORDS=({asked}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _tokenctl
        for one in "${{COMPREPLY[@]}}"; do echo "$one"; done"""
    done = subprocess.run(
        [require.tool("bash"), "--norc", "-euc", script],
        capture_output=True,
        text=True,
        env={"HOME": "/nonexistent", **environ},
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_needs_nothing_but_its_words() -> None:
    assert bash_offers(["tokenctl", "gr"]) == ["grant-bonus"]
    assert bash_offers(["tokenctl", "completion", ""]) == ["bash", "zsh", "fish"]
    assert bash_offers(["tokenctl", "history", "u_1", "--kind", ""])[:2] == ["bonus", "purchase"]
    assert bash_offers(["tokenctl", "balance", ""]) == []
    assert bash_offers(["tokenctl", "generate", "--image", "a.png", "--im"]) == ["--image"]  # it may be repeated


@pytest.mark.parametrize("command", [("balance",), ("batch-import",), ("db", "status"), ("health",), ("batches",)])
def test_bash_offers_the_options_that_help_lists(offline: CommandLine, command: tuple[str, ...]) -> None:
    page = offline(*command, *(["list"] if command == ("batches",) else []), "--help").text
    listed = set(re.findall(r"^  (?:-., )?(--[a-z-]+)", page, re.MULTILINE))
    assert set(bash_offers(["tokenctl", *command, "--"])) == listed
    given = [*command, "--quiet", "--format", "json", "--"]
    assert set(bash_offers(["tokenctl", *given])) == listed - {"--quiet", "--format"}


@pytest.mark.parametrize("shell", FILES)
def test_the_command_prints_the_script(offline: CommandLine, shell: str) -> None:
    script = (COMPLETIONS / FILES[shell]).read_text()
    got = offline("completion", shell)
    assert (got.code, got.text, got.err) == (0, script, "")
    assert offline("completion", shell, "--json").json["data"] == {"shell": shell, "script": script}


def test_an_unknown_shell_is_told_the_known_ones(offline: CommandLine) -> None:
    got = offline("completion", "tcsh")
    assert got.code == 2
    assert all(shell in got.err for shell in FILES)


def test_the_file_of_ids_is_written_when_the_configuration_asks(cli: Cli, home: Path) -> None:
    kept = home / "state/tokenctl/recent"
    cli.grant("u_7")
    assert not kept.exists()
    config = home / "config/tokenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[completion]\nremember_ids = true\n")
    cli.grant("u_7")
    assert cli("balance", "u_7", "u_nobody").code == 67  # an id that nobody has is not worth keeping
    assert cli("balance", "u_7").code == 0
    assert cli("show", "u_7:1").code == 0
    grants = home / "grants.csv"
    grants.write_text("user_id,amount,reason,idempotency_key\nu_8,5,goodwill,k1\n")
    cli.login("batch1")
    batch = cli("batch-import", str(grants), "--yes", "--json").json["data"]["batch_id"]
    assert cli("history", "u_8").code == 0
    assert kept.read_text().splitlines() == ["user u_8", f"batch {batch}", "user u_7"]
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_file_of_ids_that_cannot_be_written_is_nobody_s_business(cli: Cli, home: Path) -> None:
    (home / "config/tokenctl").mkdir(parents=True)
    (home / "config/tokenctl/config.toml").write_text("completion.remember_ids = true\n")
    (home / "state/tokenctl/recent").mkdir(parents=True, mode=0o700)
    got = cli.grant("u_7")
    assert (got.code, "recent" in got.err) == (0, False)
    assert not list((home / "state/tokenctl").glob("recent.*"))
