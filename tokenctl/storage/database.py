"""Connections: where to, how long to wait, and what a failure means.

One connection serves a command; imports ask for a few more. Everything is
autocommit, so a statement is a transaction unless `transaction()` says otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo as libpq
from psycopg import errors as pg_errors
from psycopg import pq

from tokenctl import address
from tokenctl.errors import ConfigError, Fault, NotAllowed, OutcomeUnknown, SchemaMismatch, TimedOut, TokenctlError
from tokenctl.resilience.deadline import Deadline, NoAnswer, bounded
from tokenctl.resilience.events import Emit, QueryDone, Unreplicated, ignore
from tokenctl.resilience.retry import KEYED, READ, SETTLE, Policy, Retry
from tokenctl.storage import failures
from tokenctl.storage.migrations import State
from tokenctl.storage.queries import query
from tokenctl.storage.watchdog import Watchdog

if TYPE_CHECKING:
    from tokenctl.resilience.breaker import Breaker

#: Without a log of ours Python would print the driver's warnings as they are, addresses included.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

#: Seconds to wait for a connection, per host. Two are libpq's floor.
CONNECT_TIMEOUT_S = 3
# What ends a connection whose packets vanish: unanswered data for 8 s, or a silent
# peer for 5 + 2 * 2 s. Neither notices a stalled program behind a live kernel; the
# watchdog does.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": 8000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}

#: Failures that say that the database is down. One that restarts or is a standby answers: that is
#: waited for within the deadline, and marks nothing.
_DOWN = frozenset({Fault.CONNECT, Fault.CROWDED, Fault.SICK})
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
        self._conninfo = conninfo
        self._application_name = application_name
        self._revive = revive
        self._protected = protected
        self._password_file = password_file
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

    def write(self, operation: str, work: Callable[[Connection], T], *, key: str | None) -> T:
        """The answer of one statement that `key` makes safe to send again.

        When the connection is lost on the way, the outcome is asked for by sending the same
        statement again until the deadline, whatever the breaker says. Raises OutcomeUnknown
        when it cannot be told by then.
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
            return self._retry.call(lambda: self._timed(operation, noting, get), lambda: SETTLE if unsettled else KEYED)
        except TokenctlError as error:
            if not unsettled or error.fault in _SETTLED:
                raise
            raise OutcomeUnknown(
                "the connection was lost while writing; whether it was committed is unknown", key=key
            ) from error

    def connect(self, *, ask_breaker: bool = True) -> Connection:
        """A new connection to a database whose schema fits; the caller closes it.

        Raises BreakerOpen when earlier failures marked the database as down, and
        `ask_breaker` is left true.
        """
        if self._breaker is not None and ask_breaker:
            self._breaker.admit()
        try:
            connection = self._open()
        except TokenctlError as error:
            self._report(error)
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
            self._conninfo = self._revive()
            self.deadline.restart()
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
        started, outcome = time.perf_counter(), "interrupted"
        try:
            with self.watched(get()) as connection:
                result = work(connection)
            outcome = "ok"
        except TokenctlError as error:
            outcome = error.fault or error.code
            raise
        finally:
            self._emit(QueryDone(operation, str(outcome), time.perf_counter() - started))
        return result

    def _report(self, error: TokenctlError) -> None:
        """Tell the breaker of a failure; a peer that answers no is well."""
        if self._breaker is None:
            return
        if error.fault in _DOWN or isinstance(error, TimedOut):
            self._breaker.failed(error.code)
        else:
            self._breaker.succeeded()

    def bare(self) -> Connection:
        """A new connection to the database whatever it holds; the caller closes it."""
        return self._connect()

    @property
    def url(self) -> str:
        """The address as a URI that psql accepts, without its secrets."""
        given = self._given()
        parts = {key: value for key, value in given.items() if not address.is_secret(key)}
        name = quote(parts.pop("dbname", ""), safe="")
        return f"postgresql:///{name}" + (f"?{urlencode(parts, quote_via=quote)}" if parts else "")

    def _given(self) -> dict[str, str]:
        """What the address says; raises ConfigError for one that is wrong, or has a piece of a secret for a name."""
        try:
            given = {key: str(value) for key, value in libpq.conninfo_to_dict(self._conninfo).items()}
        except psycopg.ProgrammingError as error:  # its text may hold a password
            raise _wrong_string("postgresql://user@host:port/name, or service=name") from error
        why = address.mistake(self._conninfo, _of_environment() | given)
        if why is not None:
            raise _wrong_string(why)
        return given

    def psql(self, programs: Path | None) -> NoReturn:
        """Become psql on this database; the password goes by the environment, not the arguments."""
        program = str(programs / "psql") if programs is not None else shutil.which("psql")
        if program is None:
            raise ConfigError(
                "psql is not installed",
                hint="install PostgreSQL's client, or pip install 'tokenctl[embedded]'",
            )
        given = self._given()
        self._demand_certificate(_of_environment() | given)
        unsafe = [key for key in given if address.is_secret(key) and key != "password"]
        if unsafe:
            raise ConfigError(
                f"psql takes the {unsafe[0]} only where everybody can read it",
                hint="put it in a service file, and name that: service=NAME",
            )
        password = {"PGPASSWORD": given["password"]} if given.get("password") else {}
        environ = dict(os.environ) | password  # noqa: TID251 — handed on to psql
        os.execve(program, ["psql", self.url], environ)  # noqa: S606 — no shell is wanted

    @property
    def where(self) -> str:
        """User, host, port and database for people, without a secret."""
        try:
            parts = _of_environment() | self._given()
        except ConfigError:
            return "an unreadable address"
        host = parts.get("host") or parts.get("hostaddr") or "localhost"
        if "service" in parts and host == "localhost":
            return f"service {parts['service']}"
        port = "" if host.startswith("/") else f":{parts.get('port', '5432')}"
        return f"{parts.get('dbname') or parts.get('user')}@{host}{port}"

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
        given = self._given()
        if "service" not in given:
            self._demand_certificate(_of_environment() | given)
        left = self.deadline.left()
        if left is not None and left <= 0:
            raise self._out_of_time()
        try:
            if left is None:
                return self._reach(given, left)
            # Nothing else bounds the resolution of a name, and libpq's own limit is per host.
            return bounded(lambda: self._reach(given, left), left, late=lambda c: c.close())
        except NoAnswer as error:
            raise failures.silent(self.where) from error
        except psycopg.ProgrammingError as error:  # a value that only psycopg reads; its text is not repeated
            raise _wrong_string("see the connection strings of libpq") from error
        except psycopg.Error as error:
            failure = failures.connecting(error, self._conninfo, self.where)
            if isinstance(failure, NotAllowed) and (ignored := self._ignored_password_file(given)) is not None:
                failure.hint = f"chmod 600 {ignored}: libpq takes no password from a file that others can read"
            raise failure from error

    def _ignored_password_file(self, given: Mapping[str, str]) -> Path | None:
        """The file of passwords that would have been asked, and was not because of its mode."""
        path = Path(given["passfile"]) if "passfile" in given else self._password_file
        if path is None or {**_of_environment(), **given}.get("password"):
            return None
        with contextlib.suppress(OSError):
            return path if path.stat().st_mode & 0o077 else None
        return None

    def _reach(self, given: Mapping[str, str], left: float | None) -> Connection:
        """A connection to the address, of whose parts `given` are said, within `left` seconds for each host."""
        settings: dict[str, Any] = {key: value for key, value in _DEFAULTS.items() if key not in given}
        if left is not None:
            settings["connect_timeout"] = max(2, min(CONNECT_TIMEOUT_S, int(left)))

        def one(**more: Any) -> Connection:
            # Prepared statements do not survive a pooler in transaction mode.
            made = psycopg.connect(
                self._conninfo,
                autocommit=True,
                prepare_threshold=None,
                application_name=self._application_name[:63],
                **settings,
                **more,
            )
            made.add_notice_handler(self._noticed)
            return made

        found = one()
        if "service" in given:  # which only libpq reads
            try:
                self._demand_certificate(_of_connection(found))
            except ConfigError:
                found.close()
                raise
        if found.info.parameter_status("in_hot_standby") == "on" and "target_session_attrs" not in given:
            # Of several hosts a standby may come first; alone it can be read all the same.
            with contextlib.suppress(psycopg.Error):
                primary = one(target_session_attrs="primary")
                found.close()
                return primary
        return found

    def _noticed(self, notice: pg_errors.Diagnostic) -> None:
        """A cancelled wait for a synchronous standby is a warning beside a success; known by where it arises."""
        if notice.source_file == "syncrep.c":
            self._emit(Unreplicated())

    def _demand_certificate(self, parts: Mapping[str, str]) -> None:
        """Refuse another host that would be believed to be what it says (OWASP ASVS 12.3: validate certificates)."""
        mode = address.believing(parts)
        if mode is None or (mode not in address.BY_CHANCE and not self._protected):
            return
        error = ConfigError(
            f"the database at {self.where} is on another host, and with sslmode={mode} nobody checks who answers there",
            hint="add sslrootcert=system, or sslmode=verify-full and sslrootcert=FILE for an authority of your own"
            + ("" if self._protected else "; sslmode=require or disable says that you do without"),
        )
        error.fault = Fault.CONFIG
        raise error

    def _check_schema(self, connection: Connection) -> None:
        try:
            state = self.schema_state(connection)
        except SchemaMismatch:
            state = State(0, {}, {})
        if self._revive is not None and not state.is_current():
            self._conninfo = self._revive()
            state = self.schema_state(connection)
        state.demand()

    def schema_state(self, connection: Connection) -> State:
        """What has been applied to the database; raises SchemaMismatch when nothing was."""
        try:
            row = connection.execute(query("schema_state")).fetchone()
        except (pg_errors.UndefinedTable, pg_errors.InvalidSchemaName) as error:
            raise SchemaMismatch("the database holds no ledger yet", hint="tokenctl db migrate") from error
        except psycopg.Error as error:
            raise failures.working(error, lost=connection.closed) from error
        if row is None:  # a SELECT of aggregates without FROM has one row
            raise SchemaMismatch
        return State(row[0], {int(key): value for key, value in row[1].items()}, row[2])


def _of_environment() -> dict[str, str]:
    """The parts of an address that libpq takes from the environment, and from the service file that it names."""
    return {o.keyword.decode(): o.val.decode(errors="replace") for o in pq.Conninfo.get_defaults() if o.val}


def _of_connection(connection: Connection) -> dict[str, str]:
    """What libpq made of address, environment and service file."""
    return {o.keyword.decode(): o.val.decode(errors="replace") for o in connection.pgconn.info if o.val}


def _wrong_string(why: str) -> ConfigError:
    error = ConfigError("the database's connection string is wrong", hint=why)
    error.fault = Fault.CONFIG
    return error
