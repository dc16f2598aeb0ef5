"""A ledger with everything in it, somebody who owns its tables and breaks it, and verify on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tests.batch_driver import Client, Row
from tests.pg import LedgerDB, hold, post, reverse
from tokenctl.resilience.deadline import Deadline
from tokenctl.services import verify
from tokenctl.services.verify import Asked, Report
from tokenctl.storage.database import Database
from tokenctl.storage.inspection import Inspection, Scope
from tokenctl.storage.ledger import Ledger
from tokenctl.telemetry.metrics import Metrics

_TRIGGERS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = 'tokenctl'::regnamespace
"""

#: Entries of the ledger that `fill` makes, and their users.
ENTRIES, USERS = 20, 7
IMPORT = "aaaaaaaaaaaa"


def fill(db: LedgerDB) -> None:
    """Grants, reversals, holds, a captured one, an import and half of its reversal."""
    support = db.connect("support1")
    for user, amounts in {"u1": (10, 20, 30, 40, 50), "u2": (100, 7), "u3": (5,), "u4": (3, 3, 3)}.items():
        for n, amount in enumerate(amounts, 1):
            post(support, user, amount, key=f"k{n}", note="Grüße 😀" if n == 1 else None, ticket=f"T-{n}")
    post(support, "u4", 4, campaign="spring")
    reverse(support, "u2", 1)
    reverse(support, "u2", 3, key="again")
    db.rows(
        "INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at, kind, reason,"
        " operator, claimed_by, request_id, idempotency_key)"
        " VALUES ('u1', 6, -25, 125, clock_timestamp(), 'generation', 'image', 'batch1', 'job', 'r', 'capture')"
    )
    db.rows("UPDATE tokenctl.token_accounts SET balance = 125, last_seq = 6 WHERE user_id = 'u1'")
    hold(db, "u1", 60, hold_id="open")
    hold(db, "u1", 9999, hold_id="late", seconds=-5)
    hold(db, "u2", 9999, hold_id="released", state="released")
    db.rows(
        "INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, state, expires_at, purpose, idempotency_key,"
        " operator, claimed_by, request_id, captured_seq, settled_at)"
        " VALUES ('u1', 'done', 30, 'captured', now(), 'image', 'done', 'x', 'x', 'x', 6, clock_timestamp())"
    )
    rows = [
        Row("u4", 9, "i1"),
        Row("v1", 1, "i1"),
        Row("v1", 2, "i2"),
        Row("v2", 4, "i1"),
        Row("v3", 8, "i1", note="x y"),
    ]
    Client(db, batch=IMPORT, slices=2).run(rows)


@contextlib.contextmanager
def unguarded(db: LedgerDB) -> Iterator[None]:
    """Let the owner of the tables change what triggers refuse; they are as before afterwards."""
    # At once: these are dozens, and each would have a connection of its own.
    triggers = db.rows(_TRIGGERS)
    db.rows(";".join(f"ALTER TABLE tokenctl.{table} DISABLE TRIGGER {name}" for table, name in triggers))
    yield
    db.rows(";".join(f"ALTER TABLE tokenctl.{table} ENABLE ALWAYS TRIGGER {name}" for table, name in triggers))


def vandalize(db: LedgerDB, *statements: str) -> None:
    """Run statements past the triggers; @T, @A and @H are the tables of entries, accounts and holds."""
    with unguarded(db):
        for statement in statements:
            db.rows(told(statement))


def told(statement: str) -> str:
    """The statement with the tables' names."""
    for short, table in (("@T", "token_transactions"), ("@A", "token_accounts"), ("@H", "token_holds")):
        statement = statement.replace(short, f"tokenctl.{table}")
    return statement


@contextlib.contextmanager
def inspecting(
    db: LedgerDB, user: str = "reader1", seconds: float | None = None
) -> Iterator[tuple[Inspection, Ledger]]:
    """An inspection by a login, and that login's ledger."""
    database = Database(db.conninfo(user), application_name="verify", deadline=Deadline(seconds))
    inspection = Inspection(database, request_id="r1", claimed_by="me@here")
    try:
        yield inspection, Ledger(database, request_id="r1", claimed_by="me@here")
    finally:
        inspection.close()
        database.close()


def look(
    db: LedgerDB,
    *,
    user: str | None = None,
    since_last: bool = False,
    deep: bool = False,
    seal: bool = False,
    head: str | None = None,
    login: str = "",
    heard: Callable[[int], None] = lambda _done: None,
) -> Report:
    """Run verify; `heard` is called for every partition that was looked at."""

    @contextlib.contextmanager
    def progress(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield heard

    asked = Asked(Scope(user, since_last), deep, seal, head)
    with inspecting(db, login or ("admin1" if seal else "reader1")) as (inspection, ledger):
        return verify.run(inspection, ledger, asked, ledger_name="test", progress=progress, metrics=Metrics(None))


def named(report: Report) -> set[tuple[str, str]]:
    """Rule and name of every finding."""
    return {(flaw.rule, flaw.name) for flaw in report.flaws}


def seal(db: LedgerDB) -> str:
    """Seal the ledger, which must be whole; the head."""
    report = look(db, seal=True)
    assert named(report) == set()
    assert report.seal is not None
    return report.seal.head
