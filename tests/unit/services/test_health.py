"""Which checks run, how one that fails or hangs affects the others, and how long anybody waits."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tokenctl.errors import Fault, NotAllowed, TokenctlError, Unavailable
from tokenctl.resilience.breaker import BreakerPolicy, Breakers
from tokenctl.resilience.events import ignore
from tokenctl.resilience.notes import SCHEMA
from tokenctl.services import health
from tokenctl.services import health_files as files
from tokenctl.services.health_report import Check, HealthReport
from tokenctl.settings import Flags, Settings, load
from tokenctl.statefile import StateFile

ENOUGH_S = 60.0
SOON_S = 0.05
LOCAL = ("breakers", "cache", "state", "keys")


def settings(tmp_path: Path, **env: str) -> Settings:
    return load({"HOME": str(tmp_path), "TOKENCTL_DATABASE_URL": "postgresql://db.example/x", **env}, Flags())


def embedded(tmp_path: Path) -> Settings:
    return load({"HOME": str(tmp_path)}, Flags())


def refuse(error: TokenctlError) -> Callable[[], Any]:
    def connect() -> Any:
        raise error

    return connect


#: The name of the database's own breaker.
OWN = "db:0123abcd"


def hang(let_go: threading.Event) -> Callable[[], Any]:
    def connect() -> Any:
        let_go.wait(ENOUGH_S)
        raise Unavailable("late")

    return connect


def sources(
    given: Settings,
    connect: Callable[[], Any],
    *,
    made: bool = True,
    opened: Collection[str] = (),
) -> health.Sources:
    kept = Breakers(
        StateFile(given.state_dir / "state.db", SCHEMA),
        clock=lambda: 0.0,
        boot_id="boot",
        rng=random.Random(1),  # noqa: S311 — it spreads probes
        emit=ignore,
    )
    for name in opened:
        kept.breaker(name, name, BreakerPolicy(consecutive=1)).failed("unavailable")
    return health.Sources(
        settings=given,
        breaker=OWN,
        database=lambda: SimpleNamespace(bare=connect),  # type: ignore[arg-type,return-value]  # all that is used
        embedded=lambda: SimpleNamespace(is_initialised=lambda: made),  # type: ignore[arg-type,return-value]  # as above
        breakers=lambda: kept,
    )


def states(report: HealthReport) -> dict[str, str]:
    return {check.name: check.state for check in report.checks}


def test_names_are_known_or_refused() -> None:
    assert health.named("keys") == ("keys",)
    assert health.named("jobs,durability") == ("jobs", "durability")
    for wrong in ("db", "", "keys,", "keys, jobs", "Keys"):
        with pytest.raises(ValueError, match="there is no check"):
            health.named(wrong)


def test_a_database_that_is_down_is_told_once(tmp_path: Path) -> None:
    down = Unavailable("the database at x does not answer", hint="is the server up?")
    report = health.look(health.BASIC, sources(settings(tmp_path), refuse(down)))
    assert [check.name for check in report.checks] == list(health.BASIC)
    assert states(report) == {
        "database": "critical", "schema": "unknown", "jobs": "unknown", **dict.fromkeys(LOCAL, "ok"),
    }  # fmt: skip
    assert report.state == "critical"
    assert [(check.name, check.detail, check.hint) for check in report.troubled] == [
        ("database", "the database at x does not answer", "is the server up?")
    ]
    assert [check.detail for check in report.checks if not check.asked] == ["not asked, because of database"] * 2


def test_the_first_check_that_needs_the_database_tells_of_it(tmp_path: Path) -> None:
    report = health.look({"jobs", "triggers"}, sources(settings(tmp_path), refuse(NotAllowed("no"))))
    assert states(report) == {"jobs": "critical", "triggers": "unknown"}


def test_checks_of_files_need_no_database(tmp_path: Path) -> None:
    asked: list[int] = []
    report = health.look(LOCAL, sources(settings(tmp_path), lambda: asked.append(1)))
    assert states(report) == dict.fromkeys(LOCAL, "ok")
    assert asked == []


class Asked:
    """A connection whose first question lasts until the thread of another check has ended."""

    def __init__(self, others: queue.SimpleQueue[threading.Thread]) -> None:
        self._others = others
        self.closed = False

    def cursor(self, **_how: object) -> Any:
        self._others.get(timeout=ENOUGH_S).join(ENOUGH_S)
        raise NotAllowed("closed under my hands" if self.closed else "asked to the end")

    def close(self) -> None:
        self.closed = True


def test_no_other_check_closes_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, others = threading.Event(), queue.SimpleQueue[threading.Thread]()
    connection = Asked(others)

    def connect() -> Asked:
        asked.set()
        return connection

    def cache(_path: Path, *, ttl_s: float) -> Check:
        asked.wait(ENOUGH_S)
        others.put(threading.current_thread())
        return Check("cache", "ok", f"{ttl_s}")

    monkeypatch.setattr(files, "cache", cache)
    report = health.look({"database", "cache"}, sources(settings(tmp_path), connect))
    assert report.checks[0].detail == "asked to the end"
    assert connection.closed


def test_a_check_that_hangs_is_critical_within_its_own_time(tmp_path: Path) -> None:
    let_go = threading.Event()
    hangs = sources(settings(tmp_path), hang(let_go))
    report = health.look({"database", "schema", "cache"}, hangs, limit_s=SOON_S)
    let_go.set()
    assert states(report) == {"database": "critical", "schema": "unknown", "cache": "ok"}
    assert report.checks[0].detail == "no answer within 0.05 s"


def test_the_whole_commands_time_makes_it_unknown(tmp_path: Path) -> None:
    let_go = threading.Event()
    hangs = sources(settings(tmp_path, TOKENCTL_TIMEOUT="0.05"), hang(let_go))
    report = health.look({"database", "cache"}, hangs, until=time.monotonic() + SOON_S)
    let_go.set()
    assert states(report) == {"database": "unknown", "cache": "ok"}
    assert report.state == "unknown"
    assert report.checks[0].detail == "no answer before the command was out of time (0.05 s)"


def test_a_bug_in_one_check_is_unknown_and_stops_no_other(tmp_path: Path) -> None:
    def bug() -> None:
        raise KeyError("secret")

    report = health.look({"database", "keys"}, sources(settings(tmp_path), bug))
    assert states(report) == {"database": "unknown", "keys": "ok"}
    assert report.checks[0].detail == "unexpected KeyError"


def test_an_embedded_database_that_was_never_made_is_unknown_and_not_made(tmp_path: Path) -> None:
    report = health.look({"database", "schema"}, sources(embedded(tmp_path), lambda: pytest.fail("asked"), made=False))
    assert states(report) == {"database": "unknown", "schema": "unknown"}
    assert report.checks[0].detail == "there is no embedded database yet"
    assert "tokenctl db start" in report.checks[0].hint
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_server_that_is_stopped_is_critical(tmp_path: Path) -> None:
    down = Unavailable("the database at /x does not answer")
    down.fault = Fault.CONNECT
    [check] = health.look({"database"}, sources(embedded(tmp_path), refuse(down))).checks
    assert (check.state, check.detail) == ("critical", "the embedded server does not run")
    assert "tokenctl db start" in check.hint


def test_breakers_of_other_databases_are_not_its_business(tmp_path: Path) -> None:
    given = settings(tmp_path)
    opened = ("db:ffffffff", OWN, "gemini", "gemini-key:a1", "pushgateway")
    [check] = health.look({"breakers"}, sources(given, refuse(Unavailable()), opened=opened)).checks
    assert check.state == "warning"
    assert [one["name"] for one in check.values["breakers"]] == [OWN, "gemini", "gemini-key:a1"]


def test_the_databases_breaker_stays_open_while_it_does_not_answer(tmp_path: Path) -> None:
    given = settings(tmp_path)
    there = sources(given, refuse(Unavailable("no")), opened=[OWN])
    report = health.look({"database", "breakers"}, there)
    assert states(report) == {"database": "critical", "breakers": "warning"}
    assert [one.name for one in there.breakers().states()] == [OWN]


def test_a_state_file_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    given = settings(tmp_path)
    given.state_dir.mkdir(parents=True)
    given.state_dir.chmod(0o777)
    report = health.look({"breakers", "state"}, sources(given, refuse(Unavailable())))
    assert states(report) == {"breakers": "warning", "state": "warning"}
    assert "the state file cannot be used" in report.checks[0].detail


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def looks(*found: str) -> Callable[[], HealthReport]:
    """Looks that find these states, the last one for ever."""
    left = list(found)
    return lambda: HealthReport((Check("database", left.pop(0) if len(left) > 1 else left[0], ""),), 0.0)


def test_waiting_ends_as_soon_as_all_is_ok() -> None:
    clock = Clock()
    report = health.wait(looks("critical", "warning", "ok"), 60, clock=clock, sleep=clock.sleep)
    assert report.state == "ok"
    assert clock.slept == pytest.approx([0.1, 0.15])
    assert health.wait(looks("ok"), 60, clock=clock, sleep=lambda _s: pytest.fail("slept")).state == "ok"


@pytest.mark.parametrize(("until", "end"), [(None, 105.0), (103.0, 103.0), (200.0, 105.0)])
def test_waiting_is_bounded_and_pauses_stay_short(until: float | None, end: float) -> None:
    clock = Clock()
    report = health.wait(looks("critical"), 5, until=until, clock=clock, sleep=clock.sleep)
    assert report.state == "critical"
    assert clock.now == pytest.approx(end)
    assert max(clock.slept) <= 1.0


def test_a_report_is_as_bad_as_its_worst_check() -> None:
    def of(*found: str) -> str:
        return HealthReport(tuple(Check(f"c{n}", state, "") for n, state in enumerate(found)), 0.0).state

    assert of("ok", "ok") == "ok"
    assert of("ok", "warning") == "warning"
    assert of("unknown", "warning") == "unknown"
    assert of("warning", "critical", "unknown") == "critical"
