"""A lock that is waited for in vain: who holds it is named, and the end is 75 however often it is tried."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.batch_driver import Client, Row
from tests.cli.running import Cli
from tests.pg import LedgerDB, post
from tokenctl.storage import locks

POST = "tokenctl.post_v1(text, text, bigint, text, text, text, text, text, text, text, boolean)"
LOCK = "SELECT FROM tokenctl.token_accounts WHERE user_id = 'u1' FOR NO KEY UPDATE"


def impatient(db: LedgerDB, *functions: str) -> None:
    """Functions that wait for no lock, so that a test need not."""
    for function in functions:
        db.rows(f"ALTER FUNCTION {function} SET lock_timeout = '20ms'")


def locked(db: LedgerDB, program: str) -> psycopg.Connection[object]:
    """Somebody who has locked u1 and forgot about it."""
    connection = psycopg.connect(db.conninfo("postgres"), application_name=program)
    connection.execute(LOCK)
    return connection


def test_the_holder_of_an_account_is_named_to_every_role(cli: Cli) -> None:
    cli.grant("u1", 5)
    impatient(cli.db, POST)
    with locked(cli.db, "tokenctl/grant-bonus/abc"):
        for _ in range(2):
            got = cli.grant("u1", 7, "--json")
            assert (got.code, got.problem["type"]) == (75, "urn:tokenctl:problem:lock-held")
            assert got.problem["holder"] == "postgres (tokenctl/grant-bonus/abc)"
            assert got.problem["detail"].endswith("; the lock is held by postgres (tokenctl/grant-bonus/abc)")
            assert got.problem["retryable"] is True
    assert cli.grant("u1", 7).code == 0
    assert cli.balance() == 12


def test_a_holder_that_has_gone_is_not_made_up(cli: Cli) -> None:
    cli.grant("u1", 5)
    with cli.db.connect("support1") as connection:
        assert locks.holder(connection, account="u1") is None
        assert locks.holder(connection, account="nobody", part=1, batches=["x"]) is None


def test_an_import_names_who_posts_to_its_partition(cli: Cli) -> None:
    cli.login("batch1")
    impatient(cli.db, "tokenctl.import_apply_v1(text, integer, integer, text, text)")
    Path("g.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,x,k\n", encoding="utf-8")
    with psycopg.connect(cli.db.conninfo("postgres"), application_name="tokenctl/batch-import/r9") as other:
        for part in range(4):
            other.execute("SELECT pg_advisory_xact_lock(hashtext('tokenctl partition'), %s)", (part,))
        for _ in range(2):
            got = cli("batch-import", "g.csv", "--yes", "--json")
            assert (got.code, got.problem["holder"]) == (75, "postgres (tokenctl/batch-import/r9)")
    assert cli("batch-import", "g.csv", "--yes").code == 0
    assert cli.balance() == 5


def test_a_reversal_names_who_is_at_the_batch(cli: Cli) -> None:
    client = Client(cli.db, "batch2")
    client.run([Row("u1", 5, "k")])
    cli.login("batch1")
    for _ in range(2):
        got = cli("reverse", "--batch", client.batch, "--reason", "x", "--yes")
        assert got.code == 75
        assert "is being imported or reversed at this moment by batch2" in got.err
    client.die()


def test_a_rate_limit_stays_75(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u1", 5)
    Path("few.toml").write_text("[rate_limits.grant-bonus]\nlimit = 1\nwindow_s = 3600\n", encoding="utf-8")
    codes = [cli.grant("u1", amount, "--config", "few.toml").code for amount in (7, 8, 9)]
    assert codes == [0, 75, 75]
    assert cli.balance() == 12
