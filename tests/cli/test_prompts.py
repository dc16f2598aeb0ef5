"""Questions on a terminal: what is shown, and what each answer does."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, environment, terminal

GRANT = ("grant-bonus", "u1", "--amount", "500", "--reason", "goodwill")
LARGE = ("grant-bonus", "u1", "--amount", "50000", "--reason", "goodwill")
QUESTION = "Grant 500 tokens to u1? [y/N]: "


@pytest.mark.parametrize(("answer", "code", "balance"), [("y", 0, 1500), ("", 1, 1000), ("yep", 1, 1000)])
def test_only_a_yes_grants(cli: Cli, answer: str, code: int, balance: int) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT) as asked:
        shown = asked.wait_for(QUESTION)
        assert "env · ledger_" in shown
        assert "u1   balance 1,000 → 1,500   +500 goodwill" in shown
        assert cli.balance() == 1000  # nothing before the answer
        asked.type(f"{answer}\n")
        got = asked.end()
    assert got.code == code
    assert cli.balance() == balance
    assert ("nothing was changed" in got.text) == (code == 1)
    assert ("tokenctl reverse u1:2" in got.text) == (code == 0)


def test_the_end_of_input_is_no_yes(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT) as asked:
        asked.wait_for(QUESTION)
        asked.type("\x04")
        got = asked.end()
    assert got.code == 1
    assert "no answer; nothing was changed" in got.text
    assert cli.balance() == 1000


def test_ctrl_c_at_the_question_is_a_death_by_its_signal(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT) as asked:
        asked.wait_for(QUESTION)
        asked.type("\x03")
        got = asked.end()
    assert got.code == -signal.SIGINT
    assert "Traceback" not in got.text
    assert cli.balance() == 1000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_at_the_question_ends_without_a_change(cli: Cli, number: signal.Signals) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT) as asked:
        asked.wait_for(QUESTION)
        asked.process.send_signal(number)
        got = asked.end()
    assert got.code in (-signal.SIGTERM, 143)
    assert "Traceback" not in got.text
    assert cli.balance() == 1000


# The signal ends in another thread, so it breaks off nothing that this one waits for: as one does that
# comes in the moment before the wait.
BESIDE = """
import signal, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
from tokenctl.__main__ import run
run()
"""


def test_a_signal_just_before_the_wait_for_an_answer_is_not_lost(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT, program=(sys.executable, "-c", BESIDE)) as asked:
        asked.wait_for(QUESTION)
        asked.process.send_signal(signal.SIGTERM)
        got = asked.end()
    assert (got.code, cli.balance()) in [(143, 1000), (-signal.SIGTERM, 1000)]


@pytest.mark.parametrize(("typed", "code"), [("50,000", 0), ("5000", 2), ("\x1b[31m", 2)])
def test_above_the_limit_the_amount_is_typed(cli: Cli, typed: str, code: int) -> None:
    cli.grant("u1", 1000)
    with terminal(*LARGE) as asked:
        shown = asked.wait_for("To proceed, type the amount: ")
        assert "50,000 is above the limit of 5,000 tokens for one grant" in shown
        assert "balance 1,000 → 51,000" in shown
        before = len(asked.seen)
        asked.type(f"{typed}\n")
        got = asked.end()
    assert got.code == code
    assert cli.balance() == (51000 if code == 0 else 1000)
    if code:
        assert "is not 50000; nothing was changed" in got.text
        assert "\x1b" not in got.text[before:].partition("tokenctl:")[2]


def test_yes_alone_does_not_pass_the_limit(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*LARGE, "--yes") as asked:
        asked.wait_for("To proceed, type the amount: ")
        asked.type("n\n")
        assert asked.end().code == 2
    assert cli.balance() == 1000


def test_confirm_amount_answers_beforehand(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*LARGE, "--confirm-amount", "50000") as asked:
        got = asked.end()
    assert got.code == 0
    assert "[y/N]" not in got.text
    assert cli.balance() == 51000


@pytest.mark.parametrize(("flag", "variable"), [("--no-input", ""), ("--json", "1")])
def test_no_input_never_asks_and_never_connects(offline: object, flag: str, variable: str) -> None:
    assert offline
    env = environment(TERM="xterm", TOKENCTL_DATABASE_URL=NOWHERE, TOKENCTL_NO_INPUT=variable)
    with terminal(*GRANT, flag, env=env) as asked:
        got = asked.end()
    assert got.code == 2
    assert "--yes is required" in got.text


def test_a_replay_is_not_asked_about(cli: Cli) -> None:
    cli.grant("u1", 500)
    with terminal(*GRANT) as asked:
        got = asked.end()
    assert got.code == 0
    assert "already granted: u1:1" in got.text
    assert "[y/N]" not in got.text


def test_a_refusal_comes_before_the_question(cli: Cli) -> None:
    cli.grant("u2", 500)
    with terminal(*GRANT) as asked:
        got = asked.end()
    assert got.code == 67
    assert "[y/N]" not in got.text


def test_a_reversal_asks_too(cli: Cli) -> None:
    cli.grant("u1", 1000)
    for answer, code, balance in (("n", 1, 1000), ("y", 0, 0)):
        with terminal("reverse", "u1:1", "--reason", "mistake") as asked:
            shown = asked.wait_for("[y/N]: ")
            assert "balance 1,000 → 0" in shown
            asked.type(f"{answer}\n")
            assert asked.end().code == code
        assert cli.balance() == balance


def test_a_twin_that_was_quicker_than_the_answer_is_seen(cli: Cli) -> None:
    cli.grant("u1", 1000)
    with terminal(*GRANT) as asked:
        asked.wait_for(QUESTION)
        assert cli.grant("u1", 500).code == 0
        asked.type("y\n")
        got = asked.end()
    assert got.code == 0
    assert "already granted: u1:2" in got.text
    assert cli.balance() == 1500


def test_what_was_asked_is_told_apart_from_what_is_data(cli: Cli, home: Path) -> None:
    """Standard output in a file, questions on the terminal: only the receipt is in the file."""
    cli.grant("u1", 1000)
    receipt = home / "receipt"
    with receipt.open("wb") as file, terminal(*GRANT, stdout=file.fileno()) as asked:
        asked.wait_for(QUESTION)
        asked.type("y\n")
        assert asked.end().code == 0
    assert receipt.read_text().startswith("u1:2\tu1\t")
