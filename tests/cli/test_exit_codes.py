"""Failures as cron and people meet them: a code, one sentence, a hint, and never a password."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.cli.running import NOWHERE, ROOT, Cli, CommandLine, environment, run
from tests.pg import LedgerDB, post
from tokenctl.storage.migrations import newest_version

CANARY = "S3CRET-canary"
GRANT = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:{CANARY}@127.0.0.1:{server.getsockname()[1]}/x"


@pytest.fixture
def mumbling() -> Iterator[str]:
    """The address of a server that hangs up on the first connection and is silent on all others."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            peer.sendall(b"220 mail.example ESMTP\r\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"postgresql://u:{CANARY}@127.0.0.1:{server.getsockname()[1]}/x"
        thread.join()


def test_nothing_listens_is_69_and_may_be_tried_again(offline: CommandLine) -> None:
    got = offline("balance", "u1", "--json")
    assert got.code == 69
    assert got.problem["retryable"] is True
    assert got.problem["detail"] == "the database at x@127.0.0.1:1 does not answer"
    assert offline(*GRANT).code == 69


def test_a_silent_server_is_69_within_the_timeout(offline: CommandLine, silent: str) -> None:
    """The connection is given up by libpq's own limit; the test runs forever if nothing does it."""
    offline.patch.setenv("TOKENCTL_DATABASE_URL", silent)
    for argv in (("balance", "u1", "--timeout", "2"), (*GRANT, "--timeout", "2", "--json")):
        got = offline(*argv)
        assert got.code == 69
        assert "does not answer" in got.err
        assert CANARY not in got.err


def test_a_server_that_falls_silent_between_two_questions_is_bounded_too(offline: CommandLine, mumbling: str) -> None:
    """A process of its own: libpq's ping holds the interpreter, so this one could not answer."""
    offline.patch.setenv("TOKENCTL_DATABASE_URL", mumbling)
    got = run("balance", "u1")
    assert got.code == 69
    assert got.err.startswith("tokenctl: the database at x@127.0.0.1:")
    assert CANARY not in got.err


def test_a_lock_that_is_held_too_long_is_75_by_the_timeout_and_nothing_is_written(cli: Cli) -> None:
    cli.grant("u1", 1000)
    holder = cli.db.connect("postgres")
    with holder.transaction():
        holder.execute("SELECT FROM tokenctl.token_accounts FOR UPDATE")
        got = cli(*GRANT, "--timeout", "0.4", "--json")
        assert got.code == 75
        assert got.problem["retryable"] is True
        assert cli("balance", "u1", "--timeout", "5").code == 0
    assert cli.written() == (1, 1, 0)


def test_an_unknown_role_is_77(cli: Cli) -> None:
    cli.login("nobody_at_all")
    got = cli("balance", "u1", "--json")
    assert (got.code, got.problem["type"]) == (77, "urn:tokenctl:problem:not-allowed")
    assert "refuses the login" in got.problem["detail"]


def test_a_role_without_rights_is_77(cli: Cli) -> None:
    cli.grant("u1", 5)
    cli.login("stranger")
    assert cli("balance", "u1").code == 77
    assert cli(*GRANT).code == 77
    assert cli.written() == (1, 1, 0)


def test_a_database_that_is_not_there_is_78(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_DATABASE_URL", cli.db.server.conninfo("support1", "no_such_ledger"))
    got = cli("balance", "u1", "--json")
    assert (got.code, got.problem["exit_code"]) == (78, 78)
    assert "does it exist?" in got.problem["hint"]


@pytest.mark.parametrize("url", [f"nonsense {CANARY}", f"host=x pasword={CANARY}", "%"])
def test_an_unreadable_address_is_78_and_not_repeated(offline: CommandLine, url: str) -> None:
    offline.patch.setenv("TOKENCTL_DATABASE_URL", url)
    for argv in (("balance", "u1"), GRANT, ("db", "status"), ("db", "url"), ("db", "psql"), ("db", "migrate")):
        got = offline(*argv)
        assert got.code == 78, argv
        assert "connection string is wrong" in got.err
        assert CANARY not in got.err + got.text


@pytest.mark.parametrize("rest", ["127.0.0.1:port/x", "127.0.0.1:99999/x", "127.0.0.1/x?sslmode=nonsense"])
def test_an_address_that_cannot_be_is_78_too(offline: CommandLine, rest: str) -> None:
    offline.patch.setenv("TOKENCTL_DATABASE_URL", f"postgresql://u:{CANARY}@{rest}")
    got = offline("balance", "u1")
    assert got.code == 78
    assert "connection string is wrong" in got.err


def test_an_empty_database_has_no_ledger_yet(cli: Cli, ledger_db: LedgerDB) -> None:
    cli.patch.setenv("TOKENCTL_DATABASE_URL", ledger_db.server.conninfo("postgres", "postgres"))
    got = cli("balance", "u1", "--json")
    assert (got.code, got.problem["type"]) == (78, "urn:tokenctl:problem:schema-mismatch")
    assert "tokenctl db migrate" in got.problem["hint"]


def test_an_older_schema_names_the_command(cli: Cli) -> None:
    cli.db.rows("UPDATE tokenctl.schema_migrations SET version = version - 1")
    got = cli("balance", "u1", "--json")
    assert (got.code, got.problem["type"]) == (78, "urn:tokenctl:problem:schema-mismatch")
    version = newest_version()
    assert got.problem["detail"] == f"the database has schema version {version - 1}, this tokenctl needs {version}"
    assert "tokenctl db migrate" in got.problem["hint"]
    assert cli(*GRANT).code == 78
    assert cli.written() == (0, 0, 0)


def test_a_newer_schema_names_the_remedy(cli: Cli) -> None:
    cli.db.rows("UPDATE tokenctl.schema_migrations SET version = version + 1000")
    got = cli("balance", "u1")
    assert got.code == 78
    assert "install a newer tokenctl" in got.err
    cli.login("postgres")
    assert cli("db", "migrate").code == 78
    assert cli("db", "migrate", "-n").code == 78
    status = cli("db", "status", "--exit-code", "--json")
    assert status.code == 1


def test_an_unexpected_failure_is_70_in_one_line(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_TEST_RAISE", "1")
    got = offline("balance", "u1")
    assert got.code == 70
    first, hint = got.err.splitlines()
    assert first == "tokenctl: unexpected RuntimeError"
    assert "TOKENCTL_DEBUG=1" in hint
    assert offline("balance", "u1", "--json").problem["type"] == "urn:tokenctl:problem:bug"


def test_a_module_that_cannot_be_loaded_is_a_bug_like_any_other() -> None:
    got = run("balance", "u1", env=environment(PYTHONPATH=f"{ROOT / 'tests' / 'raise'}:{ROOT}"))
    assert (got.code, got.out, "Traceback" in got.err, "TOKENCTL_DEBUG" in got.err) == (70, b"", False, True)


def test_the_traceback_comes_only_with_debug(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_TEST_RAISE", "1")
    offline.patch.setenv("TOKENCTL_DEBUG", "1")
    got = offline("balance", "u1")
    assert got.code == 70
    assert re.search(r'File ".*tokenctl/cli/run\.py", line \d+', got.err)
    assert "TOKENCTL_DEBUG" not in got.err.splitlines()[0]
    offline.patch.setenv("TOKENCTL_DEBUG", "0")
    assert "File" not in offline("balance", "u1").err


def test_every_problem_has_the_members_of_rfc_9457(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_REQUEST_ID", "job/7")
    problem = None
    for argv, code in ((("balance", "u1"), 69), (("balance", "a b"), 2), (GRANT[:-1], 2)):
        problem = offline(*argv, "--json").problem
        assert {"type", "title", "detail", "instance", "exit_code", "retryable", "hint"} <= set(problem)
        assert problem["exit_code"] == code
        assert problem["type"].startswith("urn:tokenctl:problem:")
    assert problem
    assert problem["instance"] == "urn:tokenctl:request:job/7"
    assert problem["operation"] == "grant-bonus"


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_password_never_comes_out(cli: Cli, silent: str, debug: str) -> None:
    """Ten situations that fail, each with a password in the address; and two that do not."""
    post(cli.db.connect("support1"), "u1")
    parts = cli.db.conninfo().replace("'", "")
    works = f"{parts} password={CANARY}"
    cli.patch.setenv("TOKENCTL_DEBUG", debug)
    wrong = [
        NOWHERE.replace("u@", f"u:{CANARY}@"),
        f"postgresql://u:{CANARY}@127.0.0.1:1,127.0.0.1:2/x",
        f"postgresql://u:{CANARY}@h:99999/x",
        f"host=/nowhere password={CANARY} dbname={CANARY[:3]}",
        f"service=missing password={CANARY}",
        f"{works} sslmode=nonsense",
        works.replace("support1", "nobody_at_all"),
        re.sub(r"dbname=\S+", "dbname=missing", works),
        silent,
    ]
    for url in wrong:
        cli.patch.setenv("TOKENCTL_DATABASE_URL", url)
        argv = ("db", "status") if url is silent else ("balance", "u1")
        got = cli(*argv, "--timeout", "2")
        assert got.code in (69, 77, 78), (url, got)
        assert CANARY not in got.err + got.text, url
    cli.patch.setenv("TOKENCTL_DATABASE_URL", works)
    for line in (("db", "url"), ("db", "status"), ("balance", "u1"), ("balance", "nobody"), (*GRANT, "--json")):
        got = cli(*line)
        assert got.code in (0, 67), line
        assert CANARY not in got.err + got.text
    cli.patch.setenv("TOKENCTL_TEST_RAISE", "1")
    got = cli(*GRANT)
    assert got.code == 70
    assert CANARY not in got.err


def test_processes_end_with_these_codes_too(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u1")
    assert run("balance", "u1").code == 0
    nobody = run("balance", "nobody", "--json")
    assert (nobody.code, nobody.out, json.loads(nobody.err)["exit_code"]) == (67, b"", 67)
