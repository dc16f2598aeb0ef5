"""What the database's answers mean: every limit, at its border."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokenctl.resilience.breaker import BreakerState
from tokenctl.services import health_rules as rules
from tokenctl.services.health_report import Check, Gauge, Range
from tokenctl.storage.health import BadTrigger, Durability, Jobs, LooseFunction, Privileges, Server, ServerRow
from tokenctl.storage.migrations import State, function_files, migration_files, newest_version

ROW = ServerRow(
    in_recovery=False, read_only=False, writer=True, connections=4, max_connections=100,
    standbys=0, lag_s=None, lag_hidden=False, tls=None,
)  # fmt: skip
SERVER = Server(
    version="18.1", connect_s=0.002, query_s=0.001, local=True, tls=None, sslmode="prefer", row=ROW
)  # fmt: skip
CURRENT = State(
    newest_version(),
    {step.version: step.checksum for step in migration_files()},
    {step.name: step.checksum for step in function_files()},
)
DURABLE = Durability(
    fsync=True, full_page_writes=True, synchronous_commit="on", data_checksums=True,
    synchronous_standby_names="", standbys=0,
)  # fmt: skip
SUPPORT = Privileges(
    login="support1", superuser=False, owner=False, owner_logs_in=False, creates=False,
    roles=["tokenctl_reader", "tokenctl_support"], writable=[],
)  # fmt: skip


def told(check: Check) -> tuple[str, str]:
    return check.state, check.detail


@pytest.mark.parametrize(
    ("gauge", "state"),
    [
        (Gauge("x", 10, warn=Range(end=10), crit=Range(end=20)), "ok"),
        (Gauge("x", 10.1, warn=Range(end=10), crit=Range(end=20)), "warning"),
        (Gauge("x", 20.1, warn=Range(end=10), crit=Range(end=20)), "critical"),
        (Gauge("x", 0, warn=Range(end=0)), "ok"),
        (Gauge("x", 1, crit=Range(end=0)), "critical"),
        (Gauge("x", 10**12), "ok"),
        (Gauge("x", 10, warn=Range(10), crit=Range(5)), "ok"),
        (Gauge("x", 9, warn=Range(10), crit=Range(5)), "warning"),
        (Gauge("x", 4, warn=Range(10), crit=Range(5)), "critical"),
    ],
)
def test_a_gauge_is_judged_by_its_limits(gauge: Gauge, state: str) -> None:
    assert gauge.state == state


def test_a_server_that_is_well() -> None:
    check = rules.database(SERVER)
    assert told(check) == ("ok", "PostgreSQL 18.1, 3 ms, 4 of 100 connections")
    assert check.hint == ""
    assert check.values["connections"] == 4
    assert {gauge.name: gauge.value for gauge in check.gauges} == {
        "db_connect": 0.002, "db_latency": 0.001, "db_connections": 4, "db_standbys": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("connections", "state"), [(80, "ok"), (81, "warning"), (95, "warning"), (96, "critical"), (100, "critical")]
)
def test_connections_run_out(connections: int, state: str) -> None:
    check = rules.database(replace(SERVER, row=replace(ROW, connections=connections)))
    assert check.state == state
    assert f"{connections} of 100 connections" in check.detail


@pytest.mark.parametrize(
    ("connect_s", "query_s", "state"),
    [(1.0, 0.1, "ok"), (1.01, 0.1, "warning"), (0.1, 0.11, "warning"), (0.1, 0.5, "warning"), (0.1, 0.51, "critical")],
)
def test_a_slow_server(connect_s: float, query_s: float, state: str) -> None:
    assert rules.database(replace(SERVER, connect_s=connect_s, query_s=query_s)).state == state


@pytest.mark.parametrize(
    ("in_recovery", "read_only", "writer", "told_as"),
    [
        (True, True, True, ("critical", "the database is a standby in recovery: nothing can be written")),
        (False, True, True, ("critical", "the database is read-only for this login: nothing can be written")),
        (True, True, False, ("ok", "PostgreSQL 18.1, 3 ms, 4 of 100 connections, read-only")),
        (False, False, False, ("ok", "PostgreSQL 18.1, 3 ms, 4 of 100 connections")),
    ],
)
def test_read_only_matters_to_who_writes(
    in_recovery: bool, read_only: bool, writer: bool, told_as: tuple[str, str]
) -> None:
    row = replace(ROW, in_recovery=in_recovery, read_only=read_only, writer=writer)
    assert told(rules.database(replace(SERVER, row=row))) == told_as


@pytest.mark.parametrize(
    ("local", "tls", "sslmode", "state"),
    [
        (True, None, "prefer", "ok"),
        (True, "TLSv1.3", "prefer", "ok"),
        (False, None, "disable", "warning"),
        (False, None, "prefer", "warning"),
        (False, "TLSv1.3", "require", "warning"),
        (False, "TLSv1.3", "verify-ca", "warning"),
        (False, "TLSv1.3", "verify-full", "ok"),
    ],
)
def test_a_connection_over_the_network_is_verified(local: bool, tls: str | None, sslmode: str, state: str) -> None:
    check = rules.database(replace(SERVER, local=local, tls=tls, sslmode=sslmode))
    assert check.state == state
    assert bool(check.hint) == (state == "warning")


@pytest.mark.parametrize(
    ("standbys", "lag_s", "hidden", "end"),
    [
        (1, None, True, "1 standby, lag not visible"),
        (2, 0.25, False, "2 standbys, 0.2 s behind"),
        (1, None, False, "1 standby"),
    ],
)
def test_standbys_are_told_with_what_the_role_may_see(
    standbys: int, lag_s: float | None, hidden: bool, end: str
) -> None:
    row = replace(ROW, standbys=standbys, lag_s=lag_s, lag_hidden=hidden)
    check = rules.database(replace(SERVER, row=row))
    assert check.state == "ok"
    assert check.detail.endswith(f", {end}")
    assert ("db_replication_lag" in {gauge.name for gauge in check.gauges}) == (lag_s is not None)


def test_the_schema() -> None:
    needs = newest_version()
    assert told(rules.schema(CURRENT, needs=needs)) == ("ok", f"version {needs}, none pending")
    other = function_files()[0].name
    stale = rules.schema(replace(CURRENT, functions={**CURRENT.functions, other: "x"}), needs=needs)
    assert told(stale) == ("warning", f"1 file of functions to be applied: {other}")
    assert (stale.hint, stale.values["pending"]) == ("tokenctl db migrate", [other])
    older = rules.schema(replace(CURRENT, version=needs - 1, migrations={}), needs=needs)
    assert told(older) == ("critical", f"version {needs - 1}, this tokenctl needs {needs}")
    newer = rules.schema(replace(CURRENT, version=needs + 1), needs=needs)
    assert newer.state == "critical"
    assert newer.hint == "install a newer tokenctl"
    edited = rules.schema(replace(CURRENT, migrations={1: "x"}), needs=needs)
    assert edited.state == "critical"
    assert "0001_ledger is not the one" in edited.detail


@pytest.mark.parametrize(
    ("found", "max_age_s", "state", "words"),
    [
        (Jobs(None, 0, None, 0), None, "ok", "no import yet"),
        (Jobs(9e6, 0, None, 0), None, "ok", "last import 104 d 4 h ago"),
        (Jobs(60.0, 2, 9e6, 1), None, "ok", "last import 60 s ago, 2 unfinished (1 orphaned)"),
        (Jobs(None, 0, None, 0), 93600, "warning", "no import yet, and one is expected every 26 h"),
        (Jobs(93600.0, 0, None, 0), 93600, "ok", "last import 26 h ago"),
        (Jobs(93601.0, 0, None, 0), 93600, "warning", "last import 26 h ago, and one is expected every 26 h"),
        (Jobs(60.0, 1, 93601.0, 0), 93600, "warning", "an import is unfinished since 26 h"),
        (Jobs(60.0, 1, 93600.0, 0), 93600, "ok", "last import 60 s ago, 1 unfinished"),
    ],
)
def test_jobs_warn_only_when_something_is_expected(
    found: Jobs, max_age_s: float | None, state: str, words: str
) -> None:
    assert told(rules.jobs(found, max_age_s=max_age_s)) == (state, words)


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, "ok", "fsync, full_page_writes, checksums, synchronous_commit on"),
        ({"fsync": False}, "critical", "fsync is off"),
        ({"full_page_writes": False}, "critical", "full_page_writes is off"),
        ({"synchronous_commit": "off"}, "critical", "synchronous_commit is off"),
        ({"synchronous_commit": "local"}, "warning", "synchronous_commit is local"),
        (
            {"synchronous_commit": "remote_apply"},
            "ok",
            "fsync, full_page_writes, checksums on, synchronous_commit remote_apply",
        ),
        ({"data_checksums": False}, "warning", "data_checksums is off"),
        ({"standbys": 1}, "warning", "acknowledged commits can be lost on failover"),
        ({"standbys": 1, "synchronous_standby_names": "one"}, "ok", "fsync"),
        ({"fsync": False, "data_checksums": False}, "critical", "fsync is off; data_checksums is off"),
    ],
)
def test_durability(change: dict[str, object], state: str, words: str) -> None:
    check = rules.durability(replace(DURABLE, **change))  # type: ignore[arg-type]  # one field at a time
    assert check.state == state
    assert words in check.detail


def test_triggers_and_functions_are_named_up_to_three() -> None:
    assert rules.triggers([]).state == "ok"
    bad = [BadTrigger(f"token_transactions_{n}", "append_only", "is missing") for n in range(5)]
    check = rules.triggers(bad)
    assert check.state == "critical"
    assert check.detail.startswith("token_transactions_0.append_only is missing, token_transactions_1.")
    assert check.detail.endswith(" and 2 more")
    assert len(check.values["bad"]) == 5
    assert rules.functions([]).state == "ok"
    assert rules.functions([LooseFunction("post_v1", unpinned=True, open_to_all=False)]).state == "critical"
    open_to_all = rules.functions([LooseFunction("audit", unpinned=False, open_to_all=True)])
    assert told(open_to_all) == ("warning", "PUBLIC may execute audit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"superuser": True, "owner": True, "writable": ["audit_log"]}, "support1 is a superuser: nothing binds it"),
        ({"owner": True, "writable": ["audit_log"]}, "support1 is a member of tokenctl_owner: it can change anything"),
        ({"writable": ["audit_log"]}, "support1 may write audit_log directly"),
        ({"creates": True}, "support1 may create in the schema tokenctl"),
        ({"owner_logs_in": True}, "tokenctl_owner can log in"),
    ],
)
def test_privileges_past_the_functions_are_a_warning(change: dict[str, object], words: str) -> None:
    assert told(rules.privileges(SUPPORT)) == ("ok", "support1 is reader, support")
    assert told(rules.privileges(replace(SUPPORT, **change))) == ("warning", words)  # type: ignore[arg-type]  # as above


def test_breakers() -> None:
    closed = BreakerState("gemini", "closed", 1, None, None, "timeout")
    opened = BreakerState("gemini-key:a1", "open", 3, 2.0, 12.7, "429")
    probing = BreakerState("db:0123abcd", "half_open", 4, 20.0, 0.0, "unavailable")
    assert told(rules.breakers([], closed=None)) == ("ok", "none open")
    assert told(rules.breakers([closed], closed=None)) == ("ok", "none open")
    check = rules.breakers([closed, opened, probing], closed=None)
    assert check.state == "warning"
    assert check.detail == (
        "gemini-key:a1 is open after 3 failures (429, next try in 12 s); "
        "db:0123abcd is half open after 4 failures (unavailable)"
    )
    assert [gauge.value for gauge in check.gauges] == [2]
    mended = rules.breakers([closed], closed="db:0123abcd")
    assert told(mended) == ("ok", "db:0123abcd was open, and is closed: the database answers")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (93600, "26 h"),
        (172800, "2 d"), (176400, "2 d 1 h"),
    ],
)  # fmt: skip
def test_a_span_of_time(seconds: float, words: str) -> None:
    assert rules.span(seconds) == words


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 kB"), (999_999, "1000 kB"), (1_500_000, "1.5 MB"), (84_693_590_016, "85 GB"), (2e12, "2 TB")],
)
def test_a_size(size_bytes: float, words: str) -> None:
    assert rules.size(size_bytes) == words
