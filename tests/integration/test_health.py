"""What `health` asks of a real database, and what it finds when something is wrong with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from tests.integration.embedded_servers import ENOUGH_S, Farm, farm
from tests.pg import LedgerDB
from tokenctl.errors import Fault, NotAllowed, SchemaMismatch, TimedOut, TokenctlError, Unavailable
from tokenctl.resilience.deadline import Deadline
from tokenctl.services import health_rules as rules
from tokenctl.services.health_report import Check
from tokenctl.storage.database import Database
from tokenctl.storage.embedded import binaries
from tokenctl.storage.health import Probe
from tokenctl.storage.migrations import newest_version

IMPORT = "0" * 12


@contextmanager
def probe(conninfo: str, timeout_s: float = ENOUGH_S) -> Iterator[Probe]:
    made = Probe(Database(conninfo, application_name="tokenctl/health/x", deadline=Deadline(None)), timeout_s=timeout_s)
    with closing(made):
        yield made


def deep(db: LedgerDB, user: str = "support1") -> dict[str, Check]:
    """The checks of --deep, as this login sees them."""
    with probe(db.conninfo(user)) as asked:
        return {
            "durability": rules.durability(asked.durability()),
            "triggers": rules.triggers(asked.bad_triggers()),
            "functions": rules.functions(asked.loose_functions()),
            "privileges": rules.privileges(asked.privileges()),
        }


@pytest.mark.parametrize("user", ["reader1", "support1", "batch1", "admin1", "postgres"])
def test_a_server_that_is_well_is_so_for_every_login(each_db: LedgerDB, user: str) -> None:
    with probe(each_db.conninfo(user)) as asked:
        found = asked.server()
        assert rules.database(found).state == "ok"
        assert rules.schema(asked.schema(), needs=newest_version()).state == "ok"
        assert rules.jobs(asked.jobs(), max_age_s=None).detail == "no import yet"
    assert found.version.split(".")[0] in ("15", "18")
    assert found.local
    assert found.tls is None
    assert found.row.connections >= 1
    assert (found.row.max_connections, found.row.standbys) == (50, 0)
    assert (found.row.in_recovery, found.row.read_only) == (False, False)
    assert found.row.writer == (user != "reader1")
    assert asked.answered


def test_the_deep_checks_find_nothing_in_a_new_ledger(each_db: LedgerDB) -> None:
    for user in ("reader1", "support1", "admin1"):
        assert {name: check.state for name, check in deep(each_db, user).items()} == dict.fromkeys(
            ("durability", "triggers", "functions", "privileges"), "ok"
        )
    assert deep(each_db)["privileges"].values["roles"] == ["tokenctl_reader", "tokenctl_support"]


def test_connections_of_others_are_counted_by_every_login(ledger_db: LedgerDB) -> None:
    def count() -> int:
        with probe(ledger_db.conninfo("reader1")) as asked:
            return asked.server().row.connections

    before = count()
    kept = [ledger_db.connect() for _ in range(5)]
    assert count() >= before + len(kept) - 1  # an autovacuum worker may have come and gone


def test_a_login_that_cannot_write(each_db: LedgerDB) -> None:
    each_db.rows("ALTER ROLE support1 SET default_transaction_read_only = on")
    each_db.rows("ALTER ROLE reader1 SET default_transaction_read_only = on")
    try:
        with probe(each_db.conninfo("support1")) as asked:
            check = rules.database(asked.server())
        with probe(each_db.conninfo("reader1")) as asked:
            reader = rules.database(asked.server())
    finally:
        each_db.rows("ALTER ROLE support1 RESET default_transaction_read_only")
        each_db.rows("ALTER ROLE reader1 RESET default_transaction_read_only")
    assert (check.state, "read-only for this login" in check.detail) == ("critical", True)
    assert (reader.state, reader.detail.endswith(", read-only")) == ("ok", True)


def test_a_database_without_a_ledger(each_db: LedgerDB) -> None:
    with probe(each_db.server.conninfo("postgres", "postgres")) as asked:
        assert rules.database(asked.server()).state == "ok"
        with pytest.raises(SchemaMismatch, match="no ledger yet"):
            asked.schema()


def test_a_stranger_is_told_so(ledger_db: LedgerDB) -> None:
    with probe(ledger_db.conninfo("stranger")) as asked:
        assert asked.server().row.writer is False
        with pytest.raises(NotAllowed):
            asked.schema()


def test_a_database_and_a_login_that_are_not_there(ledger_db: LedgerDB) -> None:
    for conninfo in (ledger_db.server.conninfo("support1", "no_such_ledger"), ledger_db.conninfo("nobody_at_all")):
        with probe(conninfo) as asked, pytest.raises(TokenctlError) as caught:
            asked.server()
        assert caught.value.fault is Fault.CONFIG
        assert not asked.answered


def test_nobody_listens() -> None:
    with probe("postgresql://u@127.0.0.1:1/x") as asked, pytest.raises(Unavailable) as caught:
        asked.server()
    assert caught.value.fault is Fault.CONNECT


def test_a_server_that_hangs_while_it_is_asked_is_cut_off(ledger_db: LedgerDB) -> None:
    """The lock stands for any hang: the server's own limits are off."""
    holder = ledger_db.connect()
    with holder.transaction():
        holder.execute("LOCK TABLE tokenctl.import_batches")
        with probe(ledger_db.conninfo(), timeout_s=0.05) as asked, pytest.raises(TimedOut, match=r"within 0\.05 s"):
            asked.jobs()


def start_import(db: LedgerDB, batch_id: str, state: str, started: str, finished: str | None = None) -> None:
    db.rows(
        "INSERT INTO tokenctl.import_batches (batch_id, kind, state, file_sha256, slices, operator, claimed_by,"
        " request_id, applied, started_at, finished_at) VALUES (%s, 'import', %s, 'x', 1, 'x', 'x', 'x', 0,"
        " now() - %s::interval, now() - %s::interval)",
        batch_id, state, started, finished,
    )  # fmt: skip


def test_imports_are_dated_by_the_databases_clock(each_db: LedgerDB) -> None:
    start_import(each_db, "1" * 12, "done", "10 d", "9 d")
    start_import(each_db, "2" * 12, "done", "3 h", "2 h")
    start_import(each_db, "3" * 12, "applying", "5 h")
    start_import(each_db, "4" * 12, "staging", "50 h")  # it has posted nothing, so nothing is half done
    with probe(each_db.conninfo("reader1")) as asked:
        found = asked.jobs()
    assert found.age_s == pytest.approx(7200, abs=600)
    assert found.oldest_s == pytest.approx(18000, abs=600)
    assert (found.unfinished, found.orphaned) == (1, 1)


def test_an_import_that_somebody_works_at_is_no_orphan(each_db: LedgerDB) -> None:
    start_import(each_db, IMPORT, "applying", "1 min")
    worker = each_db.connect("batch1")
    with worker.transaction():
        assert worker.execute("SELECT tokenctl.import_lock_v1(%s)", (IMPORT,)).fetchall() == [(True,)]
        with probe(each_db.conninfo("reader1")) as asked:
            found = asked.jobs()
    assert (found.unfinished, found.orphaned) == (1, 0)


REMADE = """
DROP TRIGGER append_only ON tokenctl.audit_log;
CREATE TRIGGER append_only BEFORE UPDATE ON tokenctl.audit_log FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
ALTER TABLE tokenctl.audit_log ENABLE ALWAYS TRIGGER append_only
"""
TOOTHLESS = """
CREATE FUNCTION tokenctl.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
DROP TRIGGER never_truncated ON tokenctl.audit_log;
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.nothing();
ALTER TABLE tokenctl.audit_log ENABLE ALWAYS TRIGGER never_truncated
"""


@pytest.mark.parametrize(
    ("damage", "trigger", "what"),
    [
        (
            "ALTER TABLE tokenctl.token_transactions_2 DISABLE TRIGGER append_only",
            "token_transactions_2.append_only",
            "is not enabled always",
        ),
        (
            "ALTER TABLE tokenctl.token_accounts_1 ENABLE TRIGGER never_truncated",
            "token_accounts_1.never_truncated",
            "is not enabled always",
        ),
        (
            "DROP TRIGGER never_truncated ON tokenctl.token_transactions_0",
            "token_transactions_0.never_truncated",
            "is missing",
        ),
        ("DROP TRIGGER append_only ON tokenctl.audit_log", "audit_log.append_only", "is missing"),
        ("DROP TABLE tokenctl.audit_log CASCADE", "audit_log.append_only", "has no table"),
        (REMADE, "audit_log.append_only", "was changed"),
        (TOOTHLESS, "audit_log.never_truncated", "was changed"),
    ],
)
def test_a_trigger_that_does_not_do_its_work_is_found(each_db: LedgerDB, damage: str, trigger: str, what: str) -> None:
    each_db.rows(damage)
    check = deep(each_db)["triggers"]
    assert check.state == "critical"
    assert check.detail.startswith(f"{trigger} {what}")


def test_a_function_without_a_pinned_search_path_is_found(each_db: LedgerDB) -> None:
    each_db.rows("ALTER FUNCTION tokenctl.import_lock_v1(text) RESET search_path")
    check = deep(each_db)["functions"]
    assert (check.state, check.values["unpinned"]) == ("critical", ["import_lock_v1"])
    each_db.rows("ALTER FUNCTION tokenctl.import_lock_v1(text) SET search_path = public, pg_catalog")
    assert deep(each_db)["functions"].values["unpinned"] == ["import_lock_v1"]


def test_a_function_that_everybody_may_call_is_found(each_db: LedgerDB) -> None:
    each_db.rows("CREATE FUNCTION tokenctl.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    each_db.rows("GRANT EXECUTE ON FUNCTION tokenctl.may_post(text) TO PUBLIC")
    check = deep(each_db)["functions"]
    assert (check.state, check.values["open_to_all"], check.values["unpinned"]) == ("warning", ["may_post", "mine"], [])


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ("INSERT ON tokenctl.audit_log", "support1 may write audit_log directly"),
        ("UPDATE (balance) ON tokenctl.token_accounts_3", "support1 may write token_accounts_3 directly"),
        ("CREATE ON SCHEMA tokenctl", "support1 may create in the schema tokenctl"),
    ],
)
def test_a_login_that_can_go_past_the_functions_is_found(each_db: LedgerDB, grant: str, words: str) -> None:
    each_db.rows(f"GRANT {grant} TO support1")
    check = deep(each_db)["privileges"]
    assert (check.state, check.detail) == ("warning", words)


def test_a_superuser_and_an_owner_are_found(ledger_db: LedgerDB) -> None:
    assert "postgres is a superuser" in deep(ledger_db, "postgres")["privileges"].detail
    ledger_db.rows("GRANT tokenctl_owner TO support2")
    try:
        assert "support2 is a member of tokenctl_owner" in deep(ledger_db, "support2")["privileges"].detail
    finally:
        ledger_db.rows("REVOKE tokenctl_owner FROM support2")


def test_commits_that_need_not_last_are_found(each_db: LedgerDB) -> None:
    each_db.rows("ALTER ROLE support1 SET synchronous_commit = off")
    try:
        check = deep(each_db)["durability"]
    finally:
        each_db.rows("ALTER ROLE support1 RESET synchronous_commit")
    assert (check.state, check.detail) == ("critical", "synchronous_commit is off")


@pytest.fixture
def servers() -> Iterator[Farm]:
    with farm() as made:
        yield made


def test_a_standby_is_no_place_to_write_and_its_primary_tells_of_it(servers: Farm) -> None:
    """A hot standby, made by pg_basebackup and started by ourselves."""
    primary = servers.server()
    primary.ensure_running(deadline_s=ENOUGH_S)
    source = primary.conninfo()
    folder = servers.folder()
    standby = servers.server(folder / "pg")
    programs = binaries.programs_dir(None)
    (folder / "pg").mkdir(mode=0o700)
    address = psycopg.conninfo.conninfo_to_dict(source)
    backup = ["-h", str(address["host"]), "-p", str(address["port"]), "-U", str(address["user"]), "-c", "fast", "-R"]
    subprocess.run(
        [programs / "pg_basebackup", "-D", folder / "pg" / "data", *backup],
        check=True, capture_output=True, timeout=ENOUGH_S,
    )  # fmt: skip
    try:
        standby.ensure_running(deadline_s=ENOUGH_S)
        with probe(standby.conninfo()) as asked:
            check = rules.database(asked.server())
        assert (check.state, check.values["in_recovery"]) == ("critical", True)
        assert "a standby in recovery" in check.detail
        with probe(source) as asked:
            found = asked.server()
            assert found.row.standbys == 1
            assert not found.row.lag_hidden
            assert "acknowledged commits can be lost on failover" in rules.durability(asked.durability()).detail
    finally:
        standby.stop("immediate", deadline_s=ENOUGH_S)
        primary.stop("immediate", deadline_s=ENOUGH_S)
