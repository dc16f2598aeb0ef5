"""Migrations: the same schema everywhere, once, whole, and never a changed one."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.pg import LedgerDB, Server
from tests.schema_dump import dump
from tokenctl.errors import NotAllowed, SchemaMismatch
from tokenctl.storage import migrations, queries

# Everything of the ledger that a query can depend on.
CATALOG = """
SELECT 'column', table_name || '.' || column_name, data_type || is_nullable || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'tokenctl'
UNION ALL
SELECT 'constraint', conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'tokenctl'::regnamespace AND contype <> 'n'
  AND (contype <> 'f' OR conparentid = 0)  -- copies for partitions are named differently by each major
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'tokenctl'
UNION ALL
SELECT 'function', oid::regprocedure::text,
  prosrc || coalesce(proconfig::text, '') || prosecdef || coalesce(proacl::text, '')
FROM pg_proc WHERE pronamespace = 'tokenctl'::regnamespace
UNION ALL
SELECT 'trigger', tgrelid::regclass || ' ' || tgname, tgenabled::text FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'tokenctl'::regnamespace AND NOT tgisinternal
ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty(ledger_db: LedgerDB) -> psycopg.Connection[tuple[object, ...]]:
    """A database without a ledger, on a server that has the roles already."""
    connection = ledger_db.connect("postgres")
    connection.execute("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    return connection


def test_the_numbers_run_without_a_gap_and_stand_once() -> None:
    files = migrations.migration_files()
    assert [step.version for step in files] == list(range(1, len(files) + 1))


def test_schema_sql_is_what_the_migrations_make(ledger_db: LedgerDB) -> None:
    written = (queries.sql_root() / "schema.sql").read_text()
    assert dump(ledger_db.conninfo("postgres")) == written, "run: make schema"


def test_both_majors_get_the_same_schema(server: Server, server_15: Server) -> None:
    found = []
    for each in (server, server_15):
        with psycopg.connect(each.conninfo("postgres", "ledger_template")) as connection:
            found.append(connection.execute(CATALOG).fetchall())
    assert set(found[0]) ^ set(found[1]) == set()


def test_each_migration_has_a_number_of_its_own() -> None:
    assert [step.version for step in migrations.migration_files()] == [*range(1, migrations.newest_version() + 1)]


def test_a_second_run_does_nothing(empty: psycopg.Connection[tuple[object, ...]]) -> None:
    names = [step.name for step in migrations.migrate(empty, partitions=4)]
    assert names[0] == "0001_ledger"
    assert migrations.migrate(empty, partitions=4) == []
    assert migrations.read_state(empty).is_current()


def test_runs_at_once_end_with_one_schema(ledger_db: LedgerDB) -> None:
    ledger_db.rows("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    connections = [ledger_db.connect("postgres") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda c: len(migrations.migrate(c, partitions=4)), connections))
    assert sorted(done)[:3] == [0, 0, 0]
    assert max(done) == len(migrations.migration_files()) + len(migrations.function_files())


def test_the_modulus_is_as_asked(empty: psycopg.Connection[tuple[object, ...]]) -> None:
    migrations.migrate(empty, partitions=7)
    assert empty.execute("SELECT tokenctl.partition_count()").fetchone() == (7,)


def test_a_failing_migration_leaves_nothing(
    empty: psycopg.Connection[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _copy(tmp_path, monkeypatch)
    (root / "migrations" / "9999_broken.sql").write_text("CREATE TABLE tokenctl.half (x int); SELECT 1/0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrations.migrate(empty, partitions=4)
    assert empty.execute("SELECT to_regnamespace('tokenctl')").fetchone() == (None,)


def test_an_edited_migration_is_refused(ledger_db: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _copy(tmp_path, monkeypatch)
    with (root / "migrations" / "0001_ledger.sql").open("a") as stream:
        stream.write("-- edited\n")
    with pytest.raises(SchemaMismatch, match="0001_ledger"):
        migrations.migrate(ledger_db.connect("postgres"))


def test_a_changed_function_is_applied_again(
    ledger_db: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _copy(tmp_path, monkeypatch)
    with (root / "functions" / "020_reading.sql").open("a") as stream:
        stream.write("-- changed\n")
    connection = ledger_db.connect("postgres")
    assert not migrations.read_state(connection).is_current()
    assert [step.name for step in migrations.migrate(connection)] == ["020_reading"]


def test_a_newer_database_is_left_alone(ledger_db: LedgerDB) -> None:
    ledger_db.rows("INSERT INTO tokenctl.schema_migrations (version, name, checksum) VALUES (99, 'future', 'x')")
    with pytest.raises(SchemaMismatch) as caught:
        migrations.migrate(ledger_db.connect("postgres"))
    assert "newer tokenctl" in caught.value.hint


def test_a_login_without_the_rights_is_told_what_it_lacks(ledger_db: LedgerDB) -> None:
    ledger_db.rows("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    with pytest.raises(NotAllowed) as caught:
        migrations.migrate(ledger_db.connect("stranger"))
    assert "CREATEROLE" in caught.value.hint


def test_no_superuser_is_needed(each_db: LedgerDB) -> None:
    each_db.rows("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    each_db.rows("DO $$ BEGIN CREATE ROLE deployer LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    each_db.rows("GRANT tokenctl_owner TO deployer")
    each_db.rows(f"GRANT CREATE ON DATABASE {each_db.name} TO deployer")
    assert migrations.migrate(each_db.connect("deployer"), partitions=4)


def _copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(queries.sql_root(), tmp_path / "sql"))
    monkeypatch.setattr(migrations, "sql_root", lambda: root)
    return root


def test_analyze_reads_a_sample_of_the_entries_in_every_partition(each_db: LedgerDB) -> None:
    assert each_db.rows(
        "SELECT count(DISTINCT attrelid), min(attstattarget), max(attstattarget) FROM pg_attribute"
        " WHERE attnum > 0 AND attrelid IN ("
        "  SELECT inhrelid FROM pg_inherits WHERE inhparent = 'tokenctl.token_transactions'::regclass)"
    ) == [(4, 20, 20)]
