"""Streams that are full, closed, or left by their reader: what is committed is said to be."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.running import ENOUGH_S, TOKENCTL, Cli, environment, shell
from tests.require import missing
from tests.waiting import until

GRANT = "tokenctl grant-bonus u1 --amount 500 --reason goodwill --yes"


@pytest.fixture
def full() -> str:
    """A file to which nothing can be written."""
    try:
        with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"x")
    except FileNotFoundError:
        missing("this system has no /dev/full")
    except OSError:
        return "/dev/full"
    pytest.fail("/dev/full took a byte")


@pytest.mark.parametrize("form", ["table", "json"])
def test_committed_but_unwritable_is_74_and_says_so(cli: Cli, full: str, form: str) -> None:
    cli.grant("u1", 1000)
    got = shell(f"{GRANT} --format {form} >{full}")
    assert got.code == 74
    assert "committed: u1:2, +500 tokens, key " in got.err
    assert "do not run it again" in got.err
    assert cli.balance() == 1500
    again = shell(GRANT)
    assert again.code == 0
    assert "already granted: u1:2" in again.err
    assert cli.balance() == 1500


def test_committed_is_said_on_closed_standard_output_too(cli: Cli) -> None:
    cli.grant("u1", 1000)
    got = shell(f"{GRANT} --ticket T1 >&-")
    assert got.code == 74
    assert "committed: u1:2" in got.err
    reversal = shell("tokenctl reverse u1:2 --reason mistake --yes --json >&-")
    assert reversal.code == 74
    assert '"type": "urn:tokenctl:problem:output-failed"' in reversal.err
    assert "committed: u1:3, -500 tokens, reverses u1:2" in reversal.err
    assert cli.balance() == 1000
    cli.db.check()


def test_quiet_does_not_write_and_so_does_not_fail(cli: Cli, full: str) -> None:
    cli.grant("u1", 1000)
    assert shell(f"{GRANT} -q >{full}").code == 0
    assert cli.balance() == 1500


def test_a_read_that_cannot_be_written_is_74_and_nothing_is_committed(cli: Cli, full: str) -> None:
    cli.grant("u1", 1000)
    for line in (f"tokenctl balance u1 >{full}", "tokenctl balance u1 >&-", f"{GRANT} -n >{full}"):
        got = shell(line)
        assert got.code == 74
        assert "committed" not in got.err
        assert "nothing was changed" in got.err
        assert "Traceback" not in got.err
        assert "Exception ignored" not in got.err


def test_closed_standard_error_takes_nothing_from_the_result(cli: Cli) -> None:
    cli.grant("u1", 1000)
    assert shell("tokenctl balance u1 --format value 2>&-").out == b"1000\n"
    assert shell("tokenctl balance nobody 2>&-").code == 67
    assert shell("TOKENCTL_DEBUG=1 tokenctl balance nobody 2>&-").out == b""
    got = shell(f"{GRANT} --format value <&- 2>&-")
    assert (got.code, got.out) == (0, b"u1:2\n")
    assert shell("tokenctl balance u1 <&- >&- 2>&-").code == 74


def test_a_full_standard_error_takes_nothing_from_the_result(cli: Cli, full: str) -> None:
    cli.grant("u1", 1000)
    got = shell(f"{GRANT} --format value 2>{full}")
    assert (got.code, got.out) == (0, b"u1:2\n")
    assert shell(f"tokenctl balance nobody 2>{full}").code == 67


def started_without_a_reader(*argv: str) -> tuple[int, str]:
    """Run with a standard output whose reader has gone; exit code and standard error."""
    with subprocess.Popen(
        [*TOKENCTL, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        until(lambda: process.poll() is not None, "the end", timeout_s=ENOUGH_S)
        assert process.stderr is not None
        return process.returncode, process.stderr.read().decode()


def test_a_reader_that_has_gone_ends_a_read_silently(cli: Cli) -> None:
    cli.grant("u1", 1000)
    assert started_without_a_reader("balance", "u1") == (141, "")
    assert started_without_a_reader("balance", "u1", "--json") == (141, "")


def test_a_reader_that_has_gone_after_a_commit_is_74(cli: Cli) -> None:
    cli.grant("u1", 1000)
    code, err = started_without_a_reader("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes")
    assert code == 74
    assert "committed: u1:2" in err
    assert "closed by its reader" in err


def test_help_and_version_are_results_too(full: str) -> None:
    for argv in (("--version",), ("--help",), ("balance", "--help")):
        assert started_without_a_reader(*argv) == (141, "")
        got = shell(f"tokenctl {' '.join(argv)} >{full}")
        assert "Traceback" not in got.err
        assert got.code == 74
