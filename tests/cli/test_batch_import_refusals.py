"""`batch-import` says no: the right exit code, a sentence, and nothing left behind."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli, CommandLine
from tests.cli.test_batch_import import HEADER, keys, untouched, write
from tests.pg import post, reverse
from tests.unit.grantfile.corpus import Case
from tests.unit.grantfile.corpus_rows import CORPUS
from tests.waiting import until
from tokenctl.storage.imports import BatchStore


@pytest.fixture(autouse=True)
def _batch_role(request: pytest.FixtureRequest) -> None:
    if "cli" in request.fixturenames:
        request.getfixturevalue("cli").login("batch1")


def arguments(case: Case, folder: Path) -> list[str]:
    """The command line of a case; what is no option goes into the configuration."""
    options = dict(case.options)
    config = ""
    if "max_rows" in options:
        config += f"[limits]\nimport_rows = {options.pop('max_rows')}\n"
    if "reasons" in options:
        config = f"reasons = {sorted(options.pop('reasons'))}\n{config}"
    (folder / "config.toml").write_text(config)
    names = {"format": "--format-in", "default_reason": "--reason", "campaign": "--campaign"}
    given = [word for name, value in options.items() for word in (names[name], str(value))]
    return ["batch-import", case.path(folder), "--yes", "--config", str(folder / "config.toml"), *given]


@pytest.mark.parametrize("share", range(4))
def test_no_file_of_the_corpus_leaves_a_trace(cli: Cli, share: int, tmp_path: Path, subtests: pytest.Subtests) -> None:
    assert len(CORPUS) >= 60
    for number, case in enumerate(CORPUS[share::4]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with subtests.test(case.name):
            argv = arguments(case, folder)
            got = cli(*argv, stdin=case.content if case.stdin else b"")
            raised = case.error.exit_code if case.error is not None else 65
            assert got.code == (2 if "" in argv else raised)  # an empty argument is no file's name yet
            assert got.out == b""
            assert "Traceback" not in got.err
            assert all(line.isprintable() for line in got.err.splitlines())
            if case.error is None:
                assert re.search(case.message, got.err, re.MULTILINE)
                assert re.search(r"^[^\n]*:[0-9]+: [a-z_]+: \S", got.err, re.MULTILINE)
    assert untouched(cli)


def test_a_mistake_in_the_last_of_many_rows_stops_the_first(cli: Cli) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(20_000)), "last,five,x,k")
    got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 65
    assert "grants.csv:20002: amount: " in got.err
    assert untouched(cli)


def test_no_more_than_a_hundred_problems_are_named(cli: Cli) -> None:
    write(*(f"u{n},x,x,k{n}" for n in range(500)))
    got = cli("batch-import", "grants.csv", "--yes")
    assert len([line for line in got.err.splitlines() if line.startswith("grants.csv:")]) == 100
    assert "500 of 500 rows are bad; nothing was imported, the first 100 problems are named\n" in got.err


def test_problems_are_counted_and_not_rows_and_a_row_is_named_whole(cli: Cli) -> None:
    write(*(f"u {n},x,X,k{n}" for n in range(60)))
    got = cli("batch-import", "grants.csv", "--yes")
    told = [line.split(":")[1] for line in got.err.splitlines() if line.startswith("grants.csv:")]
    assert told == [str(line) for line in range(2, 35) for _ in range(3)]
    assert "60 of 60 rows are bad; nothing was imported, the first 99 problems are named\n" in got.err
    write(*(f"u {n},x,X,k{n}" for n in range(33)))
    assert "are named" not in cli("batch-import", "grants.csv", "--yes").err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--expect-rows", "2"], 0),
        (["--expect-rows", "3"], 2),
        (["--expect-rows", "0"], 2),
        (["--expect-total", "12"], 0),
        (["--expect-total", "13"], 2),
        (["--expect-total", "0"], 2),
        (["--expect-rows", "2", "--expect-total", "12"], 0),
        (["--expect-rows", "2", "--expect-total", "11"], 2),
        (["--expect-rows", "1_0"], 2),
        (["--expect-total", "-1"], 2),
    ],
)
def test_expectations_are_held_to(cli: Cli, options: list[str], code: int) -> None:
    write("u1,5,x,k1", "u2,7,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", *options)
    assert got.code == code
    assert untouched(cli) == (code != 0)


def test_a_file_that_was_imported_before_is_held_to_expectations_too(cli: Cli) -> None:
    """Yesterday's file that is delivered once more is no success of today's job."""
    write("u1,5,x,k1", "u2,7,x,k2")
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    before = cli.written()
    for flags, has in (
        (("--expect-rows", "3"), "2 rows, --expect-rows says 3"),
        (("--expect-total", "13"), "12 tokens in its good rows, --expect-total says 13"),
        (("--expect-rows", "2", "--expect-total", "0"), "12 tokens in its good rows, --expect-total says 0"),
    ):
        for end in ("--yes", "--dry-run"):
            got = cli("batch-import", "grants.csv", end, *flags, "--json")
            assert (got.code, got.problem["type"]) == (2, "urn:tokenctl:problem:limit-not-confirmed")
            assert got.problem["detail"] == f"grants.csv has {has}; nothing was changed"
    with cli.patch.context() as patch:
        patch.setitem(sys.modules, "tokenctl.grantfile.check", None)  # neither needs the file
        assert cli("batch-import", "grants.csv", "--yes", "--expect-rows", "2", "--expect-total", "12").code == 0
    assert cli.written() == before


def test_the_total_of_a_file_that_left_rows_out_is_that_of_its_good_rows(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u9", 1, key="taken")
    write("u1,5,x,k1", "u1,5,x,k1", "u2,oops,x,k2", "u9,100,x,taken")
    total = ("--expect-rows", "4", "--expect-total", "110")
    for _ in range(2):
        assert cli("batch-import", "grants.csv", "--yes", "--partial", *total).code == 65
    got = cli("batch-import", "grants.csv", "--yes", "--partial", "--expect-total", "5")
    assert (got.code, "grants.csv has 110 tokens in its good rows" in got.err) == (2, True)


def test_a_last_line_without_newline_needs_an_expectation(cli: Cli) -> None:
    Path("cut.csv").write_text(f"{HEADER}\nu1,5,x,k1\nu2,500,x,k2")
    got = cli("batch-import", "cut.csv", "--yes")
    assert got.code == 65
    assert "cut.csv:3: the last line has no newline" in got.err
    assert "--expect-rows 2 --expect-total 505" in got.err
    assert cli("batch-import", "cut.csv", "--yes", "--expect-rows", "3").code == 2
    assert untouched(cli)
    assert cli("batch-import", "cut.csv", "--yes", "--expect-total", "505").code == 0
    assert keys(cli) == ["k1", "k2"]


def test_yes_alone_never_passes_the_limit(cli: Cli) -> None:
    write("u1,200000,x,k1", "u2,1,x,k2")
    got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 2
    assert "--expect-total 200001" in got.err
    assert cli("batch-import", "grants.csv", "--yes", "--expect-rows", "2").code == 2
    assert cli("batch-import", "grants.csv", "--expect-total", "200001").code == 2  # it is no --yes
    assert untouched(cli)
    assert cli("batch-import", "grants.csv", "--yes", "--expect-total", "200001").code == 0


def test_a_total_that_nobody_can_count_is_bad_data(cli: Cli) -> None:
    write(*(f"u{n % 2},999999999999999,x,k{n}" for n in range(20_000)))
    got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 65
    assert "19,999,999,999,999,980,000 tokens" in got.err
    assert untouched(cli)


FULL = [f"u{n // 10},999999999999999,x,k{n}" for n in range(11)]
FULL_TOTAL = ("--expect-total", "10999999999999989")


def test_a_balance_that_would_overflow_refuses_the_file(cli: Cli) -> None:
    write(*FULL)
    got = cli("batch-import", "grants.csv", "--yes", *FULL_TOTAL)
    assert (got.code, "10 of 11 rows are bad; nothing was imported" in got.err) == (65, True), got
    assert "grants.csv:2: amount: the balance of u0 would pass 9,007,199,254,740,991 tokens" in got.err
    assert untouched(cli)


def test_with_partial_the_rows_of_a_balance_that_would_overflow_are_left_out(cli: Cli) -> None:
    write(*FULL)
    got = cli("batch-import", "grants.csv", "--yes", "--partial", *FULL_TOTAL, "--json")
    assert (got.code, got.json["data"]["rows"]["refused"], keys(cli)) == (65, 10, ["k10"]), got
    assert "the balance of u0 would pass" in got.err
    assert cli.db.rows("SELECT user_id FROM tokenctl.token_accounts") == [("u1",)]
    cli.db.check()


def test_tokens_that_came_before_count_for_what_a_balance_can_hold(cli: Cli) -> None:
    for n in range(9):
        post(cli.db.connect("support1"), "u0", 999_999_999_999_999, key=f"s{n}")
    write("u0,7199254740999,x,k1", "u0,1,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", "--expect-total", "7199254741000")
    assert got.code == 0, got
    again = cli(
        "batch-import",
        write("u0,7199254740999,x,k1", "u0,1,x,k2", "u0,1,x,k3"),
        "--yes",
        *FULL_TOTAL[:1],
        "7199254741001",
    )
    assert (again.code, again.err.count("would pass"), "grants.csv:4: amount" in again.err) == (65, 1, True), again
    cli.db.check()


def test_a_balance_that_is_full_by_the_time_of_posting_is_left_out_and_named(cli: Cli) -> None:
    begin = BatchStore.begin

    def late(self: BatchStore, asked: Mapping[str, Any]) -> None:
        for n in range(9):
            post(cli.db.connect("support1"), "u0", 999_999_999_999_999, key=f"s{n}")
        begin(self, asked)

    cli.patch.setattr(BatchStore, "begin", late)
    write("u0,999999999999999,x,k1", "u1,1,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", "--expect-total", "1000000000000000", "--json")
    assert (got.code, got.json["data"]["rows"]["refused"]) == (65, 1), got
    assert "the balance of u0 would pass" in got.err
    assert "k2" in keys(cli)
    assert "k1" not in keys(cli)
    cli.db.check()


def test_without_terminal_and_yes_nothing_is_even_connected_to(offline: CommandLine) -> None:
    write("u1,5,x,k1")
    got = offline("batch-import", "grants.csv", stdin=b"y\n")
    assert (got.code, "--yes" in got.err) == (2, True)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_is_no_file_is_told_before_connecting(offline: CommandLine, name: str) -> None:
    assert offline("batch-import", name, "--yes").code == 66


def test_no_database_is_69(offline: CommandLine) -> None:
    write("u1,5,x,k1")
    assert offline("batch-import", "grants.csv", "--yes").code == 69


def test_support_may_not_import(cli: Cli) -> None:
    write("u1,5,x,k1")
    cli.login("support1")
    assert cli("batch-import", "grants.csv", "--dry-run").code == 77
    assert cli.written()[2] == 0, "of a dry run nothing is kept"
    assert cli("batch-import", "grants.csv", "--yes").code == 77
    assert cli.db.rows("SELECT operator, action, outcome FROM tokenctl.audit_log") == [
        ("support1", "import", "not_allowed")
    ]


def test_a_reason_that_is_not_listed_is_refused(cli: Cli) -> None:
    Path("c.toml").write_text('reasons = ["goodwill"]\n')
    write("u1,5,goodwil,k1")
    got = cli("batch-import", "grants.csv", "--yes", "--config", "c.toml")
    assert (got.code, "did you mean 'goodwill'?" in got.err) == (65, True)
    assert cli("batch-import", "grants.csv", "--yes", "--config", "c.toml", "--reason", "gift").code == 2
    assert untouched(cli)


def test_a_second_run_ends_at_once_and_says_who_is_at_it(cli: Cli) -> None:
    write("u1,5,x,k1")
    batch = cli("batch-import", "grants.csv", "-n", "--json").json["data"]["batch_id"]
    first = Client(cli.db, "batch2", batch)
    first.open()
    got = cli("batch-import", "grants.csv", "--yes", "--json")
    assert (got.code, got.problem["type"], got.problem["retryable"]) == (75, "urn:tokenctl:problem:lock-held", True)
    assert f"(batch {batch}): me as batch2 since " in got.problem["detail"]
    assert cli.db.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(0,)]
    first.die()


def test_a_reversed_file_is_refused_until_the_reversal_is_undone(cli: Cli) -> None:
    write("u1,5,x,k1")
    batch = cli("batch-import", "grants.csv", "--yes", "--json").json["data"]["batch_id"]
    undo = cli("reverse", "--batch", batch, "--reason", "mistake", "--yes", "--json").json["data"]["batch_id"]
    got = cli("batch-import", "grants.csv", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:replay-of-reversed")
    command = f"tokenctl reverse --batch {undo} --reason mistake"
    assert got.problem["hint"].splitlines() == ["reversing that brings its rows back:", command]
    shown = cli("batches", "show", batch, "--json").json["data"]
    assert (shown["state"], shown["command"], shown["undo"]) == ("reversed", command, None)
    assert shown["next"] == f"batch {undo} reversed it; reversing that brings it back"
    assert cli(*shlex.split(command)[1:], "--yes").code == 0
    again = cli("batch-import", "grants.csv", "--yes", "--json").json["data"]
    assert (again["outcome"], cli.balance()) == ("already", 5)
    assert again["undo"] == cli("batches", "show", batch, "--json").json["data"]["undo"]
    assert cli(*shlex.split(again["undo"])[1:], "--yes").code == 0
    assert cli.balance() == 0


def test_a_row_that_was_granted_and_reversed_is_no_replay(cli: Cli) -> None:
    """A mended file with the old keys: what it says again was taken back, and is not there."""
    write("u1,5,x,k1", "u2,7,x,k2", "u3,9,x,k3")
    batch = cli("batch-import", "grants.csv", "--yes", "--json").json["data"]["batch_id"]
    assert cli("reverse", "--batch", batch, "--reason", "wrong-file", "--yes").code == 0
    write("u1,5,x,k1", "u2,7,x,k2", "u3,8,x,k3-mended")
    got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 65
    assert "grants.csv:2: idempotency_key: was granted before (u1:1) and then reversed" in got.err
    assert "2 of 3 rows are bad; nothing was imported" in got.err
    part = cli("batch-import", "grants.csv", "--yes", "--partial", "--json")
    assert (part.code, part.json["data"]["rows"]["rejected"]) == (65, 2)
    assert [cli.balance(user) for user in ("u1", "u2", "u3")] == [0, 0, 8]
    undo = cli.db.rows("SELECT batch_id FROM tokenctl.import_batches WHERE kind = 'reversal'")[0][0]
    assert cli("reverse", "--batch", undo, "--reason", "mistake", "--yes").code == 0
    write("u1,5,x,k1", "u2,7,x,k2", "u4,1,x,k4")
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert [cli.balance(user) for user in ("u1", "u2", "u3", "u4")] == [5, 7, 17, 1]
    cli.db.check()


def test_a_batch_is_reversed_once_and_never_by_more_than_there_is(cli: Cli) -> None:
    write("u1,5,x,k1", "u2,7,x,k2")
    batch = cli("batch-import", "grants.csv", "--yes", "--json").json["data"]["batch_id"]
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0
    cli.db.rows(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, expires_at, purpose, idempotency_key, operator,"
        " claimed_by, request_id) VALUES ('u2', 'h', 3, clock_timestamp() + '1 hour', 't', 'h', 'x', 'x', 'x')"
    )
    short = cli("reverse", "--batch", batch, "--reason", "mistake", "--yes", "--json")
    assert (short.code, short.problem["missing"], short.problem["users"]) == (1, 3, ["u2"])
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    planned = cli("reverse", "--batch", batch, "--reason", "mistake", "--dry-run", "--json")
    assert (planned.code, planned.json["data"]["rows"], planned.json["meta"]["dry_run"]) == (0, 1, True)
    assert cli.balance("u2") == 7
    assert cli("reverse", "--batch", batch, "--reason", "mistake", "--yes").code == 0
    assert cli.balance("u2") == 0
    again = cli("reverse", "--batch", batch, "--reason", "mistake", "--yes", "--json")
    assert (again.code, again.problem["type"]) == (1, "urn:tokenctl:problem:already-reversed")
    assert cli("reverse", "--batch", "f" * 12, "--reason", "mistake", "--yes").code == 1
    cli.db.check()


def test_a_batch_that_is_still_imported_is_not_reversed(cli: Cli) -> None:
    client = Client(cli.db)
    client.stage([Row("u1", 5, "k")])
    assert cli("reverse", "--batch", client.batch, "--reason", "mistake", "--yes").code == 75
    client.begin()
    client.die()
    asked = ("reverse", "--batch", client.batch, "--reason", "mistake", "--yes")
    until(lambda: "at this moment" not in cli(*asked).err, "the lock is gone")
    got = cli(*asked)
    assert (got.code, "is an import that was cut off: it is not finished" in got.err) == (1, True)


@pytest.mark.parametrize(
    ("amount", "reversed_", "why"),
    [
        (6, False, "was used with other content (u1:1)"),
        (5, True, "was granted before (u1:1) and then reversed; to grant it after all, give it a new key"),
    ],
)
def test_what_came_between_a_cut_run_and_the_one_that_finishes_it_is_told_and_the_rest_posted(
    cli: Cli, amount: int, reversed_: bool, why: str
) -> None:
    write("u1,5,x,k1", "u2,7,x,k2")
    batch = cli("batch-import", "grants.csv", "-n", "--json").json["data"]["batch_id"]
    cut = Client(cli.db, batch=batch)
    cut.stage([Row("u1", 5, "k1", "x"), Row("u2", 7, "k2", "x")])
    cut.begin()
    cut.die()
    digest = hashlib.sha256(Path("grants.csv").read_bytes()).hexdigest()
    cli.db.rows("UPDATE tokenctl.import_batches SET file_sha256 = %s", digest)
    support = cli.db.connect("support1")
    post(support, "u1", amount, reason="x", key="k1")
    if reversed_:
        reverse(support, "u1", 1)
    got = cli("batch-import", "grants.csv", "--yes")
    assert (got.code, f"grants.csv:2: idempotency_key: {why}\n" in got.err, "1 row was left out" in got.err) == (
        65, True, True,
    )  # fmt: skip
    assert "mend it and import the file again: no row is posted twice" in got.err  # there is no file of these rows
    assert [cli.balance(user) for user in ("u1", "u2")] == [0 if reversed_ else 6, 7]
    cli.db.check()


def test_the_first_of_two_rows_of_one_key_is_not_sent_to_itself(cli: Cli) -> None:
    write("u1,5,x,k1", "u1,7,x,k1")
    got = cli("batch-import", "grants.csv", "--yes")
    assert got.code == 65
    assert "grants.csv:2: idempotency_key: stands again below with other content\n" in got.err
    assert "grants.csv:3: idempotency_key: stands twice in the file with other content (first in line 2)\n" in got.err


def test_what_cannot_be_loaded_is_told_once_and_without_a_traceback(cli: Cli) -> None:
    write("u1,5,x,k1")
    cli.patch.setitem(sys.modules, "tokenctl.grantfile.check", None)
    got = cli("batch-import", "grants.csv", "--yes")
    assert (got.code, got.err.count("\n") <= 3, "Traceback" in got.err) == (70, True, False), got
    assert "unexpected ModuleNotFoundError" in got.err
    assert untouched(cli)
