"""What a role can do in plain psql: nothing but what the functions allow."""

from __future__ import annotations

import psycopg
import pytest

from tests.batch_driver import Client, Row
from tests.pg import LedgerDB, post, reverse

FORBIDDEN = {
    "update a balance": "UPDATE tokenctl.token_accounts SET balance = 1000000",
    "update a balance in its partition": "UPDATE tokenctl.token_accounts_0 SET balance = 1000000",
    "make an account": "INSERT INTO tokenctl.token_accounts (user_id, balance) VALUES ('forged', 5)",
    "delete an account": "DELETE FROM tokenctl.token_accounts",
    "insert a transaction": "INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at,"
    " kind, reason, operator, claimed_by, request_id, idempotency_key)"
    " VALUES ('u1', 2, 5, 15, now(), 'bonus', 'x', 'x', 'x', 'x', 'x')",
    "update a transaction": "UPDATE tokenctl.token_transactions SET amount = 1",
    "delete a transaction": "DELETE FROM tokenctl.token_transactions",
    "truncate transactions": "TRUNCATE tokenctl.token_transactions",
    "truncate a partition": "TRUNCATE tokenctl.token_transactions_0",
    "release a hold": "UPDATE tokenctl.token_holds SET state = 'released'",
    "make a hold": "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, expires_at, purpose, idempotency_key,"
    " operator, claimed_by, request_id) VALUES ('u1', 'h', 1, now(), 'x', 'x', 'x', 'x', 'x')",
    "forge a batch": "INSERT INTO tokenctl.import_batches (batch_id, kind, slices, operator, claimed_by, request_id)"
    " VALUES ('aaaaaaaaaaaa', 'import', 1, 'x', 'x', 'x')",
    "finish a batch": "UPDATE tokenctl.import_batches SET state = 'done'",
    "skip a slice": "DELETE FROM tokenctl.import_lanes",
    "write the audit log": "INSERT INTO tokenctl.audit_log (operator, claimed_by, request_id, action, outcome)"
    " VALUES ('x', 'x', 'x', 'x', 'x')",
    "clear the audit log": "DELETE FROM tokenctl.audit_log",
    "disable a trigger": "ALTER TABLE tokenctl.token_transactions DISABLE TRIGGER append_only",
    "drop a trigger": "DROP TRIGGER append_only ON tokenctl.token_transactions",
    "drop a table": "DROP TABLE tokenctl.token_transactions",
    "drop a constraint": "ALTER TABLE tokenctl.token_accounts DROP CONSTRAINT balance_range",
    "create in the schema": "CREATE TABLE tokenctl.mine (x int)",
    "create a function in the schema": "CREATE FUNCTION tokenctl.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "create in the staging schema": "CREATE TABLE tokenctl_staging.mine (x int)",
    "replace a function": "CREATE OR REPLACE FUNCTION tokenctl.held_tokens(p_user_id text) RETURNS bigint"
    " LANGUAGE sql AS 'SELECT 0::bigint'",
    "become the owner": "SET ROLE tokenctl_owner",
    "turn triggers off": "SET session_replication_role = replica",
    "post past the checks": "SELECT tokenctl.post_one('u1', 'adjustment', 5, 'x', NULL, NULL, NULL, 'k', NULL, 'r',"
    " 'c', true)",
    "post a set": "SELECT tokenctl.post_set(0, '(SELECT)', 'SELECT', 'true', 0, false, 'b', 'r', 'c')",
    "write an audit row": "SELECT tokenctl.audit('c', 'r', 'a', 'o', 's', '{}')",
    "reap": "SELECT tokenctl.import_reap()",
    "run a program": "COPY tokenctl.token_accounts TO PROGRAM 'cat'",
    "read the audit log": "SELECT * FROM tokenctl.audit_log",
}


@pytest.mark.parametrize("login", ["reader1", "support1", "batch1"])
def test_what_a_role_must_not_do(ledger_db: LedgerDB, login: str, subtests: pytest.Subtests) -> None:
    post(ledger_db.connect("support1"))
    connection = ledger_db.connect(login)
    for what, statement in FORBIDDEN.items():
        with subtests.test(what), pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    ledger_db.check()


def test_a_reader_reads_and_cannot_post(each_db: LedgerDB) -> None:
    post(each_db.connect("support1"))
    reader = each_db.connect("reader1")
    assert reader.execute("SELECT balance FROM tokenctl.token_accounts").fetchall() == [(10,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        post(reader)


def test_a_stranger_sees_nothing(ledger_db: LedgerDB) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ledger_db.connect("stranger").execute("SELECT * FROM tokenctl.token_accounts")


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_not_even_a_superuser_edits_history_in_passing(ledger_db: LedgerDB, role: str) -> None:
    post(ledger_db.connect("support1"))
    post(ledger_db.connect("support1"), kind="adjustment")  # one row for the audit log
    owner = ledger_db.connect("postgres")
    owner.execute(f"SET session_replication_role = {role}".encode())
    for table in ("token_transactions", "audit_log"):
        for change in ("UPDATE tokenctl.{} SET operator = 'x'", "DELETE FROM tokenctl.{}", "TRUNCATE tokenctl.{}"):
            with pytest.raises(psycopg.errors.RestrictViolation, match="append only"):
                owner.execute(change.format(table).encode())


def test_truncate_is_refused_on_every_partition(each_db: LedgerDB) -> None:
    owner = each_db.connect("postgres")
    for n in range(4):
        for table in ("token_transactions", "token_accounts"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                owner.execute(f"TRUNCATE tokenctl.{table}_{n}".encode())


def test_every_append_only_trigger_fires_always(each_db: LedgerDB) -> None:
    modes = each_db.rows(
        "SELECT count(*), min(tgenabled::text), max(tgenabled::text)"
        " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'tokenctl'::regnamespace"
        " AND tgname IN ('append_only', 'never_deleted', 'never_truncated')"
    )
    # transactions, accounts, holds, generations, sealed ranges: 5 tables x 2 each; audit log, seals: 2 each
    assert modes == [(54, "A", "A")]


def test_every_definer_function_pins_its_search_path(each_db: LedgerDB) -> None:
    loose = each_db.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'tokenctl'::regnamespace AND prokind = 'f'"
        " AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']"
    )
    assert loose == []


def test_no_function_is_open_to_everybody(each_db: LedgerDB) -> None:
    open_to_all = each_db.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'tokenctl'::regnamespace"
        " AND has_function_privilege('stranger', oid, 'EXECUTE')"
    )
    assert open_to_all == []


def test_a_shadowing_table_does_not_mislead_a_definer_function(ledger_db: LedgerDB) -> None:
    ledger_db.rows("GRANT TEMPORARY ON DATABASE " + ledger_db.name + " TO PUBLIC")
    support = ledger_db.connect("support1")
    support.execute("CREATE TEMPORARY TABLE token_accounts (user_id text, balance bigint, last_seq bigint)")
    support.execute("CREATE TEMPORARY TABLE pg_roles (rolname text)")
    support.execute("SET search_path = pg_temp, tokenctl")
    assert post(support)["outcome"] == "applied"
    ledger_db.check()


_TRAPS = """
CREATE SCHEMA trap;
CREATE TABLE trap.fallen (what text);
CREATE FUNCTION trap.fell(what text) RETURNS void LANGUAGE plpgsql AS
  'BEGIN IF current_user = ''tokenctl_owner'' THEN ALTER TABLE tokenctl.token_transactions DISABLE TRIGGER append_only;
   INSERT INTO trap.fallen VALUES (what); END IF; END';
CREATE FUNCTION trap.held_tokens(text) RETURNS bigint LANGUAGE sql
  AS 'SELECT trap.fell(''held_tokens''); SELECT 0::bigint';
CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE sql
  AS 'SELECT trap.fell(''clock_timestamp''); SELECT pg_catalog.now()';
CREATE FUNCTION trap.coalesced(bigint, bigint) RETURNS bigint LANGUAGE sql
  AS 'SELECT trap.fell(''plus''); SELECT 0::bigint';
CREATE OPERATOR trap.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.coalesced);
CREATE FUNCTION trap.same(text, text) RETURNS boolean LANGUAGE sql
  AS 'SELECT trap.fell(''equals''); SELECT true';
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.same);
CREATE FUNCTION trap.pg_has_role(name, text, text) RETURNS boolean LANGUAGE sql
  AS 'SELECT trap.fell(''role''); SELECT true';
CREATE FUNCTION trap.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql
  AS 'SELECT trap.fell(''format''); SELECT ''''';
GRANT USAGE ON SCHEMA trap TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA trap TO PUBLIC;
"""


def test_functions_of_the_owner_run_nothing_that_a_caller_brings(ledger_db: LedgerDB) -> None:
    """The classic exploit: operators and functions of one's own, ahead in the search path of who calls."""
    post(ledger_db.connect("support1"), "u1", 10)
    ledger_db.rows(_TRAPS)
    # What falls into it when its path is not pinned, to show that the trap is one.
    ledger_db.rows(
        "CREATE FUNCTION public.loose() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN RETURN 1::bigint + 1::bigint; END'; ALTER FUNCTION public.loose() OWNER TO tokenctl_owner"
    )
    fallen = "SELECT DISTINCT what FROM trap.fallen"
    batch = Client(ledger_db)
    support = ledger_db.connect("support1")
    for connection in (support, batch.connection):
        connection.execute("SET search_path = trap, tokenctl, pg_catalog")
    assert post(support, "u1", 5, key="k2")["outcome"] == "applied"
    assert reverse(support, "u1", 1)["outcome"] == "applied"
    batch.run([Row("u1", 1, "k3"), Row("u2", 2, "k4")])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        support.execute("SELECT tokenctl.seal_v1('r', 'c')")
    assert ledger_db.rows(fallen) == []
    support.execute("SELECT public.loose()")
    assert ledger_db.rows(fallen) == [("plus",)]
    ledger_db.rows("ALTER TABLE tokenctl.token_transactions ENABLE ALWAYS TRIGGER append_only")
    ledger_db.check()
