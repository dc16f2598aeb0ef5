"""Ctrl-C and SIGTERM wherever they come: the process dies of them, without a traceback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import ENOUGH_S, ROOT, TOKENCTL, Cli, environment
from tests.pg import post
from tests.waiting import until

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@contextmanager
def started(*argv: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*TOKENCTL, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ends_of(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send the signal; the process must die of it and say nothing of its inside. Answers what it said."""
    process.send_signal(number)
    out, err = process.communicate(timeout=ENOUGH_S)
    assert process.returncode == -number
    assert "Traceback" not in err
    assert out == ""
    return err


@BOTH
def test_while_it_is_still_starting(home: Path, number: signal.Signals) -> None:
    """A package of ours stands in for typer and stops there: the imports take as long as we like."""
    (home / "typer").mkdir()
    (home / "typer" / "__init__.py").write_text("import os, signal; os.mkdir('reached'); signal.pause()\n")
    process = subprocess.Popen(
        [*TOKENCTL, "balance", "u1"],
        cwd=home,
        env=environment(PYTHONPATH=os.pathsep.join([str(home), str(ROOT)])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until((home / "reached").is_dir, "the import of typer")
        ends_of(process, number)
    finally:
        process.kill()
        process.communicate()


@BOTH
def test_while_it_connects(home: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(ENOUGH_S)
        address = f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/x?connect_timeout=600"
        with started("balance", "u1", TOKENCTL_DATABASE_URL=address, TOKENCTL_LOG_FILE=str(home / "log")) as process:
            peer, _ = server.accept()
            with peer:
                ends_of(process, number)
    done = json.loads((home / "log").read_text())
    assert (done["event"], done["outcome"], done["exit_code"]) == ("done", "interrupted", 128 + number)


@BOTH
def test_while_it_waits_for_a_lock(cli: Cli, number: signal.Signals) -> None:
    post(cli.db.connect("support1"), "u1", 1000)
    holder = cli.db.connect("postgres")
    with holder.transaction():
        holder.execute("SELECT FROM tokenctl.token_accounts FOR UPDATE")
        with started("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes") as process:
            until(
                lambda: cli.db.rows("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
                "the grant to wait for the account",
            )
            ends_of(process, number)
    assert cli.written() == (1, 1, 0)
    assert cli.balance() == 1000


@BOTH
def test_while_it_writes_it_says_how_to_settle_it(cli: Cli, number: signal.Signals) -> None:
    """The look beforehand goes through; the write itself waits, and nobody knows what became of it."""
    post(cli.db.connect("support1"), "u1", 1000)
    cli.db.rows(
        "CREATE SEQUENCE public.calls; CREATE FUNCTION public.second_waits() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER AS $$ BEGIN IF nextval('public.calls') = 2 THEN PERFORM pg_advisory_xact_lock(42); END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER waits BEFORE UPDATE ON tokenctl.token_accounts"
        " FOR EACH ROW EXECUTE FUNCTION public.second_waits()"
    )
    holder = cli.db.connect("postgres")
    holder.execute("SELECT pg_advisory_lock(42)")
    with started("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes") as process:
        until(
            lambda: cli.db.rows("SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'"),
            "the grant to wait while it writes",
        )
        said = ends_of(process, number)
    holder.execute("SELECT pg_advisory_unlock(42)")
    again = next(line for line in said.splitlines() if line.startswith("tokenctl grant-bonus u1"))
    assert "--idempotency-key" in again
    assert (cli(*shlex.split(again)[1:]).code, cli(*shlex.split(again)[1:]).code) == (0, 0)
    assert cli.balance() == 1005
