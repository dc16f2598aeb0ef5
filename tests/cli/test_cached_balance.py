"""`balance` from the cache: how old it is, who makes it forget, and what is shown when the database is down."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, environment, on_terminal
from tests.pg import post
from tests.proxy import SILENT, Proxy, proxied


@pytest.fixture
def known(cli: Cli) -> Cli:
    """u1 has 500 tokens and u2 has 7, and both numbers are in the cache."""
    cli.grant("u1", 500)
    cli.grant("u2", 7)
    assert cli("balance", "u1", "u2").code == 0
    return cli


def behind(cli: Cli, user: str = "u1", amount: int = 1) -> None:
    """Write without tokenctl, so that its cache does not hear of it."""
    post(cli.db.connect("support1"), user, amount, key=f"behind {user} {amount}")


def value(cli: Cli, *options: str, user: str = "u1") -> int:
    return int(cli("balance", user, "--format", "value", *options).out)


@contextlib.contextmanager
def lossy_address(cli: Cli) -> Iterator[Proxy]:
    """Point the commands at a proxy in front of the server; afterwards nobody answers there."""
    conninfo = cli.db.conninfo("support1")
    folder = re.search(r"host=(\S+)", conninfo)
    assert folder is not None
    with proxied(Path(folder[1]) / ".s.PGSQL.5432", b"post_v1") as between:
        elsewhere = re.sub(r"host=\S+|port=\S+", "", conninfo) + f" host=127.0.0.1 port={between.port}"
        cli.patch.setenv("TOKENCTL_DATABASE_URL", elsewhere)
        yield between


def test_a_young_number_is_shown_with_its_age_and_fresh_asks(known: Cli) -> None:
    behind(known)
    got = known("balance", "u1", "--json").json
    assert (got["data"]["balance"], got["meta"]["cached"], got["meta"]["age_s"] >= 0) == (500, True, True)
    fresh = known("balance", "u1", "--fresh", "--json").json
    assert (fresh["data"]["balance"], fresh["meta"]["cached"], fresh["meta"]["age_s"]) == (501, False, None)
    assert value(known) == 501  # and keeps what it heard
    shown = on_terminal("balance", "u1").text
    assert "s old, from the cache; --fresh asks the database" in shown
    assert known("balance", "u1").err == ""


def test_all_of_a_balance_comes_back_from_the_cache(known: Cli) -> None:
    fresh = known("balance", "u1", "u2", "--fresh", "--json").json["data"]
    cached = known("balance", "u1", "u2", "--json").json["data"]
    assert [one.pop("age_s") for one in fresh] == [None, None]
    assert all(0 <= one.pop("age_s") < 30 for one in cached)
    assert cached == fresh


def test_some_from_the_cache_and_the_rest_in_one_query(known: Cli) -> None:
    behind(known)
    behind(known, "u3", 3)
    got = known("balance", "u3", "u1", "u2", "--json").json
    assert [one["balance"] for one in got["data"]] == [3, 500, 7]
    assert [one["age_s"] is None for one in got["data"]] == [True, False, False]
    assert got["meta"]["age_s"] == max(one["age_s"] or 0 for one in got["data"])
    known.grant("u3", 1)
    assert re.search(r"2 of 3 up to [0-9]+ s old, from the cache", on_terminal("balance", "u3", "u1", "u2", "u1").text)
    lines = known("balance", "u3", "u1", "--format", "jsonl").text.splitlines()
    assert all(json.loads(line)["age_s"] >= 0 for line in lines), "a line stands alone"


def test_zero_seconds_is_no_cache(known: Cli, home: Path) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[cache]\nttl_s = 0\n")
    behind(known)
    assert value(known) == 501


def test_every_write_forgets_what_it_changed(known: Cli, home: Path) -> None:
    known.grant("u1", 10)
    assert (value(known), value(known, user="u2")) == (510, 7)
    known("reverse", "u1:2", "--reason", "mistake", "--yes")
    assert value(known) == 500
    known.login("batch1")
    assert (value(known), value(known, user="u2")) == (500, 7)
    file = home / "g.csv"
    file.write_text("user_id,amount,reason,idempotency_key\nu1,5,test,a\nu2,6,test,b\n")
    batch = known("batch-import", str(file), "--yes", "--json").json["data"]["batch_id"]
    assert (value(known), value(known, user="u2")) == (505, 13)
    assert known("reverse", "--batch", batch, "--reason", "mistake", "--yes").code == 0
    assert (value(known), value(known, user="u2")) == (500, 7)


def test_a_dry_run_forgets_nothing(known: Cli) -> None:
    behind(known)
    known("grant-bonus", "u1", "--amount", "5", "--reason", "x", "-n")
    assert value(known) == 500


def test_another_ledger_or_login_has_numbers_of_its_own(known: Cli) -> None:
    behind(known)
    known.login("support2")
    assert value(known) == 501


def test_unknown_users_are_never_known_from_the_cache(known: Cli) -> None:
    assert known("balance", "u9").code == 67
    behind(known, "u9", 9)
    assert value(known, user="u9") == 9


@pytest.mark.parametrize("argv", [("balance", "u1"), ("balance", "u1", "u2")])
def test_with_the_database_down_only_allow_stale_shows_what_was_known(
    known: Cli, argv: tuple[str, ...], home: Path
) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[cache]\nttl_s = 30\n")
    known.db.rows("ALTER ROLE support1 CONNECTION LIMIT 0")
    try:
        refused = known(*argv, "--fresh", "--timeout", "2")
        assert (refused.code, refused.out) == (69, b"")
        assert "what was known" in refused.err
        assert "--allow-stale shows it" in refused.err
        shown = known(*argv, "--fresh", "--allow-stale", "--timeout", "2", "--json")
        assert shown.code == 0
        assert (shown.json["meta"]["stale"], shown.json["meta"]["age_s"] >= 0) == (True, True)
        assert "this is what was known" in shown.json["meta"]["warnings"][0]
    finally:
        known.db.rows("ALTER ROLE support1 CONNECTION LIMIT -1")


def test_out_of_time_is_down_too(known: Cli) -> None:
    holder = known.db.connect("postgres")
    with holder.transaction():
        holder.execute("LOCK TABLE tokenctl.token_accounts IN ACCESS EXCLUSIVE MODE")
        refused = known("balance", "u1", "--fresh", "--timeout", "0.5", "--json")
        assert (refused.code, "--allow-stale shows it" in refused.problem["hint"]) == (75, True)
        shown = known("balance", "u1", "--fresh", "--allow-stale", "--timeout", "0.5", "-q", "--format", "value")
    assert (shown.code, shown.out) == (0, b"500\n")
    assert re.search(r"this is what was known \d+ s ago", shown.err)


def test_marked_as_down_by_others_is_down_too(known: Cli) -> None:
    with lossy_address(known) as lossy:
        assert known("balance", "u1").code == 0
    refused = known("balance", "u1", "--fresh", "--timeout", "3")
    assert (refused.code, refused.out) == (69, b"")
    marked = known("balance", "u1", "--fresh", "--json").problem
    assert marked["type"] == "urn:tokenctl:problem:breaker-open"
    assert "--allow-stale shows it" in marked["hint"]
    shown = known("balance", "u1", "--fresh", "--allow-stale", "--json")
    assert (shown.code, shown.json["data"]["balance"], shown.json["meta"]["stale"]) == (0, 500, True)
    assert lossy.befallen == 0


@pytest.mark.parametrize("options", [("--allow-stale",), ("--allow-stale", "--json"), ()])
def test_one_of_several_who_is_not_known_leaves_nothing_to_show(known: Cli, options: tuple[str, ...]) -> None:
    known.db.rows("ALTER ROLE support1 CONNECTION LIMIT 0")
    try:
        got = known("balance", "u1", "u9", "--timeout", "2", *options)
    finally:
        known.db.rows("ALTER ROLE support1 CONNECTION LIMIT -1")
    assert (got.code, got.out) == (69, b"")
    assert "allow-stale" not in got.err


def test_a_write_whose_outcome_is_unknown_forgets_as_well(known: Cli) -> None:
    with lossy_address(known) as lossy:
        assert (value(known), value(known)) == (500, 500)
        lossy.faults += ["none, for the preview", SILENT]
        got = known("grant-bonus", "u1", "--amount", "5", "--reason", "x", "--yes", "--timeout", "1", "--json")
        assert got.problem["type"] == "urn:tokenctl:problem:outcome-unknown"
        assert value(known) == 505


def test_what_was_never_known_is_not_made_up(known: Cli) -> None:
    known.patch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
    got = known("balance", "u1", "--allow-stale")
    assert (got.code, got.out, "allow-stale" in got.err) == (69, b"", False)


@pytest.mark.usefixtures("known")
def test_a_number_from_the_cache_needs_no_driver() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tokenctl", "balance", "u1", "--format", "value"],
        capture_output=True, text=True, timeout=60, check=True, env=environment(),
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert ran.stdout == "500\n"
    assert imported & {"psycopg", "rich", "tenacity", "google"} == set()


def test_stats_and_clear(known: Cli) -> None:
    assert known("cache", "stats", "--json").json["data"]["entries"] == 2
    behind(known)
    assert known("cache", "clear", "--json").json["data"] == {"cleared": 2}
    assert known("cache", "stats", "--json").json["data"]["entries"] == 0
    assert value(known) == 501


def test_numbers_about_the_cache(known: Cli, home: Path) -> None:
    data = known("cache", "stats", "--json").json["data"]
    assert data["directory"] == str(home / "cache" / "tokenctl" / "v1")
    assert (data["format"], data["entries"], data["ttl_s"], data["oldest_s"] >= 0) == (1, 2, 30.0, True)
    assert data["size_bytes"] >= (home / "cache" / "tokenctl" / "v1" / "cache.db").stat().st_size
    [line] = known("cache", "stats").lines
    assert line[:3] == [data["directory"], "1", "2"]
    assert line[5] == "30"
    assert {oct((home / "cache" / way).stat().st_mode)[-3:] for way in ("tokenctl", "tokenctl/v1")} == {"700"}


def test_looking_at_no_cache_makes_none(cli: Cli, home: Path) -> None:
    data = cli("cache", "stats", "--json").json["data"]
    assert (data["entries"], data["size_bytes"], data["oldest_s"]) == (0, 0, None)
    assert cli("cache", "clear", "--json").json["data"] == {"cleared": 0}
    cli.grant("u1", 5)  # nor does a write
    assert not (home / "cache").exists()


def test_a_cache_that_others_hold_is_75_and_told_by_its_own_commands_only(known: Cli, home: Path) -> None:
    file = home / "cache" / "tokenctl" / "v1" / "cache.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert known("cache", "clear").code == 75
        assert value(known) == 500
        assert known.grant("u1", 1).code == 0
        told = known("balance", "u1", "--verbose").err
        assert "others are at it for too long" in told
    assert value(known, "--fresh") == 501


def test_a_damaged_cache_costs_nobody_a_number(known: Cli, home: Path) -> None:
    folder = home / "cache" / "tokenctl"
    for _ in range(2):
        (folder / "v1" / "cache.db").write_bytes(b"x" * 5000)
        got = known("balance", "u1", "--format", "value")
        assert (got.code, got.out, got.err) == (0, b"500\n", "")
        assert value(known) == 500
        assert len(list(folder.glob("v1.bad-*"))) == 1
        assert known("cache", "stats", "--json").json["data"]["entries"] == 1
    assert known("cache", "clear").code == 0
    assert list(folder.glob("v1.bad-*")) == []


def test_a_cache_that_cannot_be_used_stops_no_command(cli: Cli, home: Path) -> None:
    (home / "cache").mkdir()
    (home / "cache" / "tokenctl").write_text("no directory")
    cli.grant("u1", 5)
    assert value(cli) == 5
    assert cli("cache", "stats", "--json").json["data"]["entries"] == 0
