"""A server that can be reached by a port, and the command line on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, CommandLine
from tests.faults.servers import Own
from tests.integration.embedded_servers import bin_dir, farm
from tests.pg import LedgerDB

_SCRAM = "host all all 127.0.0.1/32 scram-sha-256"


@pytest.fixture(scope="session")
def at_port(_clean_session: None) -> Iterator[Own]:
    """PostgreSQL 15 on a port, with a ledger. Debian's, because the wheel's speaks no TLS."""
    with farm(bin_dir("debian15")) as made:
        server = Own(made.server(), {"max_connections": "20"})
        server.start()
        server.make_ledger()
        yield server


@pytest.fixture
def own(at_port: Own) -> Own:
    """The same with an empty ledger, which asks everybody for the password `right`."""
    at_port.rows("DROP SCHEMA IF EXISTS tokenctl_staging, tokenctl CASCADE")
    at_port.make_ledger()
    at_port.admit(_SCRAM)
    return at_port


@pytest.fixture
def line(home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> CommandLine:
    """Runs tokenctl in this process; the test says on which database."""
    monkeypatch.chdir(home)
    return CommandLine(monkeypatch, capsysbinary)


@pytest.fixture
def cli(
    ledger_db: LedgerDB, home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Runs tokenctl in this process, on a ledger of its own on PostgreSQL 18."""
    monkeypatch.chdir(home)
    return Cli(ledger_db, monkeypatch, capsysbinary)


@pytest.fixture
def offline(line: CommandLine) -> CommandLine:
    """Runs tokenctl where no database answers."""
    line.patch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
    return line
