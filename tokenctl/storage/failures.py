"""Driver errors, translated once: by phase, by whether the connection is gone, by SQLSTATE.

libpq gives no SQLSTATE for a failure to connect, so there the server is asked
with PQping whether it is up. The texts of the database are not passed on: they may
echo values and connection strings. Every translated error carries its `fault`, which
decides whether it is tried again (resilience/retry.py) and counted (the breaker).
"""

from __future__ import annotations

import re

import psycopg
from psycopg import conninfo as libpq
from psycopg import pq

from tokenctl import commandline
from tokenctl.errors import (
    Bug,
    ConfigError,
    Corrupted,
    Fault,
    LockHeld,
    NotAllowed,
    Refused,
    SchemaMismatch,
    TimedOut,
    TokenctlError,
    TryLater,
    Unavailable,
)

_PING_TIMEOUT_S = 2  # libpq's floor
_CROWDED = re.compile(
    r"too many (connections|clients)|connection slots|query_wait_timeout|server_login_retry|"
    r"server login has been failing",
    re.IGNORECASE,
)
# A server may be ready again by the time that it is asked whether it is.
_RESTARTING = re.compile(
    r"system is (starting up|shutting down|in recovery mode|not yet accepting)|not accepting conn", re.IGNORECASE
)
# libpq tries to connect with some values that it cannot read, such as a port "x".
_INVALID = re.compile(r"invalid (port number|integer value|\w+ value)", re.IGNORECASE)
# A session that ended before it had begun: the server's administrator, its crash, or the way there.
_CUT_OFF = re.compile(
    r"terminating connection|closed the connection|SSL SYSCALL|could not (send|receive)", re.IGNORECASE
)
_REFUSED_LOGIN = re.compile(r"password|authentication|role .* does not exist|pg_hba|no .* entry", re.IGNORECASE)
# Words that only a server which answers can have caused.
_ANSWERED = re.compile(r"FATAL|password|authentication|session is|hot standby", re.IGNORECASE)
# Not "SSL error" alone: that is also how a connection ends that broke during the handshake.
_UNTRUSTED = re.compile(r"certificate|does not support SSL", re.IGNORECASE)
_NO_SUCH_HOST = re.compile(r"Name or service not known|No address associated|nodename nor servname", re.IGNORECASE)


def connecting(error: psycopg.Error, conninfo: str, where: str, left: float | None = None) -> TokenctlError:
    """Why no connection came about; `where` is host, port and database without secrets.

    `left` are the seconds that may be taken to ask the server whether it is up; None is no limit.
    """
    text = str(error)
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return silent(where)
    if (told := _told(text, where)) is not None:
        return _as(Fault.CONFIG, told)
    if left is None or left >= _PING_TIMEOUT_S:
        ping = _ping(error, conninfo)
    else:  # its own words have to do
        ping = pq.Ping.OK if _ANSWERED.search(text) else pq.Ping.NO_RESPONSE
    if (passing := _passing(text, ping, where)) is not None:
        return passing
    if ping == pq.Ping.NO_ATTEMPT or _INVALID.search(text):
        wrong = ConfigError("the database's connection string is wrong", hint="see the connection strings of libpq")
        return _as(Fault.CONFIG, wrong)
    if ping == pq.Ping.NO_RESPONSE:
        return silent(where)
    if _REFUSED_LOGIN.search(text):
        refused = NotAllowed(f"the database at {where} refuses the login", hint="check user, password and pg_hba.conf")
        return _as(Fault.CONFIG, refused)
    return _as(
        Fault.CONFIG,
        ConfigError(f"the database at {where} cannot be used with this connection string", hint="does it exist?"),
    )


def _ping(error: psycopg.Error, conninfo: str) -> pq.Ping:
    """Whether the server that was tried last is up.

    That one alone, and bounded: it may fall silent now, and nothing ends the ping before its time, which
    it takes for each address while it holds the interpreter.
    """
    tried = error.pgconn
    parts = {} if tried is None else {"host": tried.host, "hostaddr": tried.hostaddr, "port": tried.port}
    one = {key: value.decode() for key, value in parts.items() if value}
    try:
        return pq.Ping(pq.PGconn.ping(libpq.make_conninfo(conninfo, connect_timeout=_PING_TIMEOUT_S, **one).encode()))
    except psycopg.Error:
        return pq.Ping.NO_ATTEMPT


def _passing(text: str, ping: int, where: str) -> TokenctlError | None:
    """What the next attempt may not meet any more; None when it is not one of these."""
    if _CROWDED.search(text):
        return _as(Fault.CROWDED, Unavailable(f"the database at {where} has no connection free", hint=_AGAIN))
    if "read-only" in text:
        standby = Unavailable(f"the database at {where} is a read-only standby", hint="name the primary as well")
        return _as(Fault.STARTING, standby)
    if ping == pq.Ping.REJECT or _RESTARTING.search(text):
        return _as(Fault.STARTING, Unavailable(f"the database at {where} is starting or stopping", hint=_AGAIN))
    if ping == pq.Ping.OK and _CUT_OFF.search(text):
        return _as(Fault.CONNECT, Unavailable(f"the database at {where} broke the connection off", hint=_AGAIN))
    return None


def _told(text: str, where: str) -> ConfigError | None:
    """What libpq says plainly and the ping would not: it calls both a host that does not answer."""
    if _NO_SUCH_HOST.search(text):
        return ConfigError(f"the database at {where}: there is no host of that name")
    if _UNTRUSTED.search(text):
        return ConfigError(
            f"the database at {where} has no certificate that can be trusted",
            hint="is it your server? then check sslmode, sslrootcert and the host's name",
        )
    return None


def silent(where: str) -> TokenctlError:
    """Nobody answered."""
    return _as(
        Fault.CONNECT,
        Unavailable(f"the database at {where} does not answer", hint="is the address right, and the server up?"),
    )


def cut_off() -> TokenctlError:
    """The connection is gone, and with it whatever was under way."""
    return _as(Fault.LOST, Unavailable("the connection to the database was lost"))


def working(error: psycopg.Error, *, lost: bool) -> TokenctlError:
    """Why a statement failed; `lost` when its connection is gone, so that nothing is known."""
    state = error.sqlstate or ""
    constraint = error.diag.constraint_name or ""
    if state == "08P01" and _CROWDED.search(str(error)):  # a pooler hangs up after that; it had sent nothing on
        return _as(Fault.CROWDED, Unavailable(_POOLER, hint=_AGAIN))
    if lost or state in ("40003", "08003", "08006"):  # the first is called statement_completion_unknown
        return cut_off()
    if constraint == "staging_lost":
        gone = TryLater("the database lost the staged rows (it crashed meanwhile)", hint="run the same command again")
        return _as(Fault.REFUSED, gone)
    # Whoever may import and is refused a step, or finds no staging any more, had the lock, and its connection
    # broke: another import has swept up then.
    if constraint == "batch_lost" or (state == "42P01" and "tokenctl_staging." in str(error)):
        gone = TryLater("the batch's lock was lost with a connection", hint="run the same command again")
        return _as(Fault.REFUSED, gone)
    if constraint == "batch_rows_add_up":
        short = TryLater("what became of the file's rows does not add up", hint="run the same command again")
        return _as(Fault.REFUSED, short)
    if constraint == "posted_before":
        left = Refused(
            "rows that this batch posted before it was cut off are left out now",
            hint="is their reason no longer in the configuration's list? put it back, and run the same command again",
        )
        return _as(Fault.REFUSED, left)
    for states, fault, kind, detail, hint in _BY_STATE:
        if state in states or state[:2] in states:
            return _as(fault, kind(detail.format(state=state, constraint=constraint or "none"), hint=_way_on(hint)))
    what = f"SQLSTATE {state or 'none'}" + (f", constraint {constraint}" if constraint else "")
    return _as(Fault.BUG, Bug(f"the database refused a statement of tokenctl's ({what})"))


_AGAIN = "try again in a moment"
_POOLER = "the database's pooler has no connection free"
# Whole SQLSTATEs and classes (two characters), the first match counts.
_BY_STATE: tuple[tuple[frozenset[str], Fault, type[TokenctlError], str, str | tuple[str, ...]], ...] = (
    (
        frozenset({"42501"}),
        Fault.CONFIG,
        NotAllowed,
        "the database's role may not do this",
        "it needs tokenctl_support, tokenctl_batch or tokenctl_admin",
    ),
    (
        frozenset({"42P01", "42883", "3F000", "42704", "42703"}),
        Fault.CONFIG,
        SchemaMismatch,
        "the database's schema does not fit this tokenctl",
        ("db", "migrate"),
    ),
    (frozenset({"55P03"}), Fault.LOCK, LockHeld, "somebody else holds a lock for too long", _AGAIN),
    (frozenset({"40001", "40P01"}), Fault.CONFLICT, TryLater, "the database was too busy to finish this", "try again"),
    (
        frozenset({"57014"}),
        Fault.CANCELLED,
        TimedOut,
        "the database stopped the statement for its time limit",
        _AGAIN,
    ),
    (frozenset({"25006"}), Fault.STARTING, Unavailable, "the database is read-only", "connect to the primary"),
    (frozenset({"08P01"}), Fault.CROWDED, Unavailable, _POOLER, _AGAIN),
    (frozenset({"28", "3D000"}), Fault.CONFIG, NotAllowed, "the database refuses the login", ""),
    (
        frozenset({"53", "58", "XX000"}),
        Fault.SICK,
        Unavailable,
        "the database is short of resources (SQLSTATE {state})",
        "is its disk full?",
    ),
    (
        frozenset({"XX001", "XX002"}),
        Fault.CORRUPT,
        Corrupted,
        "the database reports damaged data (SQLSTATE {state})",
        "stop what writes to it, and call its administrator",
    ),
    (
        frozenset({"23514", "22003", "23505"}),
        Fault.REFUSED,
        Refused,
        "a rule of the ledger refuses this (constraint {constraint})",
        "",
    ),
)


def _way_on(hint: str | tuple[str, ...]) -> str:
    """What to do: a sentence, or the words of a command."""
    return hint if isinstance(hint, str) else commandline.line(*hint)


def _as(fault: Fault, error: TokenctlError) -> TokenctlError:
    error.fault = fault
    return error
