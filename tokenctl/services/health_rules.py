"""What the answers of a database mean for its health: limits, states, and the words for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tokenctl import commandline
from tokenctl.errors import SchemaMismatch
from tokenctl.services.health_report import STATES, Check, Gauge, Limits, Range
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.resilience.breaker import BreakerState
    from tokenctl.storage.health import BadTrigger, Durability, Jobs, LooseFunction, Privileges, Server
    from tokenctl.storage.migrations import State

_CONNECT_WARN_S = 1.0
_ANSWER_WARN_S, _ANSWER_CRIT_S = 0.1, 0.5
_CONNECTIONS_WARN, _CONNECTIONS_CRIT = 0.80, 0.95
#: How many names a sentence lists before it says "and N more".
_NAMED = 3

#: Every gauge, and the check that measures it.
GAUGES = {
    "db_connect": "database",
    "db_latency": "database",
    "db_connections": "database",
    "db_standbys": "database",
    "db_replication_lag": "database",
    "schema_version": "schema",
    "schema_pending": "schema",
    "breakers_open": "breakers",
    "cache_free": "cache",
    "state_free": "state",
    "keys": "keys",
    "import_age": "jobs",
    "imports_unfinished": "jobs",
    "triggers_bad": "triggers",
    "functions_unpinned": "functions",
    "functions_open": "functions",
}
_NONE = Range(end=0)

Problem = tuple[str, str]


def judged(
    name: str,
    facts: Iterable[str],
    problems: Sequence[Problem],
    *,
    gauges: Sequence[Gauge] = (),
    values: Mapping[str, Any] | None = None,
    hint: str = "",
) -> Check:
    """A check as bad as the worst of its gauges and `problems` (state, sentence); without any it tells the `facts`."""
    facts = tuple(facts)
    told = [*[(one.state, one.alarm) for one in gauges if one.alarm and one.state != "ok"], *problems]
    worst = max((state for state, _ in told), key=STATES.index, default="ok")
    detail = "; ".join(text for _, text in told) or ", ".join(facts)
    return Check(
        name,
        worst,
        detail,
        hint if told else "",
        dict(values or {}),
        tuple(gauges),
        facts=facts,
        problems=tuple(problems),
    )


def limited(check: Check, limits: Limits) -> Check:
    """The check judged anew by the limits that somebody chose for its gauges."""
    gauges = [limits.applied(gauge) for gauge in check.gauges]
    if gauges == list(check.gauges):
        return check
    anew = judged(check.name, check.facts, check.problems, gauges=gauges, values=check.values, hint=check.hint)
    return replace(anew, took_s=check.took_s)


def database(found: Server) -> Check:
    """The server: does it answer soon, take writes, have connections left, and who could listen in."""
    row = found.row
    most = row.max_connections
    connections = f"{row.connections} of {most} connections"
    gauges = [
        Gauge(
            "db_connect",
            found.connect_s,
            "s",
            warn=Range(end=_CONNECT_WARN_S),
            alarm=f"it took {_ms(found.connect_s)} to connect",
        ),
        Gauge(
            "db_latency",
            found.query_s,
            "s",
            warn=Range(end=_ANSWER_WARN_S),
            crit=Range(end=_ANSWER_CRIT_S),
            alarm=f"it took {_ms(found.query_s)} to answer",
        ),
        Gauge(
            "db_connections",
            row.connections,
            warn=Range(end=_CONNECTIONS_WARN * most),
            crit=Range(end=_CONNECTIONS_CRIT * most),
            most=most,
            alarm=f"{connections} are taken",
        ),
        Gauge("db_standbys", row.standbys),
    ]
    if row.lag_s is not None:
        gauges.append(Gauge("db_replication_lag", row.lag_s, "s"))
    problems = [*_writes(found), *_listening(found)]
    facts = [
        f"PostgreSQL {found.version}",
        _ms(found.connect_s + found.query_s),
        connections,
        *(["read-only"] if row.read_only else []),
        *([f"{found.tls} {found.sslmode}"] if found.tls else []),
        *_standbys(found),
    ]
    values = {
        "server": found.version,
        "connect_s": round(found.connect_s, 6),
        "latency_s": round(found.query_s, 6),
        "in_recovery": row.in_recovery,
        "read_only": row.read_only,
        "writer": row.writer,
        "connections": row.connections,
        "max_connections": most,
        "standbys": row.standbys,
        "replication_lag_s": row.lag_s,
        "local": found.local,
        "tls": found.tls,
        "sslmode": found.sslmode,
    }
    hint = "sslmode=verify-full in the connection string" if _listening(found) else ""
    return judged("database", facts, problems, gauges=gauges, values=values, hint=hint)


def schema(found: State, *, needs: int) -> Check:
    """The ledger's schema: `needs` is the version that this tokenctl needs."""
    values: dict[str, Any] = {"version": found.version, "needs": needs, "pending": []}
    try:
        found.demand_not_newer()
        pending = [step.name for step in found.pending()]
    except SchemaMismatch as error:
        return Check("schema", "critical", error.detail, error.hint, values)
    gauges = (Gauge("schema_version", found.version), Gauge("schema_pending", len(pending), warn=_NONE))
    problems: list[Problem] = []
    if found.version < needs:
        problems = [("critical", f"version {found.version}, this tokenctl needs {needs}")]
    elif pending:
        problems = [("warning", f"{counted(len(pending), 'file')} of functions to be applied: {_some(pending)}")]
    facts = [f"version {found.version}", "none pending"]
    values |= {"pending": pending}
    return judged("schema", facts, problems, gauges=gauges, values=values, hint=commandline.line("db", "migrate"))


def jobs(found: Jobs, *, max_age_s: float | None) -> Check:
    """Imports: the newest, and unfinished ones. They are judged only when `max_age_s` is set."""
    gauges = [Gauge("imports_unfinished", found.unfinished)]
    if found.age_s is not None:
        gauges.insert(
            0, Gauge("import_age", found.age_s, "s", warn=None if max_age_s is None else Range(end=max_age_s))
        )
    facts = ["no import yet" if found.age_s is None else f"last import {span(found.age_s)} ago"]
    if found.unfinished:
        facts.append(f"{found.unfinished} unfinished" + (f" ({found.orphaned} orphaned)" if found.orphaned else ""))
    problems: list[Problem] = []
    if max_age_s is not None:
        if found.age_s is None or found.age_s > max_age_s:
            problems.append(("warning", f"{facts[0]}, and one is expected every {span(max_age_s)}"))
        if found.oldest_s is not None and found.oldest_s > max_age_s:
            problems.append(("warning", f"an import is unfinished since {span(found.oldest_s)}"))
    values = {
        "import_age_s": found.age_s,
        "import_max_age_s": max_age_s,
        "unfinished": found.unfinished,
        "oldest_unfinished_s": found.oldest_s,
        "orphaned": found.orphaned,
    }
    hint = "health.import_max_age_s expects it; the same batch-import command finishes an unfinished one"
    return judged("jobs", facts, problems, gauges=gauges, values=values, hint=hint)


def breakers(listed: Sequence[BreakerState], *, closed: str | None) -> Check:
    """Breakers that concern us; `closed` names the one that was just closed because its database answers."""
    problems = [("warning", _opened(one)) for one in listed if one.state != "closed"]
    facts = [f"{closed} was open, and is closed: the database answers" if closed else "none open"]
    values = {
        "breakers": [
            {"name": one.name, "state": one.state, "failures": one.failures, "next_try_s": one.next_try_s}
            for one in listed
        ],
        "closed": closed,
    }
    gauges = (Gauge("breakers_open", len(problems), warn=_NONE),)
    hint = "calls are refused until it closes; --ignore-breaker tries all the same"
    return judged("breakers", facts, problems, gauges=gauges, values=values, hint=hint)


def durability(found: Durability) -> Check:
    """Whether the server keeps what it has confirmed, through a crash and a failover."""
    settings = {
        "fsync": found.fsync,
        "full_page_writes": found.full_page_writes,
        "synchronous_commit": found.synchronous_commit,
        "data_checksums": found.data_checksums,
        "synchronous_standby_names": found.synchronous_standby_names,
    }
    problems = [
        (state, text)
        for bad, state, text in (
            (not found.fsync, "critical", "fsync is off"),
            (not found.full_page_writes, "critical", "full_page_writes is off"),
            (found.synchronous_commit == "off", "critical", "synchronous_commit is off"),
            (found.synchronous_commit == "local", "warning", "synchronous_commit is local"),
            (not found.data_checksums, "warning", "data_checksums is off"),
            (
                found.standbys and not found.synchronous_standby_names,
                "warning",
                "acknowledged commits can be lost on failover: synchronous_standby_names is empty",
            ),
        )
        if bad
    ]
    on = ["fsync", "full_page_writes", "checksums"]
    facts = [*on, "synchronous_commit on"]
    if found.synchronous_commit != "on":
        facts = [*on[:-1], f"{on[-1]} on", f"synchronous_commit {found.synchronous_commit}"]
    return judged("durability", facts, problems, values=settings | {"standbys": found.standbys})


def triggers(found: Sequence[BadTrigger]) -> Check:
    """Whether every append-only trigger does its work."""
    bad = [f"{one.table_name}.{one.trigger} {one.what}" for one in found]
    problems = [("critical", _some(bad))] if bad else []
    gauges = (Gauge("triggers_bad", len(bad), crit=_NONE),)
    facts = ["all append-only triggers are enabled always"]
    hint = "entries can be edited until their owner does ALTER TABLE … ENABLE ALWAYS TRIGGER …"
    return judged("triggers", facts, problems, gauges=gauges, values={"bad": bad}, hint=hint)


def functions(found: Sequence[LooseFunction]) -> Check:
    """Whether a function could be turned against its owner, or is open to everybody."""
    unpinned = [one.name for one in found if one.unpinned]
    open_to_all = [one.name for one in found if one.open_to_all]
    problems = []
    if unpinned:
        problems.append(("critical", f"SECURITY DEFINER without the pinned search_path: {_some(unpinned)}"))
    if open_to_all:
        problems.append(("warning", f"PUBLIC may execute {_some(open_to_all)}"))
    return judged(
        "functions",
        ["every search_path is pinned", "PUBLIC may execute none"],
        problems,
        gauges=(
            Gauge("functions_unpinned", len(unpinned), crit=_NONE),
            Gauge("functions_open", len(open_to_all), warn=_NONE),
        ),
        values={"unpinned": unpinned, "open_to_all": open_to_all},
        hint="ALTER FUNCTION … SET search_path = pg_catalog, pg_temp and REVOKE EXECUTE … FROM PUBLIC, as their owner",
    )


def privileges(found: Privileges) -> Check:
    """Whether the session's role could go past the functions."""
    problems: list[Problem] = []
    if found.superuser:
        problems.append(("warning", f"{found.login} is a superuser: nothing binds it"))
    elif found.owner:
        problems.append(("warning", f"{found.login} is a member of tokenctl_owner: it can change anything"))
    elif found.writable:
        problems.append(("warning", f"{found.login} may write {_some(found.writable)} directly"))
    if found.creates and not problems:
        problems.append(("warning", f"{found.login} may create in the schema tokenctl"))
    if found.owner_logs_in:
        problems.append(("warning", "tokenctl_owner can log in"))
    facts = [f"{found.login} is " + (", ".join(found.roles).replace("tokenctl_", "") or "of no role of the ledger")]
    values = {
        "login": found.login,
        "superuser": found.superuser,
        "owner": found.owner,
        "owner_logs_in": found.owner_logs_in,
        "creates": found.creates,
        "roles": found.roles,
        "writable": found.writable,
    }
    return judged(
        "privileges", facts, problems, values=values, hint="use a login that is only tokenctl_support or _batch"
    )


def span(seconds: float) -> str:
    """A length of time in its two largest units: 5 s, 12 min, 26 h, 3 d 4 h."""
    whole = int(seconds)
    if whole < 120:  # noqa: PLR2004 — two minutes
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    if whole < 2 * 86400:
        return f"{whole // 3600} h"
    return f"{whole // 86400} d" + (f" {whole % 86400 // 3600} h" if whole % 86400 >= 3600 else "")  # noqa: PLR2004 — an hour


def size(size_bytes: float) -> str:
    """Bytes for people: 84 GB, 1.5 GB, 10 MB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.2g} {unit}" if size_bytes < 10 * scale else f"{size_bytes / scale:.0f} {unit}"
    return f"{size_bytes / 1000:.0f} kB"


def _writes(found: Server) -> list[Problem]:
    if not (found.row.read_only and found.row.writer):
        return []
    why = "a standby in recovery" if found.row.in_recovery else "read-only for this login"
    return [("critical", f"the database is {why}: nothing can be written")]


def _listening(found: Server) -> list[Problem]:
    if found.local or (found.tls and found.sslmode == "verify-full"):
        return []
    what = f"{found.tls}, but sslmode {found.sslmode} does not check who answers" if found.tls else "no TLS"
    return [("warning", f"the connection to another host has {what}")]


def _standbys(found: Server) -> list[str]:
    row = found.row
    if not row.standbys:
        return []
    lag = ", lag not visible" if row.lag_hidden else f", {row.lag_s:.1f} s behind" if row.lag_s is not None else ""
    return [counted(row.standbys, "standby") + lag]


def _opened(breaker: BreakerState) -> str:
    again = f", next try in {span(breaker.next_try_s)}" if breaker.next_try_s and breaker.next_try_s > 0 else ""
    cause = f" ({breaker.cause}{again})" if breaker.cause else ""
    return f"{breaker.name} is {breaker.state.replace('_', ' ')} after {counted(breaker.failures, 'failure')}{cause}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
