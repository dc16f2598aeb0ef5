"""`db`: status, migrate, url and psql on a server that is not ours to start and stop."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import ENOUGH_S, TOKENCTL, Cli, CommandLine, Ran, environment, run
from tests.cli.test_pipeline import measured
from tokenctl.storage.embedded import binaries
from tokenctl.storage.migrations import function_files, migration_files, newest_version


@pytest.fixture
def empty(cli: Cli) -> Cli:
    """The same, on a database without a ledger, as a superuser."""
    name = f"{cli.db.name}_empty"
    with psycopg.connect(cli.db.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    cli.patch.setenv("TOKENCTL_DATABASE_URL", cli.db.server.conninfo("postgres", name))
    return cli


def psql(*argv: str) -> str:
    """What psql prints."""
    program = binaries.programs_dir(None) / "psql"
    done = subprocess.run(
        [program, "-XAt", *argv], capture_output=True, text=True, check=True, env=environment(), timeout=ENOUGH_S
    )
    return done.stdout.strip()


def test_status_names_the_database_and_its_schema(cli: Cli) -> None:
    got = cli("db", "status", "--json").json
    assert got["schema"] == "tokenctl.db_status.v1"
    data = got["data"]
    assert (data["profile"], data["origin"], data["running"]) == ("env", "env:TOKENCTL_DATABASE_URL", True)
    assert data["database"].startswith(f"{cli.db.name}@")
    assert data["server"].startswith("PostgreSQL 18.")
    assert (data["schema"], data["needs"], data["pending"]) == (newest_version(), newest_version(), [])
    assert cli("db", "status", "--exit-code").code == 0
    assert cli("db", "status", "--exit-code", "-q") == Ran(0, b"", "")
    assert cli("db", "status", "--exit-code", "-q", "--json").json["data"]["schema"] == newest_version()
    assert cli("db", "status", "-q").out != b""


def test_status_of_an_empty_database(empty: Cli) -> None:
    data = empty("db", "status", "--json").json["data"]
    assert data["schema"] == 0
    assert data["pending"][0] == "0001_ledger"
    got = empty("db", "status", "--exit-code")
    assert got.code == 1
    assert "tokenctl db migrate" in got.err
    quiet = empty("db", "status", "--exit-code", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (1, b"", got.err)


def test_migrate_shows_what_it_will_do_does_it_and_is_done(empty: Cli) -> None:
    wanted = [step.name for step in [*migration_files(), *function_files()]]
    plan = empty("db", "migrate", "--dry-run", "--json").json
    assert [step["name"] for step in plan["data"]] == wanted
    assert plan["meta"]["dry_run"] is True
    assert empty("db", "migrate", "-n").lines == [[str(s["version"] or ""), s["name"]] for s in plan["data"]]
    assert empty("balance", "u1").code == 78  # still nothing there
    done = empty("db", "migrate", "--json").json
    assert (done["data"], done["meta"]["dry_run"]) == (plan["data"], False)
    again = empty("db", "migrate")
    assert (again.code, again.out) == (0, b"")
    assert "the schema is up to date" in again.err
    assert empty("db", "migrate", "-n", "--json").json["data"] == []
    assert empty("db", "migrate", "-q").err == ""
    assert empty("db", "status", "--exit-code").code == 0
    assert empty.grant("u1", 5).code == 0


def test_two_migrations_at_once_end_with_one_schema(empty: Cli) -> None:
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda _: run("db", "migrate", "--json"), range(2)))
    assert [one.code for one in ended] == [0, 0]
    assert sorted(len(one.json["data"]) for one in ended) == [0, len([*migration_files(), *function_files()])]
    assert empty("db", "status", "--exit-code").code == 0


def test_changed_functions_are_brought_up_to_date(cli: Cli) -> None:
    cli.db.rows("UPDATE tokenctl.schema_functions SET checksum = 'x' WHERE name LIKE '030%'")
    assert cli("db", "status", "--exit-code").code == 1
    cli.login("postgres")
    [step] = cli("db", "migrate", "--json").json["data"]
    assert (step["version"], step["name"][:3]) == (None, "030")
    assert cli("db", "status", "--exit-code").code == 0


def test_support_may_not_migrate(cli: Cli) -> None:
    assert cli("db", "migrate").code == 0  # nothing to do needs no right
    cli.db.rows("UPDATE tokenctl.schema_functions SET checksum = 'x' WHERE name LIKE '030%'")
    got = cli("db", "migrate", "--json")
    assert (got.code, got.problem["type"]) == (77, "urn:tokenctl:problem:not-allowed")
    assert "tokenctl_owner" in got.problem["hint"]


def test_an_edited_migration_is_refused(cli: Cli) -> None:
    cli.db.rows("UPDATE tokenctl.schema_migrations SET checksum = 'x'")
    cli.login("postgres")
    for argv in (("db", "migrate"), ("db", "migrate", "-n"), ("db", "status")):
        got = cli(*argv)
        assert got.code == 78
        assert "0001_ledger is not the one that this database has" in got.err


def test_the_url_is_what_psql_accepts(cli: Cli) -> None:
    cli.grant("u1", 1500)
    url = cli("db", "url").text.rstrip("\n")
    assert url.startswith("postgresql://")
    assert cli("db", "url", "--json").json["data"] == {"url": url}
    assert cli("db", "url", "--format", "value").text == f"{url}\n"
    assert cli("db", "url", "--format", "table").text == f"{url}\n"
    assert psql(url, "-c", "SELECT balance, session_user FROM tokenctl.token_accounts") == "1500|support1"
    cli.patch.setenv("TOKENCTL_DATABASE_URL", url)
    assert cli("balance", "u1", "--format", "value").out == b"1500\n"


def test_an_odd_name_survives_the_url(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_DATABASE_URL", "host='/a b' dbname='x y/z?' user='a@b' password=secret")
    url = offline("db", "url").text.strip()
    assert psycopg.conninfo.conninfo_to_dict(url) == {"host": "/a b", "dbname": "x y/z?", "user": "a@b"}


def test_psql_is_opened_on_the_same_database(cli: Cli, home: Path) -> None:
    cli.grant("u1", 1500)
    folder = binaries.programs_dir(None)
    done = subprocess.run(
        [*TOKENCTL, "db", "psql"],
        input=b"\\pset format unaligned\nSELECT 'has ' || balance FROM tokenctl.token_accounts;\n",
        capture_output=True,
        env=environment(PATH=f"{folder}:/usr/bin:/bin", TOKENCTL_LOG_FILE=str(home / "log")),
        timeout=ENOUGH_S,
        check=True,
    )
    assert b"has 1500" in done.stdout
    last = json.loads((home / "log").read_text().splitlines()[-1])  # it was recorded before it became psql
    assert (last["event"], last["operation"], last["outcome"]) == ("done", "db psql", "ok")
    assert measured()["operations_total", "db psql", "ok"] == 1


def test_psql_gets_what_follows_two_hyphens_and_finds_the_tables(cli: Cli, home: Path) -> None:
    cli.grant("u1", 1500)
    (home / ".psqlrc").write_text("\\set QUIET 1\n\\pset null 'NOTHING'\n\\pset tuples_only on\n")
    env = environment(PATH=f"{binaries.programs_dir(None)}:/usr/bin:/bin", HOME=str(home))
    got = run("db", "psql", "--", "--csv", "-c", "SELECT balance, NULL FROM token_accounts", "-c", "\\dt", env=env)
    assert (got.code, got.err) == (0, "")
    first, *tables = got.text.splitlines()
    assert first == "1500,NOTHING"  # the user's own file was read
    assert "tokenctl,token_accounts,partitioned table,tokenctl_owner" in tables
    assert run("db", "psql", "--", "-c", "SELEKT", env=env).code == 1
    path = ("db", "psql", "--", "-Atc", "SHOW search_path")
    assert run(*path, env=env).text == '"$user", public, tokenctl\n'
    for given, then in (("", "tokenctl"), ("tokenctl, public", "tokenctl, public")):
        options = env | {"PGOPTIONS": f"-csearch_path={given.replace(' ', '')}"}
        assert run(*path, env=options).text.replace(", ", ",").strip() == then.replace(", ", ",")
    other = home / "it's.rc"
    other.write_text("\\echo other\n")
    assert run(*path, env=env | {"PSQLRC": str(other)}).text == 'other\n"$user", public, tokenctl\n'


def test_a_missing_psql_is_told(cli: Cli, home: Path) -> None:
    cli.patch.setenv("PATH", str(home))
    got = cli("db", "psql")
    assert got.code == 78
    assert "psql is not installed" in got.err


@pytest.mark.parametrize("what", ["start", "stop"])
def test_only_the_embedded_server_is_started_and_stopped(offline: CommandLine, what: str) -> None:
    got = offline("db", what)
    assert got.code == 2
    assert "env:TOKENCTL_DATABASE_URL names another database" in got.err
