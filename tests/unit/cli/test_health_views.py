"""`health` in print: the plugin's line obeys the guidelines' grammar, whatever a check says."""

from __future__ import annotations

import json
import re

import pytest

from tokenctl.cli import health_views as views
from tokenctl.errors import ConfigError
from tokenctl.output.views import json_ready
from tokenctl.services.health_report import Check, Gauge, HealthReport, Range

# 'label'=value[UOM];[warn];[crit];[min];[max], ranges [@][start:][end]
NUMBER = r"-?[0-9]+(\.[0-9]+)?"
RANGE = rf"@?((({NUMBER})|~)?:)?({NUMBER})?"
LINE = re.compile(
    r"TOKENCTL (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+"
    rf"( \|( [a-z_]+={NUMBER}(s|B|%|c)?(;{RANGE}(;{RANGE}(;({NUMBER})?(;({NUMBER})?)?)?)?)?)+)?\n"
)
GAUGES = (
    Gauge("db_latency", 0.0031, "s", warn=Range(end=0.1), crit=Range(end=0.5)),
    Gauge("db_connections", 4, "", warn=Range(end=80), crit=Range(end=95), most=100),
    Gauge("state_free", 84693590016, "B", warn=Range(100_000_000), crit=Range(10_000_000)),
    Gauge("import_age", 1e-9, "s"),
)


def report(*checks: Check) -> HealthReport:
    return HealthReport(checks, 0.0125)


def test_the_plugins_line_when_all_is_ok() -> None:
    line = views.nagios(report(Check("database", "ok", "fine", gauges=GAUGES), Check("keys", "ok", "none configured")))
    assert LINE.fullmatch(line)
    assert line == (
        "TOKENCTL OK - 2 checks ok | db_latency=0.0031s;0.1;0.5;0 db_connections=4;80;95;0;100"
        " state_free=84693590016B;100000000:;10000000:;0 import_age=0s;;;0 time=0.0125s;;;0\n"
    )


def test_the_plugins_line_tells_the_worst_first() -> None:
    found = report(
        Check("database", "ok", "fine"),
        Check("breakers", "warning", "gemini is half open"),
        Check("schema", "critical", "no ledger", "tokenctl db migrate"),
        Check("jobs", "unknown", "not asked, because of schema", asked=False),
    )
    line = views.nagios(found)
    assert LINE.fullmatch(line)
    assert line.startswith("TOKENCTL CRITICAL - schema: no ledger; breakers: gemini is half open | time=")


@pytest.mark.parametrize(
    "text", ["a|b", "two\nlines", "tab\tand \r return", "  ", "'quoted' \"text\"", "\x1b[2J\u202e"]
)
def test_no_text_breaks_the_line(text: str) -> None:
    for line in (
        views.nagios(report(Check("database", "critical", text))),
        views.nagios_failure(ConfigError(f"x{text}")),
    ):
        assert LINE.fullmatch(line), line
        assert line.rstrip("\n").isprintable()


def test_where_no_check_was_made_it_is_unknown() -> None:
    assert views.nagios_failure(ConfigError("c.toml:1: unknown key")) == "TOKENCTL UNKNOWN - c.toml:1: unknown key\n"


@pytest.mark.parametrize(("state", "code"), [("warning", 1), ("critical", 2), ("unknown", 3)])
def test_a_report_that_is_not_ok_is_an_error_with_the_right_code(state: str, code: int) -> None:
    found = report(Check("a", "ok", ""), Check("b", state, "bad", "mend it"), Check("c", state, "worse"))
    error = views.failure(found)
    assert error is not None
    assert error.exit_code == code
    assert error.detail == f"{state.upper()}: 2 of 3 checks need attention (b, c)"
    assert error.hint == "b: mend it"
    assert views.was_printed(error)
    assert not views.was_printed(ConfigError("x"))


def test_one_check_needs() -> None:
    error = views.failure(report(Check("a", "warning", "")))
    assert error is not None
    assert error.detail == "WARNING: 1 of 1 check needs attention (a)"
    assert views.failure(report(Check("a", "ok", ""))) is None


def test_json_has_every_key_of_every_check() -> None:
    view = views.report(report(Check("database", "ok", "fine", gauges=GAUGES, took_s=0.0034)), metrics=False)
    assert view.schema.name == "tokenctl.health.v1"
    data = json.loads(json.dumps(json_ready(view.data)))
    [check] = data["checks"]
    assert data["state"] == view.value == "ok"
    assert sorted(check) == ["asked", "detail", "hint", "metrics", "name", "state", "took_ms", "values"]
    assert (check["hint"], check["took_ms"]) == (None, 3.4)
    assert check["metrics"][2] == {
        "name": "state_free", "value": 84693590016, "unit": "B", "state": "ok", "warning": "100000000:",
        "critical": "10000000:", "max": None,
    }  # fmt: skip


def test_metrics_follow_their_check() -> None:
    found = report(Check("database", "ok", "fine", gauges=GAUGES[:3]))
    assert views.report(found, metrics=False).table.rows == [("database", "ok", "fine")]
    assert views.report(found, metrics=True).table.rows == [
        ("database", "ok", "fine"),
        ("db_latency", "ok", "3.1 ms (warning above 100 ms, critical above 500 ms)"),
        ("db_connections", "ok", "4 (warning above 80, critical above 95)"),
        ("state_free", "ok", "85 GB (warning below 100 MB, critical below 10 MB)"),
    ]


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [(1583.718665, "26 min"), (12.3456, "12.3 s"), (0, "0 s"), (0.012345, "12.3 ms"), (93600.4, "26 h")],
)
def test_people_see_a_length_of_time_rounded_and_programs_all_of_it(age_s: float, shown: str) -> None:
    age = Gauge("import_age", age_s, "s", warn=Range(end=93600))
    view = views.report(report(Check("jobs", "ok", "fine", gauges=(age,))), metrics=True, indent="  ")
    assert view.table.rows[1] == ("  import_age", age.state, f"{shown} (warning above 26 h)")
    assert view.data["checks"][0]["metrics"][0]["value"] == age_s
