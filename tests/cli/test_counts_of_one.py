"""A count of one is told as one, wherever numbers stand in sentences."""

from __future__ import annotations

from pathlib import Path

from tests.cli.running import Cli, terminal
from tests.integration.test_generations import ID, OTHER, opened
from tests.pg import hold, post

HEADER = "user_id,amount,reason,idempotency_key\n"
DONE = ("--reason", "mistake", "--yes")


def batch_of(cli: Cli, *rows: str) -> str:
    """The id of a batch of these rows."""
    cli.login("batch1")
    Path("grants.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(cli("batch-import", "grants.csv", "--yes", "--json").json["data"]["batch_id"])


def test_a_reversal_of_one_entry(cli: Cli) -> None:
    batch = batch_of(cli, "u1,1,x,a")
    planned = cli("reverse", "--batch", batch, "--reason", "mistake", "--dry-run")
    assert f"batch {batch} (grants.csv): 1 entry of 1 user, 1 token is taken back" in planned.err
    assert f"reversed batch {batch}: 1 entry in " in cli("reverse", "--batch", batch, *DONE).err
    undo = cli("batches", "--json").json["data"][0]["batch_id"]
    back = cli("reverse", "--batch", undo, "--reason", "mistake", "--dry-run")
    assert f"batch {undo}: 1 entry of 1 user, 1 token is given back" in back.err


def test_one_entry_that_cannot_be_reversed(cli: Cli) -> None:
    batch = batch_of(cli, "u1,1,x,a", "u2,1,x,b")
    hold(cli.db, "u1", 1)
    refused = cli("reverse", "--batch", batch, *DONE)
    assert f"batch {batch} cannot be reversed: 1 user lacks 1 token\n" in refused.err
    partly = cli("reverse", "--batch", batch, *DONE, "--partial")
    assert f"batch {batch} (grants.csv): 1 of 2 entries of 2 users, 1 token is taken back" in partly.err
    assert "left out: 1 entry of 1 user, 1 token that is spent or held" in partly.err
    assert "1 entry was not reversed: the tokens are spent or held" in partly.err
    rest = cli("reverse", "--batch", batch, *DONE)
    assert " reversed 1 entry\n" in rest.err


def test_a_limit_of_one_token(cli: Cli) -> None:
    cli.grant(amount=2)
    Path("limits.toml").write_text("[limits]\ngrant = 1\n", encoding="utf-8")
    got = cli("reverse", "u1:1", *DONE, "--config", "limits.toml")
    assert "2 is above the limit of 1 token for one reversal; nothing was changed" in got.err


def test_an_import_of_one_row(cli: Cli) -> None:
    cli.login("batch1")
    Path("grants.csv").write_text(f"{HEADER}u1,1,x,a\n", encoding="utf-8")
    for flag, has in (("--expect-rows", "1 row"), ("--expect-total", "1 token in its good rows")):
        got = cli("batch-import", "grants.csv", flag, "2", "--dry-run")
        assert f"grants.csv has {has}, {flag} says 2; nothing was changed" in got.err
    done = cli("batch-import", "grants.csv", "--yes")
    assert "1 row, 1 token for 1 user, who is new\n" in done.err
    assert ": 1 row, 1 token granted in " in done.err
    Path("more.csv").write_text(f"{HEADER}u1,1,x,b\nu2,0,x,c\n", encoding="utf-8")
    refused = cli("batch-import", "more.csv", "--yes")
    assert "1 of 2 rows is bad; nothing was imported\n" in refused.err
    assert "mend it, or import the others with --partial, which writes the bad row to a file" in refused.err
    partly = cli("batch-import", "more.csv", "--yes", "--partial")
    assert "1 row, 1 token for 1 user, who is known\n" in partly.err
    assert "1 row was left out; it is in more." in partly.err
    assert "mend it and import that file" in partly.err


def test_a_batch_that_was_reversed_but_for_one_entry(cli: Cli) -> None:
    batch = batch_of(cli, "u1,1,x,a", "u2,1,x,b")
    hold(cli.db, "u1", 1)
    cli("reverse", "--batch", batch, *DONE, "--partial")
    told = cli("batches", "show", batch, "--json").json["data"]["next"]
    assert "reversed it but for 1 entry; tokenctl batches show " in told
    assert told.endswith(" says why, and the same command takes it back when it can be")


def test_a_grant_of_one_token(cli: Cli) -> None:
    assert "granted 1 token to u1, balance 1\n" in cli.grant(amount=1).err
    with terminal("grant-bonus", "u1", "--amount", "1", "--reason", "goodwill", "--ticket", "1") as asked:
        assert "Grant 1 token to u1?" in asked.wait_for("[y/N]")
    hold(cli.db, "u1", 1)
    assert "u1 lacks 1 token: balance 1, held 1" in cli("reverse", "u1:1", *DONE).err
    shown = cli("show", "u1:1", "--format", "table").text
    assert "not now: 1 token is spent or held" in shown


def test_a_hold_of_one_token(cli: Cli) -> None:
    support = cli.db.connect("support1")
    post(support, "u1", 2, key="opening")
    opened(support, amount=1)
    with terminal("holds", "release", "u1", ID, "--reason", "stuck") as asked:
        assert "Release the hold of 1 token of u1?" in asked.wait_for("[y/N]")
    assert "no hold is past its deadline\n" in cli("holds", "reconcile").err
    cli.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    assert "1 hold past its deadline would be released\n" in cli("holds", "reconcile", "-n").err
    assert "1 hold past its deadline, released\n" in cli("holds", "reconcile").err
    opened(support, amount=1, id=OTHER, key="k2")
    got = cli("holds", "release", "u1", OTHER, "--reason", "stuck", "--yes")
    assert "released 1 token of u1; 2 available\n" in got.err


def test_a_rate_of_one(cli: Cli) -> None:
    Path("rates.toml").write_text("[rate_limits.balance]\nlimit = 1\nwindow_s = 3600\n", encoding="utf-8")
    cli("balance", "u1", "--config", "rates.toml")
    got = cli("balance", "u1", "--config", "rates.toml")
    assert (got.code, "balance was run once in 3600 s; again in " in got.err) == (75, True)


def test_a_cache_of_one_answer(cli: Cli) -> None:
    cli.grant(amount=1)
    cli("balance", "u1")
    assert "1 entry cleared\n" in cli("cache", "clear").err


def test_an_export_of_one_token(cli: Cli) -> None:
    cli.grant(amount=1)
    got = cli("export", "--format", "hledger")
    assert got.text.endswith("\n; end: 1 entry of 1 user, 1 token\n")


def test_a_ledger_whose_numbers_are_one(cli: Cli) -> None:
    cli.grant(amount=1)
    cli.db.rows("UPDATE tokenctl.token_accounts SET balance = 2")
    assert "says 2 tokens after 1 entry, its 1 entry sums to 1\n" in cli("explain", "u1").err
    cli.db.rows("UPDATE tokenctl.token_accounts SET balance = 1, last_seq = 2")
    assert "says 1 token after 2 entries, its 1 entry sums to 1\n" in cli("explain", "u1").err


def test_one_change_of_a_protected_schema(cli: Cli, home: Path) -> None:
    cli.login("postgres")
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[profiles.a]\ndatabase = "service=none"\nprotected = true\n', encoding="utf-8")
    cli.db.rows("UPDATE tokenctl.schema_functions SET checksum = 'older' WHERE name = '040_post'")
    with terminal("db", "migrate") as asked:
        assert "1 change of the schema: 040_post\r\n" in asked.wait_for("type the profile's name")
