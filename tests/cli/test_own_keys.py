"""Keys of the ledger's own: nobody takes one first and so keeps an entry from being posted."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli
from tests.pg import LedgerDB, post, reverse

OWN = ["reverse:5", "reverse:x", "generation:0123456789ab"]
# What stands beside them in the order of bytes, and is anybody's.
FREE = [
    "reverse",
    "reverse9",
    "reverse;",
    "Reverse:1",
    "a-reverse:1",
    "generation",
    "generation9",
    "generation;",
    "generatiom:1",
]


@pytest.mark.parametrize("key", OWN)
def test_the_command_line_refuses_one(cli: Cli, key: str) -> None:
    got = cli.grant("u1", 5, "--idempotency-key", key)
    assert (got.code, "only the ledger's own keys begin with" in got.err) == (2, True)
    cli.grant("u1", 5)
    got = cli("reverse", "u1:1", "--reason", "x", "--yes", "--idempotency-key", key)
    assert (got.code, "only the ledger's own keys begin with" in got.err) == (2, True)
    assert cli.written() == (1, 1, 0)


@pytest.mark.parametrize("key", OWN)
def test_a_file_with_one_is_told_its_line(cli: Cli, key: str) -> None:
    cli.login("batch1")
    Path("f.csv").write_text(f"user_id,amount,reason,idempotency_key\nu1,5,x,a\nu1,5,x,{key}\n", encoding="utf-8")
    got = cli("batch-import", "f.csv", "--yes")
    assert (got.code, cli.written()[1]) == (65, 0)
    assert (
        f"f.csv:3: idempotency_key: '{key}' begins with '{key.partition(':')[0]}:', as only the ledger's own" in got.err
    )


@pytest.mark.parametrize("key", OWN)
def test_the_database_refuses_one(each_db: LedgerDB, key: str) -> None:
    support = each_db.connect("support1")
    post(support, "u1", 5, key="a")
    with pytest.raises(psycopg.errors.CheckViolation, match="the ledger's own kind"):
        post(support, "u1", 5, key=key)
    with pytest.raises(psycopg.errors.CheckViolation, match="the ledger's own kind"):
        reverse(support, "u1", 1, key=key)
    client = Client(each_db)
    client.open()
    with pytest.raises(psycopg.errors.CheckViolation, match="staged_rows"):
        client.copy([Row("u1", 5, key)])
    assert each_db.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(1,)]


@pytest.mark.parametrize("key", ["reverse:", "generation:", "generation:~", "reverse:\U0010ffff"])
def test_no_key_of_that_beginning_can_be_staged(each_db: LedgerDB, key: str) -> None:
    client = Client(each_db)
    client.open()
    with pytest.raises(psycopg.errors.CheckViolation, match="staged_rows"):
        client.copy([Row("u1", 5, key)])


def test_keys_that_only_look_like_them_are_imported(each_db: LedgerDB) -> None:
    assert Client(each_db).run([Row("u1", 5, key) for key in FREE])["applied"] == len(FREE)
    each_db.check()


def test_a_reversal_may_be_named_by_its_own_key(cli: Cli) -> None:
    """As the command that is printed when an answer was lost does."""
    cli.grant("u1", 5)
    flags = ("reverse", "u1:1", "--reason", "x", "--yes", "--idempotency-key", "reverse:1")
    assert cli(*flags).code == 0
    assert cli(*flags, "--json").json["meta"]["replayed"] is True


def test_an_import_does_not_pass_for_a_reversal(ledger_db: LedgerDB) -> None:
    client = Client(ledger_db)
    client.stage([Row("u1", 5, "k")])
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is no reversal"):
        client.stage_reversal()
