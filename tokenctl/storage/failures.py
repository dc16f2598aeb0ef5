"""Driver errors, translated once: by phase, by whether the connection is gone, by SQLSTATE.

libpq gives no SQLSTATE for a failure to connect, so there the server is asked
with PQping whether it is up. The texts of the database are not passed on: they may
echo values and connection strings.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import conninfo as libpq
from psycopg import pq

from tokenctl import errors

_PING_TIMEOUT_S = 2  # libpq's floor
_CROWDED = re.compile(
    r"too many (connections|clients)|connection slots|query_wait_timeout|server_login_retry", re.IGNORECASE
)
# libpq tries to connect with some values that it cannot read, such as a port "x".
_INVALID = re.compile(r"invalid (port number|integer value|\w+ value)", re.IGNORECASE)
_REFUSED_LOGIN = re.compile(r"password|authentication|role .* does not exist|pg_hba|no .* entry", re.IGNORECASE)


def connecting(error: psycopg.Error, conninfo: str, where: str) -> errors.TokenctlError:
    """Why no connection came about; `where` is host, port and database without secrets."""
    text = str(error)
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return errors.Unavailable(
            f"the database at {where} does not answer", hint="is the address right, and the server up?"
        )
    try:
        # Bounded: a server may fall silent now, and the ping holds the interpreter meanwhile.
        ping = pq.PGconn.ping(libpq.make_conninfo(conninfo, connect_timeout=_PING_TIMEOUT_S).encode())
    except psycopg.Error:
        ping = pq.Ping.NO_ATTEMPT
    if _CROWDED.search(text):
        return errors.Unavailable(f"the database at {where} has no connection free", hint="try again in a moment")
    if "session is read-only" in text or "read-only" in text:
        return errors.Unavailable(f"the database at {where} is a read-only standby", hint="name the primary as well")
    if ping == pq.Ping.REJECT:
        return errors.Unavailable(f"the database at {where} is starting or stopping", hint="try again in a moment")
    if ping == pq.Ping.NO_ATTEMPT or _INVALID.search(text):
        return errors.ConfigError(
            "the database's connection string is wrong", hint="see the connection strings of libpq"
        )
    if ping == pq.Ping.NO_RESPONSE:
        return errors.Unavailable(
            f"the database at {where} does not answer", hint="is the address right, and the server up?"
        )
    if _REFUSED_LOGIN.search(text):
        return errors.NotAllowed(
            f"the database at {where} refuses the login", hint="check user, password and pg_hba.conf"
        )
    return errors.ConfigError(
        f"the database at {where} cannot be used with this connection string", hint="does it exist?"
    )


def working(error: psycopg.Error, *, lost: bool) -> errors.TokenctlError:
    """Why a statement failed; `lost` when its connection is gone, so that nothing is known."""
    if lost:
        return errors.Unavailable("the connection to the database was lost")
    state = error.sqlstate or ""
    constraint = error.diag.constraint_name or ""
    if state == "42501":
        return errors.NotAllowed(
            "the database's role may not do this",
            hint="it needs tokenctl_support, tokenctl_batch or tokenctl_admin",
        )
    if state in ("42P01", "42883", "3F000", "42704", "42703"):
        return errors.SchemaMismatch("the database's schema does not fit this tokenctl", hint="tokenctl db migrate")
    if state == "55P03":
        return errors.LockHeld("somebody else holds a lock for too long", hint="try again in a moment")
    if state in ("40001", "40P01"):
        return errors.TryLater("the database was too busy to finish this", hint="try again")
    if state == "57014":
        return errors.TimedOut("the database stopped the statement for its time limit")
    if state == "25006":
        return errors.Unavailable("the database is read-only", hint="connect to the primary")
    if constraint == "staging_lost":
        return errors.TryLater(
            "the database lost the staged rows (it crashed meanwhile)", hint="run the same command again"
        )
    if state[:2] == "53" or state[:2] == "58":
        return errors.Unavailable(f"the database is short of resources (SQLSTATE {state})", hint="is its disk full?")
    what = f"SQLSTATE {state or 'none'}" + (f", constraint {constraint}" if constraint else "")
    return errors.Bug(f"the database refused a statement of tokenctl's ({what})")
