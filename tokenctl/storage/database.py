"""Connections at work: the schema they need, how long they may take, what is tried again.

One connection serves a command; imports ask for a few more. Everything is
autocommit, so a statement is a transaction unless `transaction()` says otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import errors as pg_errors

from tokenctl import commandline
from tokenctl.errors import Fault, OutcomeUnknown, SchemaMismatch, TimedOut, TokenctlError
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.events import Emit, QueryDone, Unreplicated, ignore
from tokenctl.resilience.retry import KEYED, READ, SETTLE, Policy, Retry
from tokenctl.storage import failures, target
from tokenctl.storage.migrations import State
from tokenctl.storage.queries import query
from tokenctl.storage.watchdog import Watchdog

if TYPE_CHECKING:
    from tokenctl.resilience.breaker import Breaker

T = TypeVar("T")
Connection = target.Connection

#: Failures that say that the database is down. One that restarts or is a standby answers: that is
#: waited for within the deadline, and marks nothing.
_DOWN = frozenset({Fault.CONNECT, Fault.CROWDED, Fault.SICK})
#: Who gave an attempt less than this may not have waited for an answer: that marks nothing either.
_PATIENT_S = 1.0
#: Failures of a repeated write that do answer the question: the server judged the statement.
_SETTLED = frozenset({Fault.REFUSED, Fault.CONFIG, Fault.BUG, Fault.CORRUPT})


class Database:
    """A ledger's database: connects when first asked, checks the schema once.

    `run` and `write` are the way in: the deadline bounds them, what passes is tried again,
    and the breaker is asked before each connection and told how it went.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        application_name: str,
        deadline: Deadline,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        protected: bool = False,
        password_file: Path | None = None,
        emit: Emit = ignore,
        revive: Callable[[], str] | None = None,
    ) -> None:
        """Keep `conninfo`; `revive` starts and migrates the embedded server and answers its conninfo.

        Without `retry` what passes is tried again with a budget of its own; without
        `breaker` every connection is tried. `protected` speaks to another host only when its
        certificate is checked. `password_file` is where libpq looks unless the address says.
        """
        #: Where it is, and who may answer there.
        self.target = target.Target(conninfo, protected=protected, password_file=password_file)
        self._application_name = application_name
        self._revive = revive
        self.deadline = deadline
        self._retry = retry or Retry(deadline, emit=emit)
        self._breaker = breaker
        self._emit = emit
        self._main: Connection | None = None
        self._checked = False

    def close(self) -> None:
        """Close what is open; a second call does nothing."""
        if self._main is not None:
            self._main.close()
            self._main = None

    @property
    def main(self) -> Connection:
        """The command's own connection, made when first asked for and remade after a loss."""
        if self._main is None or self._main.closed:
            self._main = self.connect()
        return self._main

    def run(
        self,
        operation: str,
        work: Callable[[Connection], T],
        policies: Mapping[Fault, Policy] = READ,
        *,
        connection: Callable[[], Connection] | None = None,
    ) -> T:
        """The answer of `work` on the command's connection (or the one that `connection` gives).

        `operation` names it in metrics. Failures whose fault is in `policies` are tried again.
        """
        get = connection or (lambda: self.main)
        return self._retry.call(lambda: self._timed(operation, work, get), lambda: policies)

    def write(
        self,
        operation: str,
        work: Callable[[Connection], T],
        *,
        key: str | None,
        settled: Callable[[T], T] = lambda answer: answer,
    ) -> T:
        """The answer of one statement that `key` makes safe to send again.

        When the connection is lost on the way, the outcome is asked for by sending the same
        statement again until the deadline, whatever the breaker says; `settled` then says what
        that answer means for the write. Raises OutcomeUnknown when it cannot be told by then.
        """
        unsettled: list[TokenctlError] = []

        def noting(connection: Connection) -> T:
            try:
                return work(connection)
            except psycopg.Error as error:
                failure = failures.working(error, lost=connection.closed)
                if failure.fault is Fault.LOST:
                    unsettled.append(failure)
                raise

        def get() -> Connection:
            if unsettled and (self._main is None or self._main.closed):
                self._main = self.connect(ask_breaker=False)
            return self.main

        try:
            answer = self._retry.call(
                lambda: self._timed(operation, noting, get), lambda: SETTLE if unsettled else KEYED
            )
        except TokenctlError as error:
            if not unsettled or error.fault in _SETTLED:
                raise
            raise OutcomeUnknown(
                "the connection was lost while writing; whether it was committed is unknown", key=key
            ) from error
        return settled(answer) if unsettled else answer

    def connect(self, *, ask_breaker: bool = True) -> Connection:
        """A new connection to a database whose schema fits; the caller closes it.

        Raises BreakerOpen when earlier failures marked the database as down, and
        `ask_breaker` is left true.
        """
        if self._breaker is not None and ask_breaker:
            self._breaker.admit()
        left = self.deadline.left()
        try:
            connection = self._open()
        except TokenctlError as error:
            self._report(error, hurried=left is not None and left < _PATIENT_S)
            raise
        except BaseException:  # a signal: nothing is known, and the next one may probe
            if self._breaker is not None:
                self._breaker.abandoned()
            raise
        if self._breaker is not None:
            self._breaker.succeeded()
        return connection

    def _open(self) -> Connection:
        try:
            connection = self._connect()
        except TokenctlError:  # the embedded server is down, or another first command is still at it
            if self._revive is None:
                raise
            self.target = replace(self.target, conninfo=self._revive())
            connection = self._connect()
        if not self._checked:
            try:
                self._check_schema(connection)
            except TokenctlError:
                connection.close()
                raise
            self._checked = True
        return connection

    def _timed(self, operation: str, work: Callable[[Connection], T], get: Callable[[], Connection]) -> T:
        with self.timed(operation), self.watched(get()) as connection:
            return work(connection)

    @contextlib.contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Tell how a call to the database ended, and how long it took; outside of `watched`, which translates."""
        started, outcome = time.perf_counter(), "interrupted"
        try:
            yield
            outcome = "ok"
        except TokenctlError as error:
            outcome = error.fault or error.code
            raise
        finally:
            self._emit(QueryDone(operation, str(outcome), time.perf_counter() - started))

    def _report(self, error: TokenctlError, *, hurried: bool) -> None:
        """Tell the breaker of a failure; a peer that answers no is well."""
        if self._breaker is None:
            return
        if error.fault not in _DOWN and not isinstance(error, TimedOut):
            self._breaker.succeeded()
        elif hurried:  # nothing is known, and the next one may probe
            self._breaker.abandoned()
        else:
            self._breaker.failed(error.code)

    def bare(self) -> Connection:
        """A new connection to the database whatever it holds; the caller closes it."""
        return self._connect()

    @contextlib.contextmanager
    def watched(self, connection: Connection) -> Iterator[Connection]:
        """Run statements under the deadline and translate what goes wrong."""
        with self.watching(connection):
            yield connection

    @contextlib.contextmanager
    def watching(self, connection: Connection) -> Iterator[Watchdog]:
        """As `watched`; yields the watchdog, for work that shows signs of life on the way."""
        dog = Watchdog(connection, self.deadline.left())
        try:
            yield dog
        except psycopg.Error as error:
            if dog.fired:
                raise self._out_of_time() from error
            failure = failures.working(error, lost=connection.closed)
            if failure.fault is Fault.STARTING:  # on a standby: the next attempt must look for the primary
                connection.close()
            if failure.fault is Fault.SICK and self._breaker is not None:
                self._breaker.failed(failure.code)
            raise failure from error
        finally:
            dog.stop()

    def _out_of_time(self) -> TimedOut:
        return TimedOut(f"the database did not answer within {self.deadline.seconds:g} s")

    def _connect(self) -> Connection:
        left = self.deadline.left()
        if left is not None and left <= 0:
            raise self._out_of_time()
        return self.target.connect(self._application_name, left, self._noticed)

    def _noticed(self, notice: pg_errors.Diagnostic) -> None:
        """A cancelled wait for a synchronous standby is a warning beside a success; known by where it arises."""
        if notice.source_file == "syncrep.c":
            self._emit(Unreplicated())

    def _check_schema(self, connection: Connection) -> None:
        try:
            state = self.schema_state(connection)
        except SchemaMismatch:
            state = State(0, {}, {})
        if self._revive is not None and not state.is_current():
            self.target = replace(self.target, conninfo=self._revive())
            state = self.schema_state(connection)
        state.demand()

    def schema_state(self, connection: Connection) -> State:
        """What has been applied to the database; raises SchemaMismatch when nothing was."""
        try:
            row = connection.execute(query("schema_state")).fetchone()
        except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName) as error:
            raise SchemaMismatch("the database holds no ledger yet", hint=commandline.line("db", "migrate")) from error
        except psycopg.Error as error:
            raise failures.working(error, lost=connection.closed) from error
        if row is None:  # a SELECT of aggregates without FROM has one row
            raise SchemaMismatch
        return State(row[0], {int(key): value for key, value in row[1].items()}, row[2])
