"""Log lines as operations see them: who gets which, what stands in each, and what never does."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.errors import ConfigError, TokenctlError
from tokenctl.resilience import events
from tokenctl.settings import Log
from tokenctl.telemetry import logs, records

SECRET = "pä/ss'w\\ord&1"  # noqa: S105 — one that every way of quoting spells differently


class Stage:
    """A log file and a standard error that can be read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stderr: list[str] = []

    def begin(self, **given: Any) -> None:
        log = Log(**{"file": str(self.file), "level": "debug", **given})
        logs.configure(log, verbose=False, debug=False, stderr_write=self.stderr.append)

    def verbose(self, *, debug: bool = False, **given: Any) -> None:
        log = Log(**{"file": None, **given})
        logs.configure(log, verbose=True, debug=debug, stderr_write=self.stderr.append)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="ascii").splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield Stage(tmp_path / "log")
    logs.close()


def caught(work: Callable[[], object]) -> Exception:
    """The error that `work` raises, with its traceback."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 — that is the question
        return error
    pytest.fail("it did not fail")


def test_a_line_says_when_who_and_what(stage: Stage) -> None:
    stage.begin()
    with logs.bind(request_id="r1", operation="balance", operator="me@here"):
        logs.emit("warning", "retry", policy="connect", attempt=2, wait_s=0.25)
    line = stage.last
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("at"))
    assert line == {
        "level": "warning",
        "event": "retry",
        "request_id": "r1",
        "operation": "balance",
        "operator": "me@here",
        "pid": os.getpid(),
        "policy": "connect",
        "attempt": 2,
        "wait_s": 0.25,
    }


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "1970-01-01T00:00:00.000000Z"), (1_795_521_844.9999996, "2026-11-24T12:04:05.000000Z")],
)
def test_times_are_utc_with_microseconds(seconds: float, written: str) -> None:
    record = logging.LogRecord(records.OURS, logging.INFO, "", 0, "x", None, None)
    record.created = seconds
    assert json.loads(records.json_line(record, {}))["at"] == written
    assert records.human_line(record, {}) == f"{written[11:23]}Z x"


def test_outside_of_a_run_nothing_is_bound(stage: Stage) -> None:
    stage.begin()
    with (
        logs.bind(request_id="r1", operation="a", operator="b"),
        logs.bind(request_id="r2", operation="a", operator="b"),
    ):
        logs.emit("info", "inner")
    logs.emit("info", "outer")
    assert [line["request_id"] for line in stage.lines] == ["r2", None]


def test_threads_log_for_the_run_that_started_them(stage: Stage) -> None:
    stage.begin()
    with ThreadPoolExecutor(4) as pool:
        with logs.bind(request_id="r1", operation="batch-import", operator="me@here"):
            work = logs.carried(lambda n: logs.emit("info", "slice", attempt=n))
            started = [pool.submit(work, n) for n in range(20)]
        for future in started:  # also those that run after the run's end
            future.result()
        pool.submit(logs.emit, "info", "stranger").result()
    *slices, stranger = stage.lines
    assert sorted(line["attempt"] for line in slices) == list(range(20))
    assert {(line["request_id"], line["operation"]) for line in slices} == {("r1", "batch-import")}
    assert stranger["request_id"] is None


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", "dwie"), ("info", "wie"), ("warning", "we"), ("error", "e")],
)
def test_the_level_is_the_least_that_is_written(stage: Stage, level: str, kept: str) -> None:
    stage.begin(level=level)
    for event in ("debug", "warning", "info", "error"):
        logs.emit(event, event[0])
    assert [line["event"] for line in stage.lines] == list(kept)


def test_verbose_speaks_to_people_and_debug_adds_to_it(stage: Stage) -> None:
    stage.verbose()
    logs.emit("info", "retry", policy="connect", fault="connect", attempt=2, wait_s=0.2031)
    logs.emit("debug", "query", query="post", outcome="ok", duration_s=0.0123)
    logs.emit("warning", "trouble", what="cache", why="no room")
    logs.emit("info", "done", exit_code=0, traceback=["not for people"])
    shown = [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}Z ", "", line) for line in stage.stderr]
    assert shown == ["retry connect attempt 2 in 0.203 s", "warning: cache: no room", "done exit_code=0"]
    stage.verbose(debug=True)
    logs.emit("debug", "query", query="post", outcome="ok", duration_s=0.0123)
    assert stage.stderr[-1].endswith("Z query post: ok in 0.0123 s")


def test_verbose_does_not_change_the_file(stage: Stage) -> None:
    stage.verbose(file=str(stage.file), level="error")
    logs.emit("info", "a")
    logs.emit("error", "b")
    assert [line["event"] for line in stage.lines] == ["b"]
    assert [line[14:] for line in stage.stderr] == ["a", "error: b"]


def test_a_dash_is_standard_error_in_json_only(stage: Stage) -> None:
    stage.begin(file="-", level="warning")
    logs.emit("info", "a")
    logs.emit("warning", "b")
    stage.verbose(file="-", level="warning")
    logs.emit("info", "c")
    assert [json.loads(line)["event"] for line in stage.stderr] == ["b", "c"]


def test_when_nobody_asks_nothing_is_written(stage: Stage) -> None:
    logs.configure(Log(), verbose=False, debug=True, stderr_write=stage.stderr.append)
    logs.emit("error", "lost")
    logs.exception(ValueError("lost"))
    stage.begin()
    logs.close()
    logs.close()
    logs.emit("error", "lost")
    assert (stage.file.exists(), stage.stderr) == (False, [])
    assert not any(isinstance(handler, records.Lines) for handler in logging.getLogger().handlers)


def test_a_command_without_a_log_does_not_import_logging() -> None:
    code = (
        "import sys; from tokenctl.settings import Log; from tokenctl.telemetry import logs;"
        "logs.configure(Log(), verbose=False, debug=False, stderr_write=print); logs.hide('s3cret');"
        "logs.emit('error', 'x'); logs.close();"
        "print({'logging', 'json', 'fcntl', 'threading'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "set()\n"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.lists(st.text()), st.dates()))
def test_whatever_a_value_holds_its_line_is_one_line_of_strict_json(value: object) -> None:
    """One line for every reader: none of the characters at which one of them might begin another."""
    record = logging.LogRecord(records.OURS, logging.INFO, "", 0, str(value), None, None)
    record.fields = {"why": value, str(value): value}
    bound = {"request_id": str(value), "operation": str(value), "operator": str(value)}
    line = records.json_line(record, bound)
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line, parse_constant=pytest.fail)
    assert list(read)[:7] == ["at", "level", "event", "request_id", "operation", "operator", "pid"]
    assert (read["level"], read["pid"]) == ("info", os.getpid())
    assert json.dumps(read, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a\n{}", "a\n{}"),
        ("\x1b[2J", "\x1b[2J"),
        ("\udc80", r"\udc80"),
        (10**5000, "[a whole number of 16610 bits]"),
        (2**53, "[a whole number of 54 bits]"),
        (2**53 - 1, 2**53 - 1),
        (float("nan"), "[nan]"),
        (float("-inf"), "[-inf]"),
        (True, True),
        (events.Trouble("a", "b"), "[Trouble]"),
        (object(), "[object]"),
        (b"bytes", "[bytes]"),
        ({"password": "x"}, "[dict]"),
        (Path("/a/b"), "/a/b"),
        (("a", ["b"], 1, object()), ["a", "[list]", 1, "[object]"]),
        ("x" * 2001, "x" * 2000 + "[and 1 more]"),
        (["x"] * 61, ["x"] * 60 + ["[and 1 more]"]),
    ],
    ids=itertools.count(),
)
def test_how_odd_values_are_written(stage: Stage, value: object, written: object) -> None:
    stage.begin()
    logs.emit("info", "x", why=value)
    assert stage.last["why"] == written


def test_only_listed_fields_are_written_and_none_replaces_the_head(stage: Stage) -> None:
    stage.begin()
    logs.emit("info", "x", password="a", token="b", api_key="c", dsn="d", why="e", pid=1, at=2, request_id=3)  # noqa: S106
    line = stage.last
    hidden = dict.fromkeys(("password", "token", "api_key", "dsn"), "[unlisted]")
    assert {key: line[key] for key in (*hidden, "why", "pid", "request_id")} == {
        **hidden,
        "why": "e",
        "pid": os.getpid(),
        "request_id": None,
    }


def test_every_field_of_every_event_can_be_logged() -> None:
    """`operation` is the run's, so a query's own goes by the name `query`."""
    fields = {field.name for event in get_args(events.Event) for field in dataclasses.fields(event)}
    assert fields - {"operation"} <= records.LISTED


def test_no_spelling_of_a_secret_is_written(stage: Stage) -> None:
    stage.begin()
    logs.hide(SECRET)
    spelled = [
        SECRET,
        SECRET.upper(),
        repr(SECRET),
        json.dumps(SECRET),
        "p%c3%a4/ss%27w%5Cord%261",
        "p%C3%A4%2Fss%27w%5cord%261",
        r"pä/ss\'w\\ord&1",
        "x" * 1990 + SECRET,
    ]
    logs.emit("info", SECRET, why=spelled, what=f"to {SECRET} and back", **{SECRET: 1})
    with logs.bind(request_id=SECRET, operation=SECRET, operator=SECRET):
        logs.exception(ConfigError(f"no such place: {SECRET}"))
    text = stage.file.read_text()
    assert "ord&1" not in text.lower()
    assert "ord%261" not in text.lower()
    assert stage.lines[0]["what"] == "to [hidden] and back"
    assert stage.lines[1]["message"] == "no such place: [hidden]"


def test_the_secrets_of_one_run_are_none_of_the_next_one(stage: Stage) -> None:
    stage.begin()
    logs.hide_address(f"password={SECRET}")
    logs.close()
    stage.begin()
    logs.emit("info", "x", why=SECRET)
    assert stage.last["why"] == SECRET


def test_an_error_is_told_by_its_places_and_not_its_values(stage: Stage) -> None:
    class DriverError(Exception):
        sqlstate = "28P01"

    def fail() -> None:
        local_value = "S3CRET"
        try:
            raise DriverError(local_value)
        except DriverError as error:
            raise KeyError(local_value) from error

    stage.begin()
    logs.exception(caught(fail))
    line = stage.last
    assert (line["level"], line["error"], line["message"]) == ("error", "KeyError", "")
    told = [re.sub(r"^  .*/(\w+\.py):\d+ ", r"\1 ", step) for step in line["traceback"]]
    assert told == [
        "KeyError",
        "test_logs.py caught",
        "test_logs.py fail",
        "DriverError",
        "test_logs.py fail",
    ]
    assert "S3CRET" not in json.dumps(stage.lines)
    logs.exception(DriverError("S3CRET"))
    assert (stage.last["message"], stage.last["sqlstate"]) == ("", "28P01")


def test_how_much_an_error_may_say(stage: Stage) -> None:
    def endless() -> None:
        endless()

    stage.begin()
    for error, message in (
        (ConfigError("our words", hint="h"), "our words"),
        (FileNotFoundError(2, "No such file", "/secret/place"), "No such file"),
        (OSError(), ""),
        (ConfigError("two\nlines"), "two\nlines"),
        (ValueError("a person's 'S3CRET'"), ""),
        (UnicodeDecodeError("utf-8", b"S3CRET\xff", 6, 7, "bad"), ""),
    ):
        logs.exception(error)
        assert stage.last["message"] == message
    logs.exception(caught(endless))
    assert len(stage.last["traceback"]) == 21
    loop = TokenctlError("a")
    loop.__cause__ = TokenctlError("b")
    loop.__cause__.__cause__ = loop
    logs.exception(loop)
    assert len(stage.last["traceback"]) <= 60


def test_a_library_may_warn_and_its_values_stay_out(stage: Stage) -> None:
    stage.begin(level="info")
    driver = logging.getLogger("driver")
    driver.setLevel(logging.DEBUG)  # as some libraries do
    driver.warning("ignored on %s: %s", "S3CRET", "DETAIL: Key (user_id)=(u1)")
    driver.info("connected")
    driver.error(ValueError("S3CRET"))
    shown = [(line["event"], line["library"], line["message"]) for line in stage.lines]
    assert shown == [("library", "driver", "ignored on %s: %s"), ("library", "driver", "ValueError")]


def test_logging_never_raises(stage: Stage) -> None:
    class Vicious(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:
            raise RuntimeError

    def refuse(_line: str) -> None:
        raise RuntimeError

    logs.configure(Log(file="-"), verbose=False, debug=False, stderr_write=refuse)
    logs.emit("error", "x", why=Vicious("x"))
    stage.begin()
    logs.emit("error", "x", why=Vicious("x"), what=Vicious("y"))
    assert stage.last["why"] == "x"
