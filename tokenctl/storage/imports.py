"""Batches: staging, plan and apply of an import, and of the reversal of many entries.

The control connection keeps a transaction open that holds the batch's advisory
lock: it frees itself when this process dies, and works behind a pooler in
transaction mode. A few worker connections do the rest side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.copy import LibpqWriter
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from tokenctl.errors import TryLater
from tokenctl.models import Batch, BatchStanding, Finding, Plan, Selection
from tokenctl.resilience.retry import KEYED, ONCE, UNDONE
from tokenctl.storage import locks
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.locks import Waits
from tokenctl.storage.queries import query
from tokenctl.storage.sidebyside import SideBySide
from tokenctl.storage.staged import KindTotal, LeftOut, Problem, Staged
from tokenctl.storage.watchdog import Watchdog

#: Rows of a slice: small enough that a single grant beside an import hardly waits. Measured beside two imports, 99 of
#: 100 grants: 0.14 s with 8,000, 0.15 s with these (which import 2 % more quickly), 0.19 s with 16,000.
SLICE_ROWS = 10_500
#: How far the check may run ahead of the server, which takes a block while the next is judged. Waiting for
#: it every 1 MB cost a tenth of the copy, and so did a thread that sends: it waits for the interpreter.
AHEAD_BYTES = 8 * 1024 * 1024
#: How long the server may take, when a batch is closed, to say that its lock is free.
FREE_S = 3.0

# A client whose machine or network is gone says nothing more. By this its server lets go of the
# locks after 25 seconds, and not after two hours; as SET LOCAL no pooler hands it on.
_LET_GO = b"SET LOCAL tcp_keepalives_idle=10; SET LOCAL tcp_keepalives_interval=5; SET LOCAL tcp_keepalives_count=3"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PendingLane:
    """A slice that is still to be posted."""

    part: int
    slice: int
    staged: int


class BatchStore:
    """One batch at work: opened, filled, planned, applied, closed."""

    def __init__(
        self,
        database: Database,
        batch_id: str,
        *,
        request_id: str,
        claimed_by: str,
        wrote: Callable[[], None] = lambda: None,
        record: bool = True,
    ) -> None:
        """Work on `batch_id` in the name of `claimed_by` and `request_id`.

        `wrote` hears when users were posted to; `record` keeps a refusal in the audit log.
        """
        self._database = database
        self._wrote = wrote
        self._record = record
        self._posts = False
        self._batch = batch_id
        self._who = {"request_id": request_id, "claimed_by": claimed_by}
        self._workers = SideBySide(database, self._connect)
        self._control: Connection | None = None
        self._parts = 0

    def close(self) -> None:
        """Close all connections, and so give up the batch's lock."""
        if self._posts:  # whole or in part
            self._posts = False
            self._wrote()
        self._workers.close()
        if self._control is not None:
            self._unlock(self._control)
            self._control = None

    def lock(self, *names: str) -> bool:
        """Take the batch's lock (and that of `names`) until `close`; False when somebody has it."""
        if self._control is None:
            self._control = self._database.connect()
        with self._database.timed("import_lock"), self._database.watched(self._control) as control:
            if control.info.transaction_status == TransactionStatus.IDLE:
                control.execute("BEGIN")
                control.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                control.execute(_LET_GO)
            for name in (self._batch, *names):
                row = control.execute("SELECT tokenctl.import_lock_v1(%s)", (name,)).fetchone()
                if row is None or not row[0]:
                    return False
        return True

    def _unlock(self, control: Connection) -> None:
        """Close, and wait for the lock to be free: a server that only sees a connection's end lets go later."""
        left = self._database.deadline.left()
        dog = Watchdog(control, FREE_S if left is None else min(left, FREE_S))
        try:
            if control.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                with suppress(psycopg.Error):  # the connection is lost: the lock is free, or will be by itself
                    control.execute("ROLLBACK")
        finally:
            dog.stop()
            control.close()

    def holder(self, *names: str) -> str | None:
        """Who has the lock that `lock` did not get: login and program."""
        return self._database.run("lock_holders", lambda c: locks.holder(c, batches=(self._batch, *names)))

    def batch(self, batch_id: str | None = None) -> Batch | None:
        """The batch's row, or None; any other batch by its id."""
        found = self._all(Batch, query("batch"), {"batch": batch_id or self._batch})
        return found[0] if found else None

    def standing(self, batch_id: str | None = None) -> BatchStanding | None:
        """What became of the batch, or None; of any other by its id."""
        values = {"batch": batch_id or self._batch, "standing": None, "rows": 1}
        found = self._all(BatchStanding, query("batches"), values)
        return found[0] if found else None

    def open_import(self, *, file_name: str, sha256: str, size: int, options: dict[str, Any], rows: int) -> str:
        """Make the staging table; answers open, resume, done, reversed or not_allowed."""
        values = {
            "batch": self._batch,
            "file": file_name,
            "sha256": sha256,
            "size": size,
            "options": json.dumps(options),
            "slices": self._slices(rows),
            **self._who,
        }
        return self._open(
            b"SELECT tokenctl.import_open_v1(%(batch)s, %(file)s, %(sha256)s, %(size)s, %(options)s, %(slices)s,"
            b" %(request_id)s, %(claimed_by)s)",
            values,
        )

    def open_reversal(self, chosen: Selection, *, reason: str, note: str | None, ticket: str | None) -> str:
        """Make the staging table of a reversal; answers as reversal_open_v1 does."""
        values = {"id": self._batch, "reason": reason, "note": note, "ticket": ticket, **asdict(chosen), **self._who}
        return self._open(
            b"SELECT tokenctl.reversal_open_v1(%(id)s, %(batch)s, %(operator)s, %(since)s, %(until)s,"
            b" %(reason)s, %(note)s, %(ticket)s, %(request_id)s, %(claimed_by)s)",
            values,
        )

    def _open(self, statement: bytes, values: dict[str, Any]) -> str:
        def opened(connection: Connection) -> str:
            with connection.transaction() as transaction:
                row = connection.execute(statement, values).fetchone()
                outcome = str(row and row[0])
                transaction.force_rollback = not self._record and outcome not in ("open", "resume")
            return outcome

        return self._database.run(_named(statement), opened, ONCE)

    def stage_reversal(self) -> Staged:
        """Stage the compensating entries."""
        parts = self._by_part("reversal_stage_v1", Staged)
        rows = sum(part.staged for part in parts)
        values = {"batch": self._batch, "rows": rows, "slices": self._slices(rows)}
        self._ask("SELECT tokenctl.reversal_staged_v1(%(batch)s, %(rows)s, %(slices)s)", values)
        given_back = next((part.given_back for part in parts if part.given_back is not None), None)
        return Staged(rows, any(part.chosen for part in parts), given_back)

    def copy(self, columns: Sequence[str], blocks: Iterable[bytes]) -> None:
        """COPY blocks of rows (text format, these columns) into the staging table, then seal it."""
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier("tokenctl_staging", f"batch_{self._batch}"),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        connection = self._database.main
        with (
            self._database.timed("import_copy"),
            self._database.watching(connection) as dog,
            connection.transaction(),
            connection.execute(_LET_GO) as cursor,
            cursor.copy(statement, writer=LibpqWriter(cursor, flush_threshold=AHEAD_BYTES)) as copy,
        ):
            for block in blocks:
                copy.write(block)
                dog.extend(self._database.deadline.left())  # a step is 8 MB at most, a file of any size
        self._ask("SELECT tokenctl.import_seal_v1(%(batch)s)", {"batch": self._batch})

    def plan(
        self, *, known_only: bool, drop: Mapping[int, Sequence[Finding]] | None = None, trial: bool = False
    ) -> Plan:
        """Count what would happen, and cut the batch into slices.

        The first call takes out rows that stand twice and are equal, and says how many, so it is not sent again
        when its answer is lost. With `drop`, findings by partition, it takes out their rows and no others; what a
        `trial` does is undone.
        """
        statement = "SELECT * FROM tokenctl.import_plan_v1(%(batch)s, %(part)s, %(known_only)s, %(drop)s)"

        def one(connection: Connection, part: int) -> Plan:
            lines = None if drop is None else [finding.line for finding in drop.get(part, ())]
            undone = connection.transaction(force_rollback=True) if trial else nullcontext()
            with undone, connection.cursor(row_factory=class_row(Plan)) as cursor:
                values = {"batch": self._batch, "part": part, "known_only": known_only, "drop": lines}
                return cursor.execute(statement, values).fetchone() or Plan()

        return sum(self._workers.each("import_plan", one, range(self._partitions()), UNDONE), Plan())

    def findings(self, *, known_only: bool) -> dict[int, list[Finding]]:
        """Rows that must not be posted, by partition."""
        statement = "SELECT * FROM tokenctl.import_findings_v1(%(batch)s, %(part)s, %(known_only)s)"

        def one(connection: Connection, part: int) -> list[Finding]:
            with connection.cursor(row_factory=class_row(Finding)) as cursor:
                return cursor.execute(
                    statement, {"batch": self._batch, "part": part, "known_only": known_only}
                ).fetchall()

        return dict(enumerate(self._side_by_side("import_findings", one, range(self._partitions()))))

    def totals(self) -> list[KindTotal]:
        """What a staged reversal comes to, by kind and partition."""
        return self._by_part("reversal_totals_v1", KindTotal)

    def leave_out(self) -> list[LeftOut]:
        """Leave out of a planned reversal what cannot be reversed now, for good; answers whose entries."""
        return sorted(self._by_part("reversal_leave_out_v1", LeftOut), key=lambda one: one.user_id)

    def problems(self) -> dict[str, int]:
        """How many rows could not be posted, by what was found when it was tried."""
        found = self._all(Problem, query("lane_problems"), {"batch": self._batch})
        return {problem.problem: problem.rows for problem in found}

    def pending(self) -> list[PendingLane]:
        """Slices that are still to be posted."""
        return self._all(PendingLane, query("pending_lanes"), {"batch": self._batch})

    def begin(self, asked: Mapping[str, Any]) -> None:
        """From here on the batch is finished by whoever runs the same command; `asked` are its further options."""
        self._posts = True
        values = {"batch": self._batch, "asked": json.dumps(asked)}
        self._ask("SELECT tokenctl.import_begin_v1(%(batch)s, %(asked)s)", values)

    def begin_reversal(self, total: int) -> None:
        """The same for a reversal of `total` tokens, which were confirmed."""
        self._posts = True
        self._ask("SELECT tokenctl.reversal_begin_v1(%(batch)s, %(total)s)", {"batch": self._batch, "total": total})

    def apply(self, lanes: Sequence[PendingLane], *, progress: Callable[[int], None]) -> None:
        """Post slices side by side, each its own transaction; `progress` hears of rows done."""
        waits = Waits()

        def one(connection: Connection, lane: PendingLane) -> None:
            with waits.noting(connection, part=lane.part):
                self._post(connection, lane)
            progress(lane.staged)

        with waits.telling():
            self._side_by_side("import_apply", one, lanes)

    def apply_atomically(self, lanes: Sequence[PendingLane], *, progress: Callable[[int], None]) -> None:
        """Post all slices in one transaction: all or nothing, for the price of longer locks."""
        connection = self._database.main
        with self._database.timed("import_apply_atomic"), self._database.watched(connection), connection.transaction():
            # Partition by partition: two of these that lock partitions in one order can't deadlock.
            for lane in sorted(lanes, key=lambda lane: (lane.part, lane.slice)):
                self._post(connection, lane)
                progress(lane.staged)

    def lane_findings(self) -> list[Finding]:
        """Rows that could not be posted, found when it was tried; at most a hundred."""
        return self._all(Finding, query("lane_findings"), {"batch": self._batch})

    def finish(self, *, rows_read: int | None, rejected: int, duplicate: int) -> Batch:
        """Drop the staging; the batch is done. Raises TryLater when somebody took slices away meanwhile."""
        batch = self._close(rows=rows_read, rejected=rejected, duplicate=duplicate)
        if batch.state != "done":
            raise TryLater(f"batch {self._batch} is not finished", hint="run the same command again")
        return batch

    def give_up(self) -> None:
        """Drop the staging; a batch that had not begun is forgotten, any other waits to be finished."""
        self._close(rows=None, rejected=None, duplicate=None)

    def _close(self, **values: int | None) -> Batch:
        statement = b"SELECT (b).* FROM tokenctl.import_close_v1(%(batch)s, %(rows)s, %(rejected)s, %(duplicate)s) AS b"
        return self._all(Batch, statement, {"batch": self._batch, **values})[0]

    def reversals(self, chosen: Selection) -> list[Batch]:
        """The reversals that there have been of that, the oldest first."""
        return self._all(Batch, query("reversals_of"), asdict(chosen))

    def _slices(self, rows: int) -> int:
        return max(1, -(-rows // (SLICE_ROWS * self._partitions())))

    def _partitions(self) -> int:
        if not self._parts:
            self._parts = int(self._ask("SELECT tokenctl.partition_count()", {})[0])
        return self._parts

    def _all(self, kind: type[R], statement: bytes, values: dict[str, Any]) -> list[R]:
        def rows(connection: Connection) -> list[R]:
            with connection.cursor(row_factory=class_row(kind)) as cursor:
                return cursor.execute(statement, values).fetchall()

        return self._database.run(_named(statement), rows, ONCE)

    def _by_part(self, function: str, kind: type[R]) -> list[R]:
        """The rows that a function of batch and partition answers for all partitions."""
        statement = f"SELECT * FROM tokenctl.{function}(%(batch)s, %(part)s)".encode()  # noqa: S608 — a name of ours

        def one(connection: Connection, part: int) -> list[R]:
            with connection.cursor(row_factory=class_row(kind)) as cursor:
                return cursor.execute(statement, {"batch": self._batch, "part": part}).fetchall()

        found = self._side_by_side(_named(statement), one, range(self._partitions()))
        return [row for rows in found for row in rows]

    def _ask(self, statement: str, values: dict[str, Any]) -> tuple[Any, ...]:
        sent = statement.encode()
        row = self._database.run(_named(sent), lambda c: c.execute(sent, values).fetchone(), ONCE)
        assert row is not None  # noqa: S101 — a function call has one row
        return row

    def _post(self, connection: Connection, lane: PendingLane) -> None:
        statement = "SELECT tokenctl.import_apply_v1(%s, %s, %s, %s, %s)"
        connection.execute(
            statement, (self._batch, lane.part, lane.slice, self._who["request_id"], self._who["claimed_by"])
        )

    def _side_by_side(self, operation: str, work: Callable[[Connection, T], R], items: Iterable[T]) -> list[R]:
        """Do `work` on every item; a slice that was posted is `done`, so sending it again posts nothing twice."""
        return self._workers.each(operation, work, items, KEYED)

    def _connect(self) -> Connection:
        """A worker's connection; not when the batch's lock is lost, which somebody may have by now."""
        if self._control is not None:
            with self._database.timed("alive"), self._database.watched(self._control) as control:
                control.execute("SELECT 1")
        return self._database.connect()


def _named(statement: bytes) -> str:
    """What metrics call a statement: its function, or the first table that it reads."""
    found = re.search(rb"tokenctl\.(\w+?)(?:_v\d+)?\b", statement)
    return found[1].decode() if found else "query"
