"""`tokenctl generate` as processes: two with one key, signals, kill -9, a terminal; and where a secret may not be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import gemini_server as fake
from tests.cli.generating import KEY, PROMPT, TOKENS, Studio, prepared
from tests.cli.running import ENOUGH_S, TOKENCTL, Cli, environment, terminal, without_escapes
from tests.gemini_server import Reply, serving
from tests.pictures import png
from tests.waiting import until

IMAGE = png(1024, 1024)


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        yield prepared(cli, server, home)


@contextmanager
def started(studio: Studio, *more: str, name: str = "run", **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run as a process; what it prints is in `<name>.out` and `<name>.err`."""
    with (studio.home / f"{name}.out").open("wb") as out, (studio.home / f"{name}.err").open("wb") as err:
        words = [*TOKENCTL, *studio.words(*more)]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(**env))
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def said(studio: Studio, name: str = "run") -> str:
    return (studio.home / f"{name}.err").read_text()


def when(gate: threading.Event) -> Reply:
    """An image, as soon as the gate is open."""

    def reply(handler: fake.Handler) -> None:
        gate.wait(ENOUGH_S)
        fake.image(IMAGE)(handler)

    return reply


def test_two_runs_with_one_key_make_one_call_one_charge_and_two_equal_receipts(studio: Studio) -> None:
    gate = threading.Event()
    studio.server.by_key = {KEY: when(gate)}
    with started(studio, "--json", name="a") as a, started(studio, "--json", name="b") as b:
        until(lambda: any("another run is at it" in said(studio, name) for name in "ab"), "one waits for the other")
        gate.set()
        assert [process.wait(ENOUGH_S) for process in (a, b)] == [0, 0]
    first, second = (json.loads((studio.home / f"{name}.out").read_text()) for name in "ab")
    assert first["data"] == second["data"]
    assert {first["meta"]["replayed"], second["meta"]["replayed"]} == {True, False}
    assert (len(studio.server.asked), studio.charges(), studio.holds()) == (1, [40], ["captured"])
    assert studio.files() == [f"{first['data']['id']}.json", f"{first['data']['id']}.png"]
    studio.db.check()


def test_one_that_may_not_wait_says_so(studio: Studio) -> None:
    gate = threading.Event()
    studio.server.by_key = {KEY: when(gate)}
    with started(studio, name="a") as first:
        until(lambda: studio.server.asked, "the first one asks Gemini")
        ran = studio("--timeout", "0.05")
        assert (ran.code, "is at work in another run until" in ran.err) == (75, True)
        gate.set()
        assert first.wait(ENOUGH_S) == 0
    assert studio.charges() == [40]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_tokens_back(studio: Studio, number: signal.Signals) -> None:
    studio.server.script.append(fake.silent())
    with started(studio) as process:
        until(lambda: studio.server.asked, "Gemini is asked")
        assert studio.holds() == ["open"]
        process.send_signal(number)
        assert process.wait(ENOUGH_S) == -(signal.SIGTERM if number == signal.SIGHUP else number)
    told = said(studio)
    assert "nothing was charged: the hold of 40 tokens was released, u1 has 500 available" in told
    assert "the same command with --idempotency-key k1 finishes it" in told
    assert "Traceback" not in told
    studio.nothing_happened()
    studio.server.script.append(fake.image(IMAGE))
    assert studio().code == 0


def test_a_killed_run_is_finished_by_the_same_key_and_paid_once(studio: Studio) -> None:
    studio.server.script.extend([fake.silent(), fake.image(IMAGE)])
    with started(studio) as process:
        until(lambda: studio.server.asked, "Gemini is asked")
        process.kill()
        process.wait()
    assert (studio.charges(), studio.holds()) == ([], ["open"])
    told = studio.cli("balance", "u1", "--fresh", "--json").json["data"]
    assert (told["balance"], told["available"]) == (TOKENS, TOKENS - 40)
    studio.db.rows("UPDATE tokenctl.generations SET lease_until = now() - interval '1 s'")
    ran = studio("--json")
    assert (ran.code, ran.json["data"]["calls"]) == (0, 2)
    assert (studio.charges(), studio.holds()) == ([40], ["captured"])


def test_a_killed_run_that_nobody_finishes_ends_by_its_deadline(studio: Studio) -> None:
    studio.server.script.append(fake.silent())
    with started(studio) as process:
        until(lambda: studio.server.asked, "Gemini is asked")
        process.kill()
        process.wait()
    (lease_s, hold_s) = studio.db.rows(
        "SELECT extract(epoch FROM lease_until - now())::float, extract(epoch FROM expires_at - now())::float"
        " FROM tokenctl.generations JOIN tokenctl.token_holds USING (user_id)"
    )[0]
    assert 0 < lease_s < hold_s <= 480  # the deadline stands in the database from the beginning
    studio.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    assert studio.cli("balance", "u1", "--fresh", "--json").json["data"]["available"] == TOKENS
    studio.db.rows("UPDATE tokenctl.generations SET lease_until = now() - interval '1 s'")
    assert [row[2] for row in studio.cli("holds", "reconcile").lines] == ["40"]
    assert studio.holds() == ["released"]


def test_a_database_that_goes_away_meanwhile_charges_nothing_that_is_not_told(studio: Studio) -> None:
    """The answer comes when the ledger is gone: the image stays until it is known that nobody paid for it."""

    def server(statement: str) -> None:
        with psycopg.connect(studio.db.server.conninfo("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def gone(handler: fake.Handler) -> None:
        server(f"ALTER DATABASE {studio.db.name} ALLOW_CONNECTIONS false")
        server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tokenctl/gen%'")
        fake.image(IMAGE)(handler)

    studio.server.script.append(gone)
    ran = studio()
    assert ran.code in (69, 75, 78), ran.err
    assert "--idempotency-key k1" in ran.err
    assert "it ends at" in ran.err or "ends by itself at" in ran.err
    assert len(studio.files()) == 1
    server(f"ALTER DATABASE {studio.db.name} ALLOW_CONNECTIONS true")
    assert (studio.charges(), studio.holds()) == ([], ["open"])
    studio.db.rows("UPDATE tokenctl.generations SET lease_until = now() - interval '1 s'")
    studio.server.script.append(fake.image(IMAGE))
    assert studio().code == 0
    assert (studio.charges(), len(studio.files())) == ([40], 2)


def test_on_a_terminal_the_time_is_shown_and_nothing_stays_of_it(studio: Studio) -> None:
    gate = threading.Event()
    studio.server.script.append(when(gate))
    words = [word for word in studio.words() if word != "--yes"]
    with terminal(*words, columns=100) as screen:
        screen.wait_for("[y/N]")
        screen.type("y\n")
        screen.wait_for("0:00:01")
        gate.set()
        ran = screen.end()
    shown = without_escapes(ran.text)
    assert ran.code == 0, shown
    assert "u1 has 500 tokens available · this costs 40 and leaves 460" in shown
    assert "making a 1K image" in shown
    assert re.search(r"✓ .*/images/[0-9a-f]{12}\.png  1024 x 1024", shown)
    assert "charged 40 tokens, balance 460   u1:2" in shown
    assert studio.charges() == [40]


def test_no_is_no(studio: Studio) -> None:
    words = [word for word in studio.words() if word != "--yes"]
    with terminal(*words) as screen:
        screen.wait_for("[y/N]")
        screen.type("n\n")
        assert screen.end().code == 1
    assert (studio.holds(), studio.server.asked) == ([], [])


def test_in_a_pipe_there_is_no_clock(studio: Studio) -> None:
    studio.server.script.append(fake.image(IMAGE))
    with started(studio) as process:
        assert process.wait(ENOUGH_S) == 0
    assert "making a 1K image" not in said(studio)
    assert "\x1b" not in said(studio)


# --- secrets -------------------------------------------------------------------

CANARY = re.compile(rb"canaryofthe(?:key|prompt)")
ENDS: dict[str, Any] = {
    "an image": fake.image(IMAGE),
    "a refusal that repeats both": fake.error(400, "INVALID_ARGUMENT", f"bad key {KEY}"),
    "a blocked prompt": fake.blocked(),
    "a lost answer": fake.closed(),
    "a page": fake.body(f"<html>{KEY}</html>".encode(), code=502, kind="text/html"),
    "nonsense": fake.body(f'{{"candidates": "{KEY}"}}'.encode()),
}


def everywhere(studio: Studio) -> Iterator[tuple[str, bytes]]:
    """All that a run leaves: its output, its files (log, cache, state, images), every row of the database."""
    for path in studio.home.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    tables = studio.db.rows(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname LIKE 'tokenctl%' AND c.relkind = 'r'"
    )
    for (table,) in tables:
        rows = studio.db.rows(f"SELECT x::text FROM {table} x")  # noqa: S608 — the names are the catalogue's
        yield str(table), "\n".join(row[0] for row in rows).encode()


@pytest.mark.parametrize("end", ENDS)
def test_neither_key_nor_prompt_comes_out_anywhere(studio: Studio, end: str) -> None:
    config = studio.home / "config" / "tokenctl" / "config.toml"
    config.write_text(config.read_text() + '[log]\nlevel = "debug"\n')
    studio.server.by_key = {KEY: ENDS[end]}
    more = {"TOKENCTL_DEBUG": "1", "TOKENCTL_LOG_FILE": str(studio.home / "log")}
    with started(studio, "-v", "--json", **more) as process:
        process.wait(ENOUGH_S)
    assert (studio.home / "log").stat().st_size > 0
    searched = dict(everywhere(studio))
    assert len(searched) > 10
    assert any(b"u1" in content for name, content in searched.items() if name.startswith("tokenctl.token_holds"))
    assert [name for name, content in searched.items() if CANARY.search(content)] == []


def test_a_bug_does_not_tell_them_either(studio: Studio) -> None:
    """A trace has places and no values, also when it is asked for."""
    (studio.home / "sitecustomize.py").write_text(
        "import tokenctl.services.pictures as p\n"
        "def bug(self, image, mime): raise RuntimeError(repr(self))\n"
        "p.Place.write = bug\n"
    )
    studio.server.script.append(fake.image(IMAGE))
    path = os.pathsep.join([str(studio.home), environment()["PYTHONPATH"]])
    more = {"TOKENCTL_DEBUG": "1", "TOKENCTL_LOG_FILE": str(studio.home / "log"), "PYTHONPATH": path}
    with started(studio, "-v", **more) as process:
        assert process.wait(ENOUGH_S) == 70
    assert "unexpected RuntimeError" in said(studio)
    assert "the hold of 40 tokens was released" in said(studio)
    found = [name for name, content in everywhere(studio) if CANARY.search(content)]
    assert (found, PROMPT in said(studio)) == ([], False)
    studio.nothing_happened()
