"""What `health` prints: a table, JSON, and the one line that monitoring plugins print."""

from __future__ import annotations

import math
from typing import Any

from tokenctl import errors
from tokenctl.output import Cell, Column, Schema, Table, TypedDict, View
from tokenctl.output.text import clean
from tokenctl.services.health_report import Check, Gauge, HealthReport, Range, digits
from tokenctl.services.health_rules import size, span
from tokenctl.wording import counted, fitting

# From here on a length of time is told in minutes and more.
_SPAN_S = 120
_FAILURES = {
    "warning": errors.NeedsAttention,
    "critical": errors.Unhealthy,
    "unknown": errors.HealthUnknown,
}


class GaugeData(TypedDict):
    """A measured number, and the ranges of Monitoring Plugins that it may not leave."""

    name: str
    value: float
    unit: str | None
    state: str
    warning: str | None
    critical: str | None
    max: float | None


class CheckData(TypedDict):
    """One check: ok, warning, critical or unknown. One that was not `asked` waits for another that failed."""

    name: str
    state: str
    detail: str
    hint: str | None
    asked: bool
    values: dict[str, Any]
    metrics: list[GaugeData]
    took_ms: float


class HealthData(TypedDict):
    """The state of all checks: the worst of them, and each."""

    state: str
    checks: list[CheckData]


HEALTH = Schema("tokenctl.health.v1", HealthData)


def report(found: HealthReport, *, metrics: bool, indent: str = "") -> View[HealthData]:
    """One row a check; with `metrics` what each has measured follows it, with the limits, `indent` before its name."""
    rows: list[tuple[Cell, ...]] = []
    for check in found.checks:
        rows.append((check.name, check.state, check.detail))
        rows += [(f"{indent}{gauge.name}", gauge.state, _measured(gauge)) for gauge in check.gauges if metrics]
    data: HealthData = {"state": found.state, "checks": [_check(check) for check in found.checks]}
    table = Table((Column("CHECK"), Column("STATE"), Column("DETAIL")), rows)
    return View(HEALTH, data, table, value=found.state)


def failure(found: HealthReport) -> errors.TokenctlError | None:
    """The error that ends the command with the right exit code; None when all is ok."""
    if found.state == "ok":
        return None
    troubled = found.troubled
    need = fitting(len(troubled), "needs", "need")
    names = ", ".join(check.name for check in troubled)
    among = f"{len(troubled)} of {counted(len(found.checks), 'check')}"
    detail = f"{found.state.upper()}: {among} {need} attention ({names})"
    hints = [f"{check.name}: {check.hint}" for check in troubled if check.hint]
    return _FAILURES[found.state](detail, hint="\n".join(hints))


def all_well(found: HealthReport) -> str:
    """The sentence for a report without troubles."""
    return f"{counted(len(found.checks), 'check')} ok"


def troubles(found: HealthReport) -> str:
    """What is wrong, the worst first, in one sentence."""
    return "; ".join(f"{check.name}: {check.detail}" for check in found.troubled)


def was_printed(error: errors.TokenctlError) -> bool:
    """Whether it is a report's `failure`, and not a reason why there is no report."""
    return type(error) in _FAILURES.values()


def nagios(found: HealthReport) -> str:
    """`TOKENCTL STATE - text | perfdata`, as the Monitoring Plugins guidelines have it."""
    text = troubles(found) or all_well(found)
    gauges = [gauge for check in found.checks for gauge in check.gauges]
    perfdata = " ".join(_perfdata(gauge) for gauge in [*gauges, Gauge("time", found.took_s, "s")])
    return f"TOKENCTL {found.state.upper()} - {_one_line(text)} | {perfdata}\n"


def nagios_failure(error: errors.TokenctlError) -> str:
    """The same line where no check was made."""
    return f"TOKENCTL UNKNOWN - {_one_line(error.detail)}\n"


def _check(check: Check) -> CheckData:
    return {
        "name": check.name,
        "state": check.state,
        "detail": check.detail,
        "hint": check.hint or None,
        "asked": check.asked,
        "values": check.values,
        "metrics": [_gauge(gauge) for gauge in check.gauges],
        "took_ms": round(check.took_s * 1000, 1),
    }


def _gauge(gauge: Gauge) -> GaugeData:
    return {
        "name": gauge.name,
        "value": round(gauge.value, 6),
        "unit": gauge.unit or None,
        "state": gauge.state,
        "warning": None if gauge.warn is None else str(gauge.warn),
        "critical": None if gauge.crit is None else str(gauge.crit),
        "max": gauge.most,
    }


def _measured(gauge: Gauge) -> str:
    """0.003 s (warning above 0.1 s, critical above 0.5 s)."""
    named = (("warning", gauge.warn), ("critical", gauge.crit))
    limits = [f"{state} {_abnormal(limit, gauge.unit)}" for state, limit in named if limit is not None]
    return _quantity(gauge.value, gauge.unit) + (f" ({', '.join(limits)})" if limits else "")


def _abnormal(normal: Range, unit: str) -> str:
    """Where a value needs attention: above 5, below 5, outside 5 to 10, from 5 to 10."""
    start, end = (_quantity(limit, unit) if math.isfinite(limit) else "" for limit in (normal.start, normal.end))
    if normal.inside:
        return f"from {start} to {end}" if start and end else f"up to {end}" if end else f"from {start} on"
    if not end:
        return f"below {start}"
    return f"above {end}" if normal.start <= 0 else f"outside {start} to {end}"


def _quantity(value: float, unit: str) -> str:
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "s":
        return span(value) if value >= _SPAN_S else f"{value:.3g} s"
    return size(value) if unit == "B" else f"{digits(value)} {unit}".rstrip()


def _perfdata(gauge: Gauge) -> str:
    """label=value[unit];warn;crit;min;max, with the limits as ranges."""
    limits = ["" if limit is None else str(limit) for limit in (gauge.warn, gauge.crit)]
    most = "" if gauge.most is None else digits(gauge.most)
    return f"{gauge.name}={digits(gauge.value)}{gauge.unit};{';'.join(limits)};0;{most}".rstrip(";")


def _one_line(text: str) -> str:
    """What may stand before the perfdata: one line, no bar, and nothing that steers a terminal."""
    return clean(" ".join(text.replace("|", "/").split()))
