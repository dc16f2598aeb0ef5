"""The command line, on a ledger of the test's own or where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, CommandLine
from tests.cli.searched import Searched
from tests.pg import LedgerDB


@pytest.fixture
def cli(
    ledger_db: LedgerDB, home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Runs tokenctl in this process as support1; processes started by the test use the same ledger."""
    monkeypatch.chdir(home)
    return Cli(ledger_db, monkeypatch, capsysbinary)


@pytest.fixture
def offline(home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> CommandLine:
    """Runs tokenctl where no database answers: whatever connects ends with 69."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
    return CommandLine(monkeypatch, capsysbinary)


@pytest.fixture
def nowhere(offline: CommandLine, home: Path, tmp_path: Path) -> Searched:
    """Where no database answers, and nobody waits for one."""
    offline.patch.setenv("TOKENCTL_TIMEOUT", "0.05")
    return Searched(offline, home, tmp_path)
