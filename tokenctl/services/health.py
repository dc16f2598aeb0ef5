"""`health`: which checks there are, how they run side by side, and how long anybody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenctl import commandline
from tokenctl.errors import ConfigError, Fault, HealthUnknown, TimedOut, TokenctlError
from tokenctl.services import health_files as files
from tokenctl.services import health_rules as rules
from tokenctl.services.health_report import Check, HealthReport, Limits, Range
from tokenctl.services.lanes import Ended, Lane, Step

if TYPE_CHECKING:
    from tokenctl.resilience.breaker import Breakers
    from tokenctl.settings import Settings
    from tokenctl.storage.database import Database
    from tokenctl.storage.embedded import EmbeddedServer
    from tokenctl.storage.health import Probe

#: The checks of every run in the order in which they are shown, and those that --deep adds.
BASIC = ("database", "schema", "breakers", "cache", "state", "keys", "jobs")
DEEP = ("durability", "triggers", "functions", "privileges")
_ASKING = {"database", "schema", "jobs", *DEEP}  # the database
#: Seconds that one check may take.
LIMIT_S = 3.0
_NO_LIMITS = Limits()
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 1.0

Work = Callable[[], Check]


@dataclass(frozen=True)
class Sources:
    """Where the checks look. What may fail to be built is built by the check that needs it.

    `breaker` is the name of the database's own; None where it has none.
    """

    settings: Settings
    breaker: str | None
    database: Callable[[], Database]
    embedded: Callable[[], EmbeddedServer]
    breakers: Callable[[], Breakers]


def named(text: str) -> tuple[str, ...]:
    """The checks in a list joined by commas; raises ValueError for one that is unknown."""
    names = tuple(text.split(","))
    for name in names:
        if name not in (*BASIC, *DEEP):
            raise ValueError(f"there is no check '{name}'; there are {', '.join((*BASIC, *DEEP))}")
    return names


def limits_named(pairs: Iterable[tuple[str, Range]], names: Collection[str]) -> dict[str, Range]:
    """Ranges by gauge; raises ValueError for one unknown, given twice or not measured by the checks `names`."""
    limits: dict[str, Range] = {}
    for name, normal in pairs:
        if name not in rules.GAUGES:
            raise ValueError(f"there is no measured '{name}'; there are {', '.join(rules.GAUGES)}")
        if name in limits:
            raise ValueError(f"{name} is given twice")
        if rules.GAUGES[name] not in names:
            raise ValueError(f"{name} is measured by the check {rules.GAUGES[name]}, which is not asked for")
        limits[name] = normal
    return limits


def look(
    names: Collection[str],
    sources: Sources,
    *,
    limits: Limits = _NO_LIMITS,
    limit_s: float = LIMIT_S,
    until: float | None = None,
) -> HealthReport:
    """Make the checks, each within `limit_s` seconds and all of them before `until` (of time.monotonic).

    `limits` take the place of the gauges' own.
    """
    started = time.monotonic()
    asker = _Asker(sources, limit_s)
    asking = _only(names, asker.questions()) if set(names) & _ASKING else {}
    lanes = [(list(asking), _lane(asking, asker.close))] if asking else []
    lanes += [([name], _lane({name: work})) for name, work in _only(names, _local(sources.settings)).items()]
    found = [check for listed, lane in lanes for check in _collected(listed, lane, sources, limit_s, until)]
    if "breakers" in names or asker.answered:
        # Afterwards, because a database that answers has its breaker closed.
        last = _lane({"breakers": lambda: _breakers(sources, answered=asker.answered)})
        found += _collected(["breakers"], last, sources, limit_s, until)
    order = (*BASIC, *DEEP)
    kept = sorted((check for check in found if check.name in names), key=lambda check: order.index(check.name))
    return HealthReport(tuple(rules.limited(check, limits) for check in kept), time.monotonic() - started)


def wait(
    again: Callable[[], HealthReport],
    wait_s: float,
    *,
    until: float | None = None,
    tell: Callable[[HealthReport], None] = lambda _report: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> HealthReport:
    """Look until all is ok, or `wait_s` seconds have passed, or it is `until`; the last report counts.

    `tell` hears of the first one when it is not ok.
    """
    deadline, pause_s = clock() + wait_s, _FIRST_PAUSE_S
    if until is not None:
        deadline = min(deadline, until)
    told = False
    while (report := again()).state != "ok" and (left := deadline - clock()) > 0:
        if not told:
            tell(report)
            told = True
        sleep(min(pause_s, left))
        pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)
    return report


class _Asker:
    """The checks that ask the database, all on one connection."""

    def __init__(self, sources: Sources, limit_s: float) -> None:
        self._sources = sources
        self._limit_s = limit_s
        self._made: Probe | None = None

    @property
    def answered(self) -> bool:
        """Whether the database gave an answer, whatever that says of its health."""
        return self._made is not None and self._made.answered

    def questions(self) -> dict[str, Work]:
        """The checks by name, in the order in which they are asked."""
        # Here, so that no check's time has an import in it.
        from tokenctl.storage.health import Probe
        from tokenctl.storage.migrations import newest_version

        def probe() -> Probe:
            if self._made is None:
                self._demand_database()
                self._made = Probe(self._sources.database(), timeout_s=self._limit_s)
            return self._made

        max_age_s = self._sources.settings.health.import_max_age_s
        return {
            "database": lambda: rules.database(probe().server()),
            "schema": lambda: rules.schema(probe().schema(), needs=newest_version()),
            "jobs": lambda: rules.jobs(probe().jobs(), max_age_s=max_age_s),
            "durability": lambda: rules.durability(probe().durability()),
            "triggers": lambda: rules.triggers(probe().bad_triggers()),
            "functions": lambda: rules.functions(probe().loose_functions()),
            "privileges": lambda: rules.privileges(probe().privileges()),
        }

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._made is not None:
            self._made.close()

    def _demand_database(self) -> None:
        """Refuse to look for an embedded database that nobody has made: looking must not make it."""
        if self._sources.settings.database.kind == "embedded" and not self._sources.embedded().is_initialised():
            raise HealthUnknown(
                "there is no embedded database yet",
                hint=f"the first command makes it, or: {commandline.line('db', 'start')}",
            )


def _local(settings: Settings) -> dict[str, Work]:
    """The checks that look at files."""
    gemini = settings.gemini
    return {
        "cache": lambda: files.cache(settings.cache_dir, ttl_s=settings.cache_ttl_s),
        "state": lambda: files.state(settings.state_dir),
        "keys": lambda: files.keys(gemini.keys_file, gemini.key, expected=settings.health.expect_keys),
    }


def _breakers(sources: Sources, *, answered: bool) -> Check:
    """The breakers of this database and of Gemini; the database's is closed when it has `answered`."""
    own = sources.breaker
    try:
        kept = sources.breakers()
        listed = [one for one in kept.states() if one.name == own or one.name.startswith("gemini")]
        forgotten = kept.reset([own]) if own is not None and answered and any(one.name == own for one in listed) else []
    except ConfigError as error:  # commands go on without the file, and so does this
        return Check("breakers", "warning", error.detail, error.hint)
    was_open = any(one.name in forgotten and one.state != "closed" for one in listed)
    return rules.breakers([one for one in listed if one.name not in forgotten], closed=own if was_open else None)


def _only(names: Collection[str], works: Mapping[str, Work]) -> dict[str, Work]:
    return {name: work for name, work in works.items() if name in names}


def _lane(works: Mapping[str, Work], close: Callable[[], None] = lambda: None) -> Lane[Check]:
    return Lane([Step(name, work) for name, work in works.items()], close)


def _collected(
    names: Sequence[str], lane: Lane[Check], sources: Sources, limit_s: float, until: float | None
) -> Iterator[Check]:
    """The lane's checks; those that it did not come to are unknown."""
    last = ""
    reached = 0
    for ended in lane.ended(limit_s, until):
        over = until is not None and time.monotonic() >= until
        last, reached = ended.name, reached + 1
        yield replace(_check(ended, sources.settings, limit_s, over=over), took_s=ended.took_s)
    for name in names[reached:]:
        yield Check(name, "unknown", f"not asked, because of {last}", asked=False)


def _check(ended: Ended[Check], settings: Settings, limit_s: float, *, over: bool) -> Check:
    """How a step ended, as a check; `over` when the whole command is out of time."""
    name, error = ended.name, ended.error
    if ended.value is not None:
        return ended.value
    # A connection that was tried to the command's last moment tells no more than that nothing came until then.
    silent = error is None or isinstance(error, TimedOut) or getattr(error, "fault", None) is Fault.CONNECT
    if over and silent:
        return Check(name, "unknown", f"no answer before the command was out of time ({settings.timeout_s:g} s)")
    if error is None:
        return Check(name, "critical", f"no answer within {limit_s:g} s")
    if isinstance(error, HealthUnknown):
        return Check(name, "unknown", error.detail, error.hint)
    if isinstance(error, TokenctlError):
        if settings.database.kind == "embedded" and error.fault is Fault.CONNECT:
            hint = f"{commandline.line('db', 'start')}; other commands start it when they need it"
            return Check(name, "critical", "the embedded server does not run", hint)
        return Check(name, "critical", " ".join(error.detail.split()), error.hint)
    return Check(name, "unknown", f"unexpected {type(error).__name__}", "please report it")
