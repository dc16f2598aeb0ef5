"""Without any configuration: the embedded server starts, migrates itself, stops, starts again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import ENOUGH_S, NOWHERE, ROOT, CommandLine, Ran, run
from tests.integration.embedded_servers import Farm
from tokenctl.storage import migrations
from tokenctl.storage.embedded import binaries


@pytest.fixture
def bare() -> Iterator[dict[str, str]]:
    """An environment with nothing but a place for data, not even HOME; its server is stopped at the end."""
    farm = Farm()
    env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(farm.folder())}
    env |= {"XDG_CONFIG_HOME": env["XDG_DATA_HOME"] + "/config", "XDG_CONFIG_DIRS": "/nowhere"}
    try:
        yield env
        assert run("db", "stop", env=env).code == 0
    finally:
        farm.close()


def grant(env: dict[str, str], user: str) -> Ran:
    options = ("--amount", "500", "--reason", "goodwill", "--new-user", "--yes", "--json")
    return run("grant-bonus", user, *options, env=env)


def test_first_commands_stop_start_and_url(bare: dict[str, str]) -> None:
    status = run("db", "status", "--json", env=bare)
    assert status.code == 0
    data = status.json["data"]
    assert (data["profile"], data["origin"], data["running"], data["schema"]) == ("default", "default", False, None)
    assert not (Path(bare["XDG_DATA_HOME"]) / "tokenctl" / "postgres" / "data").exists()  # looking makes nothing

    with ThreadPoolExecutor() as pool:  # two first commands at once
        first = list(pool.map(lambda user: grant(bare, user), ("a", "b")))
    assert [(one.code, one.json["data"]["balance"]) for one in first] == [(0, 500), (0, 500)], first
    assert first[0].json["data"]["operator"] == "tokenctl_local"
    balances = [["a", "500"], ["b", "500"]]
    assert [line[:2] for line in run("balance", "a", "b", env=bare).lines] == balances

    url = run("db", "url", env=bare).text.strip()
    psql = [
        str(binaries.programs_dir(None) / "psql"),
        "-XAt",
        url,
        "-c",
        "SELECT sum(balance) FROM tokenctl.token_accounts",
    ]
    assert subprocess.run(psql, capture_output=True, check=True, timeout=ENOUGH_S).stdout == b"1000\n"
    assert run("balance", "a", "--format", "value", env={**bare, "TOKENCTL_DATABASE_URL": url}).out == b"500\n"

    stopped = run("db", "stop", "--json", env=bare)
    assert (stopped.code, stopped.json["data"]["was_running"]) == (0, True)
    assert run("db", "status", "--exit-code", env=bare).code == 1
    assert [line[:2] for line in run("balance", "a", "b", env=bare).lines] == balances  # and it runs again
    started = run("db", "start", "--json", env=bare).json["data"]
    assert started["running"] is True
    assert isinstance(started["pid"], int)
    for what in ("start", "stop"):
        quiet = run("db", what, "-q", env=bare)
        assert (quiet.code, quiet.out, quiet.err) == (0, b"", "")


def test_a_time_limit_holds_for_the_embedded_server_too(bare: dict[str, str]) -> None:
    """Each of these runs for ever, or for a minute, where nothing passes --timeout on."""
    pid = run("db", "start", "--json", env=bare).json["data"]["pid"]
    url = run("db", "url", env=bare).text.strip()
    with psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [migrations.LOCK])
        got = run("db", "start", "--timeout", "2", env=bare)
        assert (got.code, "the database did not answer within 2 s" in got.err) == (75, True), got
    assert run("db", "start", "--timeout", "20", env=bare).code == 0
    os.kill(pid, signal.SIGSTOP)
    try:
        for words in (("balance", "a", "--fresh"), ("db", "start")):
            got = run(*words, "--timeout", "2", env=bare)
            assert (got.code, "did not answer in time" in got.err) == (69, True), got
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["url", "profile", "PGHOST", "PGPORT", "PGSERVICE"])
def test_a_configured_database_that_is_dead_is_never_replaced(offline: CommandLine, home: Path, how: str) -> None:
    if how != "url":
        offline.patch.delenv("TOKENCTL_DATABASE_URL")
    if how == "profile":
        config = home / "config" / "tokenctl" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"[profiles.default]\ndatabase = {json.dumps(NOWHERE)}\n")
    elif how == "PGSERVICE":
        offline.patch.setenv("PGSERVICEFILE", str(home / "services"))
        (home / "services").write_text("[dead]\nhost=127.0.0.1\nport=1\n")
        offline.patch.setenv("PGSERVICE", "dead")
    elif how != "url":
        offline.patch.setenv("PGHOST", "127.0.0.1")
        offline.patch.setenv("PGPORT", "1")
    assert offline("balance", "u1").code == 69
    assert offline("db", "start").code == 2
    assert offline("db", "status").code == 69
    assert not (home / "data").exists()
