"""What is refused before anything connects: no database answers in these tests."""

from __future__ import annotations

import json

import pytest

from tests.cli.running import CommandLine, Ran, run, shell

GRANT = ("grant-bonus", "u1", "--reason", "goodwill", "--yes")
WHOLE = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill")
AMOUNTS = [
    "1.000", "1_000", "1,000", "5.0", "1e3", "-5", "+5", "0", "00", "007", "", "٣", "5x", " 5", "5 ", "5\n", "0x10",
    "1" * 16, "9" * 400, "½", "nan", "inf", "--yes", "\x1b[31m5", "\uff15",
]  # fmt: skip


def refused(got: Ran, *words: str) -> None:
    """The run ended with a usage error that has the words, and printed nothing else."""
    assert got.code == 2, got
    assert got.out == b""
    assert got.err.startswith("tokenctl: ")
    assert "\x1b" not in got.err
    for word in words:
        assert word in got.err


def test_a_good_command_line_would_connect(offline: CommandLine) -> None:
    assert offline(*WHOLE, "--yes").code == 69
    assert offline(*WHOLE, "--dry-run").code == 69


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_is_digits_only(offline: CommandLine, amount: str) -> None:
    refused(offline(*GRANT, "--amount", amount))
    refused(offline(*GRANT, f"--amount={amount}"))


@pytest.mark.parametrize(
    ("amount", "remedy"),
    [
        ("1.000", "write 1000 or 1"),
        ("1_000", "write 1000"),
        ("5.0", "write 5"),
        ("1e3", "write 1000"),
        ("٣", "write 3"),
    ],
)
def test_the_message_names_the_option_and_the_remedy(offline: CommandLine, amount: str, remedy: str) -> None:
    refused(offline(*GRANT, "--amount", amount), "tokenctl: --amount: ", remedy, "tokenctl grant-bonus --help")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("statement u1", "missing option '--month'"),
        (
            "batches --state x",
            "--state: 'x' is not one of 'checking', 'abandoned', 'running', 'unfinished', 'done', 'reversed'",
        ),
        ("completion tcsh", "SHELL: 'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        ("show", "missing argument 'USER:SEQ'"),
        ("db migrat", "no such command 'migrat'; did you mean 'migrate'?"),
    ],
)
def test_what_typer_says_ends_without_a_full_stop_as_all_else(offline: CommandLine, argv: str, told: str) -> None:
    got = offline(*argv.split())
    refused(got)
    assert got.err.splitlines()[0] == f"tokenctl: {told}"


@pytest.mark.parametrize("amount", ["1", "999999999999999"])
def test_the_smallest_and_the_largest_amount(offline: CommandLine, amount: str) -> None:
    assert offline(*GRANT, "--amount", amount, "--confirm-amount", amount).code == 69


@pytest.mark.parametrize(
    "argv",
    [
        (*WHOLE, "--yes", "--amount", "50"),
        (*WHOLE, "--yes", "--amount=5"),
        (*WHOLE, "--yes", "--yes"),
        (*WHOLE, "--yes", "-y"),
        (*WHOLE, "-n", "--dry-run"),
        (*WHOLE, "--yes", "--reason", "goodwill"),
        (*WHOLE, "--yes", "--amount", "50", "--note", "-h"),
        (*WHOLE, "--yes", "--amount", "50", "--note", "--help"),
        ("balance", "u1", "--no-input", "--no-input"),
        ("balance", "u1", "--format", "tsv", "--format", "value"),
        ("reverse", "u1:1", "--reason", "a", "--reason", "b", "--yes"),
    ],
)
def test_an_option_given_twice_is_refused(offline: CommandLine, argv: tuple[str, ...]) -> None:
    refused(offline(*argv), "is given twice")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("verify", "--head", ""), "--head"),
        (("verify", "--request-id", ""), "--request-id"),
        (("verify", "--request-id="), "--request-id"),
        (("generate", "u1", "--image", "a.png", "--image", ""), "--image"),
        (("history", ""), "USER"),
        (("balance", "u1", ""), "USER… | -"),
    ],
)
def test_what_is_empty_is_named(offline: CommandLine, argv: tuple[str, ...], named: str) -> None:
    assert offline(*argv).err == f"tokenctl: {named}: is empty (an unset variable?)\n"


@pytest.mark.parametrize("option", ["--request-id", "--profile", "--format"])
def test_what_an_option_may_not_be_is_told_with_both(offline: CommandLine, option: str) -> None:
    assert offline("verify", option, "a b").err.startswith(f"tokenctl: 'a b' ({option}) is n")


def test_a_note_may_look_like_an_option(offline: CommandLine) -> None:
    assert offline(*WHOLE, "--yes", "--note", "-h").code == 69


@pytest.mark.parametrize("abbreviated", ["--amo", "--amoun", "--rea", "--dry"])
def test_options_are_not_abbreviated(offline: CommandLine, abbreviated: str) -> None:
    refused(offline(*WHOLE, abbreviated, "5"), abbreviated)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("balnce", "u1"), "'balance'"),
        (("grant", "u1"), "grant-bonus"),
        (("balance", "u1", "--jsn"), "--json"),
        (("db", "migrat"), "migrate"),
    ],
)
def test_a_typing_error_gets_a_suggestion_and_is_never_run(
    offline: CommandLine, argv: tuple[str, ...], word: str
) -> None:
    refused(offline(*argv), word)


def test_a_missing_choice_is_told_in_one_line(offline: CommandLine) -> None:
    first, hint = offline("completion").err.splitlines()
    assert first == "tokenctl: missing argument 'SHELL': one of bash, zsh, fish"
    assert hint.strip() == "tokenctl completion --help"


@pytest.mark.parametrize(
    "argv",
    [
        ("grant-bonus", "u1", "--amount", "5", "--yes"),
        ("grant-bonus", "u1", "--reason", "goodwill", "--yes"),
        ("grant-bonus", "--amount", "5", "--reason", "goodwill", "--yes"),
        ("grant-bonus", "u1", "u2", "--amount", "5", "--reason", "goodwill", "--yes"),
        ("grant-bonus", "u1", "500", "--reason", "goodwill", "--yes"),
        ("grant-bonus", "", "--amount", "5", "--reason", "goodwill", "--yes"),
        ("balance",),
        ("balance", ""),
        ("balance", "u1", ""),
        ("reverse", "--reason", "x", "--yes"),
        ("reverse", "u1:1", "--yes"),
        ("reverse", "u1:1", "--batch", "0123456789ab", "--reason", "x", "--yes"),
        ("reverse", "--batch", "0123456789ab", "--reason", "x", "--idempotency-key", "k", "--yes"),
        (*WHOLE, "--yes", "--campaign", "c", "--idempotency-key", "k"),
        (*WHOLE, "--yes", "--note", ""),
        (*WHOLE, "--yes", "--nope"),
        ("balance", "u1", "--format", "xml"),
        ("balance", "u1", "--timeout", "0"),
        ("balance", "u1", "--timeout", "-1"),
        ("balance", "u1", "--timeout", "1e3"),
        ("balance", "u1", "--timeout", "soon"),
        ("balance", "u1", "--request-id", "two words"),
        ("balance", "u1", "--request-id", "x" * 129),
        ("--quiet", "balance", "u1"),
        ("db", "nope"),
    ],
)
def test_a_wrong_command_line_is_refused(offline: CommandLine, argv: tuple[str, ...]) -> None:
    refused(offline(*argv))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--reason", "Goodwill"), ("--reason", "1st"), ("--reason", "a" * 33), ("--reason", "good will"),
        ("--reason", "[/]"), ("--note", "two\nlines"), ("--note", "x" * 501), ("--note", " x"), ("--note", "\x1b[2J"),
        ("--note", "\u202egnirts"), ("--ticket", "a b"), ("--ticket", "x" * 65), ("--campaign", "a b"),
        ("--campaign", "x" * 123), ("--idempotency-key", "a b"), ("--idempotency-key", "x" * 129),
        ("--confirm-amount", "5.0"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_the_name_of_its_option(offline: CommandLine, option: str, value: str) -> None:
    argv = ["grant-bonus", "u1", "--amount", "5", "--yes"]
    argv += [] if option == "--reason" else ["--reason", "goodwill"]
    refused(offline(*argv, option, value), f"tokenctl: {option}: ")


@pytest.mark.parametrize("user", ["-x", "a b", "x" * 129, "naïve", "a/b", "a\x00b", "u1\n"])
def test_a_bad_user_id_is_refused_everywhere(offline: CommandLine, user: str) -> None:
    refused(offline("grant-bonus", "--amount", "5", "--reason", "x", "--yes", "--", user))
    refused(offline("balance", "--", user))
    refused(offline("reverse", "--reason", "x", "--yes", "--", f"{user}:1"))


@pytest.mark.parametrize(
    "name", ["u1", "u1:", ":1", "u1:0", "u1:01", "u1:x", "u1:-1", "u1:1:", "u1: 1", "u1:" + "9" * 16]
)
def test_a_transaction_is_named_by_user_and_number(offline: CommandLine, name: str) -> None:
    refused(offline("reverse", name, "--reason", "x", "--yes"), "tokenctl: ")


@pytest.mark.parametrize("batch", ["0123456789a", "0123456789AB", "0123456789abc", "u1:1", ""])
def test_a_batch_is_named_by_twelve_hex_digits(offline: CommandLine, batch: str) -> None:
    refused(offline("reverse", "--batch", batch, "--reason", "x", "--yes"))


@pytest.mark.parametrize(
    "argv",
    [
        WHOLE,
        (*WHOLE, "--no-input"),
        ("reverse", "u1:1", "--reason", "x"),
        ("reverse", "--batch", "0" * 12, "--reason", "x"),
    ],
)
def test_without_a_terminal_and_yes_it_is_refused_before_connecting(
    offline: CommandLine, argv: tuple[str, ...]
) -> None:
    refused(offline(*argv, stdin=b"y\ny\n"), "--yes is required")


@pytest.mark.usefixtures("offline")
def test_piped_text_never_answers() -> None:
    refused(run(*WHOLE, stdin=b"y\ny\n"), "--yes is required")
    refused(shell("yes | tokenctl grant-bonus u1 --amount 5 --reason goodwill"), "--yes is required")


def test_above_the_limit_yes_is_not_enough(offline: CommandLine) -> None:
    got = offline(*GRANT, "--amount", "5001")
    refused(got, "5,001 is above the limit of 5,000 tokens for one grant", "--confirm-amount 5001")
    refused(offline(*GRANT, "--amount", "5001", "--confirm-amount", "5000"), "5000 is not --amount 5001")
    refused(offline(*GRANT, "--amount", "500", "--confirm-amount", "5000"), "nothing was changed")
    assert offline(*GRANT, "--amount", "5000").code == 69
    assert offline("grant-bonus", "u1", "--reason", "x", "--amount", "5001", "--confirm-amount", "5001").code == 69
    assert offline("grant-bonus", "u1", "--reason", "x", "--amount", "5001", "--dry-run").code == 69


@pytest.mark.parametrize(
    "argv",
    [
        ("balance", "--json"),
        ("balance", "u1", "--nope", "--json"),
        ("nope", "--json"),
        ("grant-bonus", "u1", "--amount", "1.000", "--reason", "x", "--format", "json"),
        ("grant-bonus", "u1", "--amount", "1.000", "--reason", "x", "--format=jsonl"),
        ("balance", "u1", "--json", "--json"),
        ("balance", "u1", "--json", "--format", "tsv"),
        ("--json", "balance", "u1"),
    ],
)
def test_usage_errors_are_json_when_json_was_asked_for(offline: CommandLine, argv: tuple[str, ...]) -> None:
    got = offline(*argv)
    assert got.code == 2
    problem = got.problem
    assert json.loads(got.err) == problem  # nothing else on standard error
    assert problem["type"] == "urn:tokenctl:problem:usage"
    assert (problem["title"], problem["exit_code"]) == ("The command line is wrong", 2)
    assert problem["retryable"] is False


def test_usage_errors_are_json_when_the_environment_says_so(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_FORMAT", "json")
    assert offline("balance").problem["exit_code"] == 2
