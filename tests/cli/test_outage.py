"""A database that is down, as commands see it one after the other and side by side."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cli.running import ENOUGH_S, TOKENCTL, Cli, environment
from tests.proxy import proxied
from tokenctl.resilience.breaker import BreakerPolicy


class Dead:
    """Something that takes connections and drops them at once, and counts them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.listener.getsockname()[1])
        self.calls = 0

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()


@contextmanager
def dead() -> Iterator[Dead]:
    made = Dead()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, or the port would stay in use
        made.listener.close()
        thread.join()


def elsewhere(cli: Cli, port: int) -> None:
    """Point the commands at a port of this machine, the rest of the address as it is."""
    address = re.sub(r"host=\S+|port=\S+", "", cli.db.conninfo("support1"))
    cli.patch.setenv("TOKENCTL_DATABASE_URL", f"{address} host=127.0.0.1 port={port}")


@pytest.fixture
def down(cli: Cli) -> Iterator[Dead]:
    with dead() as server:
        elsewhere(cli, server.port)
        yield server


def test_the_third_failure_in_a_row_marks_it_down_for_everybody(cli: Cli, down: Dead) -> None:
    first = cli("balance", "u1", "--fresh")
    assert (first.code, "does not answer" in first.err) == (69, True)
    reached = down.calls
    assert reached <= 3 * 2  # each failure asks once more whether the server is up
    for argv in (("balance", "u1", "--fresh"), ("grant-bonus", "u1", "--amount", "5", "--reason", "x", "--yes")):
        refused = cli(*argv, "--json").problem
        assert (refused["type"], refused["exit_code"]) == ("urn:tokenctl:problem:breaker-open", 69)
        assert 0 < refused["retry_after_s"] <= 6
    assert down.calls == reached


def test_a_time_too_short_for_any_answer_says_nothing_of_the_database(cli: Cli) -> None:
    for _ in range(4):
        assert cli("balance", "u1", "--fresh", "--timeout", "0.001", "--json").problem["type"] in {
            "urn:tokenctl:problem:timed-out", "urn:tokenctl:problem:unavailable",
        }  # fmt: skip
    assert cli("breaker", "list", "--json").json["data"] == []


def test_ignore_breaker_tries_all_the_same_and_a_reset_forgets(cli: Cli, down: Dead) -> None:
    cli("balance", "u1", "--fresh")
    reached = down.calls
    assert cli("balance", "u1", "--fresh", "--ignore-breaker").code == 69
    assert down.calls > reached
    (one,) = cli("breaker", "list", "--json").json["data"]
    assert (one["state"] in ("open", "half_open"), one["name"].startswith("db:")) == (True, True)
    assert cli("breaker", "reset", one["name"]).code == 0
    reached = down.calls
    assert cli("balance", "u1", "--fresh").code == 69
    assert down.calls > reached


@pytest.mark.usefixtures("cli")
def test_eight_processes_leave_a_dead_server_alone(down: Dead) -> None:
    loop = "import sys; from tokenctl.__main__ import main; [main(['balance', 'u1', '--fresh']) for _ in range(15)]"
    processes = [
        subprocess.Popen(
            [TOKENCTL[0], "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
        )
        for _ in range(8)
    ]
    told = "".join(process.communicate(timeout=ENOUGH_S)[1] for process in processes)
    assert told.count("marked as down") + told.count("does not answer") == 8 * 15
    assert told.count("marked as down") > 8 * 15 * 0.8
    # Those that were on their way when it opened, each with its question whether the server is up, and some probes.
    assert down.calls <= 8 * 2 * 3


def test_a_good_health_check_closes_the_breaker(cli: Cli, home: Path) -> None:
    # Nobody may probe by chance, however slow the machine is.
    cli.patch.setattr("tokenctl.resilience.breaker.BreakerPolicy", partial(BreakerPolicy, open_s=600.0))
    folder = re.search(r"host=(\S+)", cli.db.conninfo("support1"))
    assert folder is not None
    cli.grant("u1", 7)
    with dead() as server:
        elsewhere(cli, server.port)
        assert cli("balance", "u1", "--fresh").code == 69
        assert "marked as down" in cli("balance", "u1", "--fresh").err
        assert cli("health", "--check", "database").code == 2
        port = server.port
    with proxied(Path(folder[1]) / ".s.PGSQL.5432", b"never", port=port):
        assert "marked as down" in cli("balance", "u1", "--fresh").err
        assert cli("health", "--check", "database").code == 0
        assert cli("balance", "u1", "--fresh", "--format", "value").out == b"7\n"
    assert home.is_dir()
