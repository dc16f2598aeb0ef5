"""A tiny client of the batch functions: lock, open, COPY, seal, plan, begin, apply, close.

It does in SQL what tokenctl.storage.imports does, step by step, so that a test can stop,
repeat or forge any step. Every connection is a login of its own role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.pg import Connection, LedgerDB, call
from tests.waiting import until

COLUMNS = ("line", "user_id", "amount", "kind", "reason", "note", "ticket", "idempotency_key")


@dataclass(frozen=True)
class Row:
    """One row of a grant file."""

    user: str
    amount: int
    key: str
    reason: str = "promo"
    kind: str = "bonus"
    note: str | None = None
    ticket: str | None = None


@dataclass
class Client:
    """One client at work on one batch."""

    db: LedgerDB
    login: str = "batch1"
    batch: str = "aaaaaaaaaaaa"
    slices: int = 1
    campaign: str | None = None
    connection: Connection = field(init=False)
    control: Connection | None = field(init=False, default=None)
    is_reversal: bool = False
    request: str | None = None

    @property
    def request_id(self) -> str:
        """The name of this run."""
        return self.request or f"r-{self.login}"

    def __post_init__(self) -> None:
        """Connect; nothing is locked yet."""
        self.connection = self.db.connect(self.login)

    def lock(self, *names: str) -> bool:
        """Take the lock of the batch, and of others, until `die` or the end of the test."""
        if self.control is None:
            self.control = self.db.connect(self.login)
            self.control.execute("BEGIN")
        return all(
            self.control.execute("SELECT tokenctl.import_lock_v1(%s)", (name,)).fetchone() == (True,)
            for name in (self.batch, *names)
        )

    def open(self) -> str:
        """Lock and open; the answer."""
        until(self.lock, f"the lock of batch {self.batch} is free")
        return self.open_unlocked()

    def open_unlocked(self) -> str:
        """Open without the lock that is due."""
        sha = hashlib.sha256(self.batch.encode()).hexdigest()
        options = f'{{"campaign": "{self.campaign}"}}' if self.campaign else "{}"
        return str(
            self.value("import_open_v1", self.batch, "f.csv", sha, 100, options, self.slices, self.request_id, "me")
        )

    def open_reversal(self, reverses: str, reason: str = "mistake") -> str:
        """Lock and open as the reversal of a batch; the answer."""
        self.is_reversal = True
        until(lambda: self.lock(reverses), f"the locks of {self.batch} and {reverses} are free")
        opened = self.value(
            "reversal_open_v1", self.batch, reverses, None, None, None, reason, "a note", "T-9", self.request_id, "me"
        )
        if opened in ("open", "resume"):
            self.stage_reversal()
        return str(opened)

    def stage_reversal(self) -> int:
        """Stage all partitions; how many entries."""
        rows = sum(
            int(
                call(
                    self.connection, "SELECT * FROM tokenctl.reversal_stage_v1(%(b)s, %(p)s)", {"b": self.batch, "p": p}
                )["staged"]
            )
            for p in range(4)
        )
        self.value("reversal_staged_v1", self.batch, rows, self.slices)
        return rows

    def copy(self, rows: Iterable[Row]) -> None:
        """COPY rows as the lines 2, 3, 4 … of a file, header first."""
        statement = f'COPY tokenctl_staging."batch_{self.batch}" ({", ".join(COLUMNS)}) FROM STDIN'
        with self.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for line, r in enumerate(rows, start=2):
                copy.write_row((line, r.user, r.amount, r.kind, r.reason, r.note, r.ticket, r.key))

    def seal(self) -> None:
        """Take no more rows."""
        self.value("import_seal_v1", self.batch)

    def plan(self, *, known_only: bool = False, drop: list[int] | None = None) -> dict[str, int]:
        """Plan all partitions, without the lines in `drop`; the sums of the counts."""
        total: dict[str, int] = {}
        for part in range(4):
            values = {"b": self.batch, "p": part, "k": known_only, "d": drop}
            found = call(self.connection, "SELECT * FROM tokenctl.import_plan_v1(%(b)s, %(p)s, %(k)s, %(d)s)", values)
            for name, count in found.items():
                if not name.startswith("largest"):
                    total[name] = total.get(name, 0) + count
        return total

    def findings(self, *, known_only: bool = False) -> list[tuple[int, str]]:
        """Line and problem of the rows that must not be posted."""
        return sorted(
            (int(row[0]), str(row[1]))
            for part in range(4)
            for row in self.connection.execute(
                "SELECT line, problem FROM tokenctl.import_findings_v1(%s, %s, %s)", (self.batch, part, known_only)
            )
        )

    def leave_out(self) -> dict[str, tuple[Any, ...]]:
        """User: problem, tokens wanted and available, balance; entries left out, tokens that they take and give."""
        return {
            row[0]: row[1:]
            for part in range(4)
            for row in self.connection.execute(
                "SELECT * FROM tokenctl.reversal_leave_out_v1(%s, %s)", (self.batch, part)
            )
        }

    def begin(self) -> None:
        """From here on the batch will be finished; a reversal with any total."""
        if self.is_reversal:
            self.value("reversal_begin_v1", self.batch, 0)
        else:
            self.value("import_begin_v1", self.batch, "{}")

    def lanes(self, state: str = "pending") -> list[tuple[int, int]]:
        """Partition and slice of the lanes in that state, in the order of work."""
        return [
            (row[0], row[1])
            for row in self.connection.execute(
                "SELECT part, slice FROM tokenctl.import_lanes WHERE batch_id = %s AND state = %s ORDER BY slice, part",
                (self.batch, state),
            )
        ]

    def apply(self, lanes: Iterable[tuple[int, int]] | None = None, connection: Connection | None = None) -> None:
        """Post lanes, all that are pending when none are named."""
        for part, slice_ in self.lanes() if lanes is None else lanes:
            (connection or self.connection).execute(
                "SELECT tokenctl.import_apply_v1(%s, %s, %s, %s, %s)",
                (self.batch, part, slice_, self.request_id, "me"),
            )

    def close(self, rows: int | None = None, rejected: int | None = 0, duplicate: int = 0) -> dict[str, Any]:
        """Close; `rejected` None gives up."""
        return call(
            self.connection,
            "SELECT (b).* FROM tokenctl.import_close_v1(%(b)s, %(rows)s, %(rejected)s, %(duplicate)s) AS b",
            {"b": self.batch, "rows": rows, "rejected": rejected, "duplicate": duplicate},
        )

    def stage(self, rows: Iterable[Row]) -> dict[str, int]:
        """Everything up to the plan; its counts."""
        assert self.open() in ("open", "resume")
        self.copy(rows)
        self.seal()
        return self.plan()

    def finish(self, rows: int, rejected: int = 0) -> dict[str, Any]:
        """Everything from the plan on; the batch."""
        self.begin()
        self.apply()
        return self.close(rows, rejected)

    def run(self, rows: list[Row]) -> dict[str, Any]:
        """A whole import; the batch."""
        plan = self.stage(rows)
        self.begin()
        self.apply()
        return self.close(len(rows), 0, plan["duplicate"])

    def die(self) -> None:
        """Be gone, as after kill -9: the lock is free, what was staged lies about."""
        self.connection.close()
        if self.control is not None:
            self.control.close()

    def value(self, function: str, *values: object) -> object:
        """The single value that a function of the ledger answers."""
        marks = ", ".join(["%s"] * len(values))
        row = self.connection.execute(f"SELECT tokenctl.{function}({marks})".encode(), values).fetchone()
        assert row is not None
        return row[0]


def staged_tables(db: LedgerDB) -> list[str]:
    """What lies in the staging schema."""
    return [
        row[0]
        for row in db.rows(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'tokenctl_staging'::regnamespace"
        )
    ]
