"""An address of a database: what may be shown of it, who may answer there, and a connection to it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo as libpq
from psycopg import errors as pg_errors
from psycopg import pq

from tokenctl import address
from tokenctl.errors import ConfigError, Fault, NotAllowed
from tokenctl.resilience.deadline import NoAnswer, bounded
from tokenctl.storage import failures, psqlrc

#: Without a log of ours Python would print the driver's warnings as they are, addresses included.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

Connection = psycopg.Connection[tuple[Any, ...]]
Noticed = Callable[[pg_errors.Diagnostic], None]

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

#: How times are told to us, whatever the role, the database or the environment says. Poolers keep both apart.
_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO"}


@dataclass(frozen=True)
class Target:
    """A database by libpq's `conninfo`, or the environment's where that is empty.

    `protected` speaks to another host only when its certificate is checked. `password_file`
    is where libpq looks for passwords unless the address says.
    """

    conninfo: str
    protected: bool = False
    password_file: Path | None = None

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
            given = {key: str(value) for key, value in libpq.conninfo_to_dict(self.conninfo).items()}
        except psycopg.ProgrammingError as error:  # its text may hold a password
            raise _wrong_string("postgresql://user@host:port/name, or service=name") from error
        why = address.mistake(self.conninfo, _of_environment() | given)
        if why is not None:
            raise _wrong_string(why)
        return given

    def psql(self, programs: Path | None, options: Sequence[str] = ()) -> Callable[[], NoReturn]:
        """What becomes psql on this database; the password goes by the environment, not the arguments."""
        program = str(programs / "psql") if programs is not None else shutil.which("psql")
        if program is None:
            raise ConfigError(
                "psql is not installed",
                hint="install PostgreSQL's client, or pip install 'tokenctl[embedded]'",
            )
        given = self._given()
        unsafe = [key for key in given if address.is_secret(key) and key != "password"]
        if unsafe:
            raise ConfigError(
                f"psql takes the {unsafe[0]} only where everybody can read it",
                hint="put it in a service file, and name that: service=NAME",
            )
        password = {"PGPASSWORD": given["password"]} if given.get("password") else {}
        environ = dict(os.environ) | password  # noqa: TID251 — handed on to psql
        environ |= psqlrc.variables(environ)
        return partial(os.execve, program, ["psql", f"--dbname={self.url}", *options], environ)

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

    def connect(self, name: str, left: float | None, noticed: Noticed) -> Connection:
        """A new connection, called `name`, within `left` seconds; `noticed` hears the server's notices.

        Raises ConfigError for an address that is wrong or a host that nobody checks, NotAllowed
        for a login that is refused, and Unavailable.
        """
        started, given = time.monotonic(), self._given()
        if "service" not in given:
            self._demand_certificate(_of_environment() | given)
        settings = {key: value for key, value in _DEFAULTS.items() if key not in given}
        # Prepared statements do not survive a pooler in transaction mode.
        settings |= {"application_name": name[:63], "autocommit": True, "prepare_threshold": None}
        try:
            if left is None:
                return self._reach(given, settings, noticed)
            settings["connect_timeout"] = max(2, min(CONNECT_TIMEOUT_S, int(left)))
            # Nothing else bounds the resolution of a name, and libpq's own limit is per host.
            return bounded(lambda: self._reach(given, settings, noticed), left, late=lambda c: c.close())
        except NoAnswer as error:
            raise failures.silent(self.where) from error
        except psycopg.ProgrammingError as error:  # a value that only psycopg reads; its text is not repeated
            raise _wrong_string("see the connection strings of libpq") from error
        except psycopg.Error as error:
            left = None if left is None else left - (time.monotonic() - started)
            failure = failures.connecting(error, self.conninfo, self.where, left)
            if isinstance(failure, NotAllowed) and (ignored := self._ignored_password_file(given)) is not None:
                failure.hint = f"chmod 600 {ignored}: libpq takes no password from a file that others can read"
            raise failure from error

    def _ignored_password_file(self, given: Mapping[str, str]) -> Path | None:
        """The file of passwords that would have been asked, and was not because of its mode."""
        path = Path(given["passfile"]) if "passfile" in given else self.password_file
        if path is None or {**_of_environment(), **given}.get("password"):
            return None
        with contextlib.suppress(OSError):
            return path if path.stat().st_mode & 0o077 else None
        return None

    def _reach(self, given: Mapping[str, str], settings: Mapping[str, Any], noticed: Noticed) -> Connection:
        """A connection to the address, of whose parts `given` are said."""

        def one(**more: Any) -> Connection:
            made = psycopg.connect(self.conninfo, **{**settings, **more})
            made.add_notice_handler(noticed)
            if not all((made.info.parameter_status(name) or "").startswith(value) for name, value in _SESSION.items()):
                try:
                    made.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'")
                except BaseException:
                    made.close()
                    raise
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

    def _demand_certificate(self, parts: Mapping[str, str]) -> None:
        """Refuse another host that would be believed to be what it says (OWASP ASVS 12.3: validate certificates)."""
        mode = address.believing(parts)
        if mode is None or (mode not in address.BY_CHANCE and not self.protected):
            return
        error = ConfigError(
            f"the database at {self.where} is on another host, and with sslmode={mode} nobody checks who answers there",
            hint="add sslrootcert=system, or sslmode=verify-full and sslrootcert=FILE for an authority of your own"
            + ("" if self.protected else "; sslmode=require or disable says that you do without"),
        )
        error.fault = Fault.CONFIG
        raise error


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
