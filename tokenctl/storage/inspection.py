"""What `verify` asks of the database: one snapshot, one statement a partition, and the seals.

Every connection works in the snapshot that the first one took and exported. So what is
counted in one partition agrees with what is counted in another, and what is sealed at the
end is exactly what was looked at, however much is written meanwhile. The statements come
from sql/queries/ and call nothing of the ledger's own schema: whoever changed its rows
may have changed its functions too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from psycopg import errors, sql
from psycopg.rows import class_row

from tokenctl.errors import Fault, LockHeld, NotAllowed, OutcomeUnknown, TokenctlError
from tokenctl.resilience.retry import ONCE, READ
from tokenctl.storage import failures
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.health import BadTrigger
from tokenctl.storage.queries import query
from tokenctl.storage.seals import Link, Seal
from tokenctl.storage.sidebyside import SideBySide

#: A seal number that is never reached.
ALL_SEALS = 2**63 - 1
TABLES = {
    "accounts": "token_accounts",
    "entries": "token_transactions",
    "holds": "token_holds",
    "ranges": "sealed_ranges",
}

# A failed statement ends its transaction, and with it the snapshot: only a new connection can go on.
_AGAIN = {**ONCE, Fault.LOST: READ[Fault.LOST]}
# row_security: a policy that hides rows from us becomes an error. jit: compiling costs more than it gains here.
_SETTINGS = """
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL row_security = off;
SET LOCAL jit = off;
SET LOCAL work_mem = '64MB';
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO, MDY';
SET LOCAL idle_in_transaction_session_timeout = 0;
"""

# A moment that Python has no word for, somebody must have written by hand.
_SEAL = """
SELECT seal_no, head, users, entries, tokens,
  CASE WHEN sealed_at BETWEEN '0001-01-02Z' AND '9999-12-30Z' THEN sealed_at END, operator FROM
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """Whose rows are looked at: one user's, those of users with entries since the last seal, or everybody's."""

    user: str | None = None
    since_last: bool = False

    @property
    def name(self) -> str:
        """user, since-last or all."""
        return "user" if self.user is not None else "since-last" if self.since_last else "all"


@dataclass(frozen=True)
class Found:
    """What a statement found: how often by rule, and the first hundred in detail."""

    counts: dict[str, int] | None
    findings: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Looked(Found):
    """sql/queries/verify_ledger.sql: also what was looked at. `funds` are the entries' tokens by kind."""

    users: int
    entries: int
    balances: Decimal
    funds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """sql/queries/verify_parts.sql: one partition of the table `root`."""

    root: str
    name: str
    modulus: int
    remainder: int


class Inspection:
    """One look at the whole ledger; sees nothing that is committed after `open`."""

    def __init__(self, database: Database, *, request_id: str, claimed_by: str) -> None:
        """Seal, if that is asked for, in the name of `claimed_by` and `request_id`."""
        self._database = database
        self._who = {"request_id": request_id, "claimed_by": claimed_by}
        self._control: Connection | None = None
        self._snapshot = ""
        self._workers = SideBySide(database, self._connect)

    def close(self) -> None:
        """Let go of the snapshot, and of the lock of whoever seals."""
        self._workers.close()
        if self._control is not None:
            self._control.close()
            self._control = None

    def open(self, *, sealing: bool) -> None:
        """Take the snapshot; with `sealing` also the sealers' lock. Raises LockHeld when somebody else has it."""
        self._control = self._database.run("connect", lambda c: c, ONCE, connection=self._database.connect)
        with self._database.timed("snapshot"), self._database.watched(self._control) as control:
            control.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" + ("" if sealing else " READ ONLY"))
            control.execute(_SETTINGS)
            [(self._snapshot,)] = control.execute("SELECT pg_export_snapshot()").fetchall()
        if sealing:
            self._lock()

    def _lock(self) -> None:
        try:
            [(locked,)] = self._ask("seal_lock", "SELECT tokenctl.seal_lock_v1()")
        except NotAllowed as error:
            raise NotAllowed("only tokenctl_admin may seal", hint="without --seal, tokenctl_reader will do") from error
        if not locked:
            raise LockHeld("somebody else is sealing this ledger", hint="try again when that is done")

    def knows(self, user: str) -> bool:
        """Whether anything in the ledger is about `user`, an account or not."""
        looks = [
            sql.SQL("EXISTS (SELECT FROM {} WHERE user_id = {})").format(sql.Identifier("tokenctl", table), user)
            for table in TABLES.values()
        ]
        [(known,)] = self._ask("verify_user", sql.SQL("SELECT ") + sql.SQL(" OR ").join(looks))
        return bool(known)

    def partitions(self) -> list[Partition]:
        """The partitions that there are."""
        return [Partition(*row) for row in self._ask("verify_parts", query("verify_parts"))]

    def ledger(self, scope: Scope, parts: Sequence[int], done: Callable[[int], None]) -> list[Looked]:
        """Every rule that the rows of a user must keep; `done` hears of partitions."""
        return self._each("verify_ledger", Looked, scope, parts, done)

    def forms(self, scope: Scope, parts: Sequence[int], done: Callable[[int], None]) -> list[Found]:
        """The form of every entry."""
        return self._each("verify_forms", Found, scope, parts, done)

    def ranges(self, scope: Scope, up_to: int, parts: Sequence[int], done: Callable[[int], None]) -> list[Found]:
        """The hash of every sealed range, up to and with the seal `up_to`."""
        return self._each("verify_ranges", Found, scope, parts, done, up_to=sql.Literal(up_to))

    def batches(self) -> Found:
        """Imports against their slices."""
        [row] = self._ask("verify_batches", query("verify_batches"))
        return Found(*row)

    def generations(self, user: str | None) -> Found:
        """Paid jobs against their holds; of one user or all."""
        [row] = self._ask("verify_generations", query("verify_generations"), {"account": user})
        return Found(*row)

    def triggers(self) -> list[BadTrigger]:
        """Append-only triggers that don't do their work."""
        return [BadTrigger(*row) for row in self._ask("verify_triggers", query("health_triggers"))]

    def links(self, up_to: int) -> list[Link]:
        """The chain of seals up to and with `up_to`, the oldest first."""
        return [Link(*row) for row in self._ask("verify_seals", query("verify_seals"), {"up_to": up_to})]

    def seal_of(self, head: str) -> int | None:
        """The number of the seal that says it has this head."""
        found = self._ask("verify_head", "SELECT seal_no FROM tokenctl.seals WHERE head = %(head)s", {"head": head})
        return found[0][0] if found else None

    def last_seal(self) -> Seal | None:
        """The newest seal."""
        found = self._ask("last_seal", f"{_SEAL} tokenctl.seals ORDER BY seal_no DESC LIMIT 1")
        return Seal(*found[0]) if found else None

    def seal(self) -> Seal | None:
        """Seal the snapshot; the newest seal afterwards. Ends the inspection."""
        [row] = self._ask("seal", f"{_SEAL} tokenctl.seal_v1(%(request_id)s, %(claimed_by)s)", self._who)
        try:
            self._on_control("seal_commit", lambda control: control.execute("COMMIT"))
        except TokenctlError as error:
            raise OutcomeUnknown(
                "the connection was lost while sealing; whether the seal was committed is unknown",
                hint="run the same command again: it seals what is not sealed, and prints the head",
            ) from error
        return Seal(*row) if row[0] is not None else None

    def _each(
        self,
        name: str,
        kind: type[T],
        scope: Scope,
        parts: Sequence[int],
        done: Callable[[int], None],
        **more: sql.Composable,
    ) -> list[T]:
        """The one row of a named query for every partition, or for a single user from the tables themselves."""
        text = sql.SQL(query(name).decode())

        def one(connection: Connection, part: int) -> T:
            statement = text.format(**_tables(scope, part), **_conditions(scope), part=sql.Literal(part), **more)
            with connection.cursor(row_factory=class_row(kind)) as cursor:
                row = cursor.execute(statement).fetchone()
            assert row is not None  # noqa: S101 — a SELECT without FROM has one row
            done(1)
            return row

        return self._workers.each(name, one, parts if scope.user is None else [0], _AGAIN)

    def _connect(self) -> Connection:
        """A worker's connection in our snapshot, which lasts as long as the first connection."""
        self._on_control("alive", lambda control: control.execute("SELECT 1"))
        connection = self._database.connect()
        try:
            with self._database.timed("snapshot"), self._database.watched(connection):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self._snapshot))
                except (errors.UndefinedObject, errors.InvalidParameterValue) as error:  # the latter up to 16
                    raise failures.cut_off() from error  # the first connection, a moment ago
                connection.execute(_SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, operation: str, statement: str | bytes | sql.Composed, values: dict[str, Any] | None = None) -> Any:
        sent = statement.encode() if isinstance(statement, str) else statement
        return self._on_control(operation, lambda control: control.execute(sent, values).fetchall())

    def _on_control(self, operation: str, work: Callable[[Connection], T]) -> T:
        assert self._control is not None, "open comes first"  # noqa: S101 — a mistake of ours
        with self._database.timed(operation), self._database.watched(self._control) as control:
            return work(control)


def _tables(scope: Scope, part: int) -> dict[str, sql.Composable]:
    suffix = f"_{part}" if scope.user is None else ""
    return {word: sql.Identifier("tokenctl", table + suffix) for word, table in TABLES.items()}


def _conditions(scope: Scope) -> dict[str, sql.Composable]:
    if scope.user is not None:
        mine: sql.Composable = sql.SQL("user_id = {}").format(scope.user)
        return {"only": mine, "mine": sql.SQL("a.") + mine, "whole": sql.SQL("false")}
    changed = sql.SQL("user_id IN (SELECT c.user_id FROM changed c)")
    return {
        "only": changed if scope.since_last else sql.SQL("true"),
        "mine": sql.SQL("true"),
        "whole": sql.Literal(not scope.since_last),
    }
