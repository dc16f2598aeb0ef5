"""One image in at most three calls: what is tried again, with which key, and how it ends."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import gemini_server as fake
from tests.gemini_server import GeminiServer, Reply, serving
from tests.pictures import REAL, png
from tests.unit.resilience.breaker_world import World
from tokenctl.clients import generator
from tokenctl.clients.gemini import Gemini
from tokenctl.clients.generation import Outcome, Request, Usage
from tokenctl.clients.generator import Generator
from tokenctl.clients.images import judge
from tokenctl.clients.keyfile import Key
from tokenctl.clients.keymarks import SCHEMA, KeyMarks
from tokenctl.clients.keyring import Keyring
from tokenctl.errors import (
    BadData,
    BreakerOpen,
    ConfigError,
    ContentRefused,
    GeminiUnavailable,
    NoImage,
    NoInput,
    RateLimited,
    TimedOut,
    TokenctlError,
)
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.events import Retried
from tokenctl.settings import Log
from tokenctl.statefile import StateFile
from tokenctl.telemetry import catalog, logs, metrics
from tokenctl.telemetry.metrics import Metrics

MODEL = "gemini-3-pro-image"
A = Key("a", "p1", "AIzaSy-secret-of-key-a")
B = Key("b", "p1", "AIzaSy-secret-of-key-b")
C = Key("c", "p2", "AIzaSy-secret-of-key-c")
PROMPT = "a very private prompt"


class Luck(random.Random):
    """Always the longest wait, so that the waits can be compared."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 — as the base class has it
        return b


class Desk:
    """A generator with its server, on a clock that only sleeping moves."""

    def __init__(self, server: GeminiServer, world: World, folder: Path) -> None:
        self.server = server
        self.world = world
        self.folder = folder
        self.slept: list[float] = []
        self.metrics = Metrics(StateFile(folder / "state" / "metrics.db", metrics.SCHEMA))
        self.closing: list[Generator] = []
        self.limit_s: float | None = None

    def generator(self, *keys: Key, force: bool = False) -> Generator:
        """As a new process has it."""

        def hear(event: Any) -> None:
            self.world.events.append(event)

        breakers = self.world.breakers(force=force)
        marks = KeyMarks(StateFile(self.folder / "state" / "keys.db", SCHEMA), emit=hear)
        keyring = Keyring(
            keys or (A, B, C),
            breakers=breakers,
            marks=marks,
            state=self.world.file,
            clock=self.clock,
            boot_id=self.world.boot,
            emit=hear,
        )
        made = Generator(
            lambda: Gemini(self.server.url, "v1beta"),
            keyring,
            breakers=breakers,
            metrics=self.metrics,
            emit=hear,
            sleep=self.sleep,
            clock=self.clock,
            rng=Luck(),
        )
        self.closing.append(made)
        return made

    def clock(self) -> float:
        return self.world.now

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(round(seconds, 3))
        self.world.now += seconds

    def request(self, quality: Any = "1K") -> Request:
        path = self.folder / "a.png"
        if not path.exists():
            path.write_bytes(REAL["png"])
        return Request(MODEL, PROMPT, (judge(path),), quality)

    def generate(self, *keys: Key, on: Generator | None = None, quality: Any = "1K") -> Outcome:
        asked = on or self.generator(*keys)
        deadline = Deadline(self.limit_s, clock=self.clock)
        return asked.generate(self.request(quality), deadline=deadline, request_id="req-1")

    def fails(self, kind: type[TokenctlError], *keys: Key, on: Generator | None = None) -> TokenctlError:
        with pytest.raises(kind) as caught:
            self.generate(*keys, on=on)
        assert type(caught.value) is kind
        for text in (caught.value.detail, caught.value.hint, str(caught.value.context)):
            assert "AIzaSy" not in text
            assert "private" not in text
        return caught.value

    @property
    def keys(self) -> str:
        """The last letters of the keys that were sent, in their order."""
        return "".join(key[-1] for key in self.server.keys)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with serving() as server:
        world = World(tmp_path, monkeypatch)
        world.luck = Luck()  # type: ignore[assignment]
        made = Desk(server, world, tmp_path)
        yield made
        for one in made.closing:
            one.close()


def test_the_first_call_is_mostly_the_only_one(desk: Desk) -> None:
    desk.server.script.append(fake.image(png(1024, 1024)))
    found = desk.generate()
    assert found == Outcome(
        png(1024, 1024), "image/png", 1024, 1024, "r-1", "gemini-test-001", Usage(800, 1120, 90, 2010)
    )
    assert (desk.keys, desk.slept) == ("a", [])


# What one failure leads to: the replies, the keys that are asked, the waits, and how it ends.
Case = tuple[list[Reply], str, list[float], type[TokenctlError] | None]
CASES: dict[str, Case] = {
    "a server error passes": ([fake.error(503), fake.error(500), fake.image()], "aaa", [2, 4], None),
    "a proxy's page passes": ([fake.html(), fake.image()], "aa", [2], None),
    "a server that wants time gets it": ([fake.error(503, retry_after="20"), fake.image()], "aa", [20], None),
    "a server error stays": ([fake.error(503)] * 4, "aaa", [2, 4], GeminiUnavailable),
    "a lost answer is asked for once more": ([fake.closed(), fake.image()], "aa", [2], None),
    "and not twice": ([fake.reset(), fake.truncated(), fake.image()], "aa", [2], TimedOut),
    "nor is an answer that is none": ([fake.body(b"{}"), fake.body(b"[]"), fake.image()], "aa", [2], GeminiUnavailable),
    "a redirect is no answer": ([fake.redirect("http://127.0.0.1:1/")] * 3, "aa", [2], GeminiUnavailable),
    "no image is asked for once more": ([fake.finished("NO_IMAGE"), fake.image()], "aa", [2], None),
    "and then it is the end": ([fake.parts({"text": "no"}), fake.finished("OTHER"), fake.image()], "aa", [2], NoImage),
    "a blocked prompt is the end": ([fake.blocked(), fake.image()], "a", [], ContentRefused),
    "unsafe images are the end": ([fake.finished("IMAGE_SAFETY"), fake.image()], "a", [], ContentRefused),
    "a wrong request is the end": ([fake.error(400, "INVALID_ARGUMENT"), fake.image()], "a", [], BadData),
    "a request too large is the end": ([fake.error(413), fake.image()], "a", [], BadData),
    "a wrong country is the end": ([fake.error(400, "FAILED_PRECONDITION"), fake.image()], "a", [], ConfigError),
    "an unknown model is the end": ([fake.error(404, "NOT_FOUND"), fake.image()], "a", [], ConfigError),
    "a rejected key gives way to the next": ([fake.rejected(), fake.image()], "ab", [], None),
    "three rejected keys are the end": ([fake.rejected()] * 4, "abc", [], ConfigError),
    "a full quota goes to another project": ([fake.exhausted(9), fake.image()], "ac", [], None),
    "every quota full: wait": ([fake.exhausted(9), fake.exhausted(20), fake.image()], "aca", [10], None),
    "every quota full for a day": ([fake.exhausted(9, period="Day")] * 2, "ac", [], RateLimited),
    "a mixture has three calls too": (
        [fake.error(503), fake.exhausted(9), fake.finished("NO_IMAGE"), fake.image()], "aac", [2], NoImage,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_failure_leads_to(desk: Desk, case: str) -> None:
    script, keys, slept, ends = CASES[case]
    desk.server.script.extend(script)
    if ends is None:
        desk.generate()
    else:
        desk.fails(ends)
    assert (desk.keys, desk.slept) == (keys, slept)
    retried = [event for event in desk.world.events if isinstance(event, Retried)]
    assert [event.wait_s for event in retried if event.wait_s] == slept


def test_with_one_key_a_full_quota_is_waited_for(desk: Desk) -> None:
    desk.server.script.extend([fake.exhausted(37.5), fake.image()])
    desk.generate(A)
    assert (desk.keys, desk.slept) == ("aa", [38.5])


def test_a_wait_of_more_than_a_minute_is_left_to_the_caller(desk: Desk) -> None:
    desk.server.script.append(fake.exhausted(75))
    error = desk.fails(RateLimited, A)
    assert error.detail == (
        "the quota of the project p1 is used up (429 RESOURCE_EXHAUSTED: You exceeded your current quota.); "
        "a key can be used again in 75 s"
    )
    assert (error.context["retry_after_s"], error.exit_code, desk.slept) == (75, 75, [])
    again = desk.fails(RateLimited, A)
    assert again.detail == "every Gemini key is cooling down; a key can be used again in 75 s"
    assert desk.keys == "a"


def test_a_later_run_goes_on_with_the_key_that_went_well(desk: Desk) -> None:
    desk.server.script.extend([fake.rejected(), fake.image(), fake.image()])
    desk.generate()
    desk.generate()
    assert desk.keys == "abb"


def test_three_failures_open_the_models_breaker_for_every_process(desk: Desk) -> None:
    desk.server.script.extend([fake.error(503)] * 3)
    desk.fails(GeminiUnavailable)
    error = desk.fails(BreakerOpen)
    assert (error.context["breaker"], error.exit_code) == (f"gemini-model:{MODEL}", 69)
    assert desk.keys == "aaa"
    desk.server.script.append(fake.image())
    desk.generate(on=desk.generator(force=True))
    desk.server.script.append(fake.image())
    desk.generate()


def test_a_transport_that_fails_opens_that_of_gemini_and_a_probe_closes_it(desk: Desk) -> None:
    desk.server.script.extend([fake.closed()] * 3)
    desk.fails(TimedOut)
    desk.fails(TimedOut)  # and not BreakerOpen, which came of the call before the last
    assert desk.keys == "aaa"
    assert desk.fails(BreakerOpen).context["breaker"] == "gemini"
    desk.world.now += 20
    desk.server.script.append(fake.blocked())
    desk.fails(ContentRefused)  # an answer, so it is well
    desk.server.script.append(fake.image())
    desk.generate()


def test_refusals_are_no_failures_of_gemini(desk: Desk) -> None:
    for reply in [fake.blocked(), fake.error(400), fake.finished("IMAGE_SAFETY"), fake.error(404), fake.blocked()]:
        desk.server.script.append(reply)
        with pytest.raises(TokenctlError):
            desk.generate()
    assert desk.world.breakers().states() == []


def test_no_further_call_begins_when_it_could_not_end(desk: Desk) -> None:
    desk.server.script.extend([fake.error(503), fake.image()])
    desk.limit_s = 16.5
    desk.fails(GeminiUnavailable)
    assert (desk.keys, desk.slept) == ("a", [])


def test_without_time_nothing_is_asked(desk: Desk) -> None:
    desk.limit_s = 0
    desk.fails(TimedOut)
    assert desk.server.asked == []


@pytest.mark.parametrize(("quality", "call_s", "total_s"), [("1K", 90, 300), ("2K", 120, 420), ("4K", 240, 600)])
def test_a_call_and_all_calls_have_their_time_by_quality(desk: Desk, quality: Any, call_s: int, total_s: int) -> None:
    assert (generator.CALL_S[quality], generator.TOTAL_S[quality]) == (call_s, total_s)
    desk.server.script.append(fake.image())
    desk.generate(quality=quality)
    assert desk.server.asked[0].headers["x-server-timeout"] == [str(call_s)]


def test_a_silent_server_is_left_at_the_deadline_and_not_blamed_for_it(desk: Desk) -> None:
    desk.server.script.append(fake.silent())
    desk.limit_s = 0.3
    error = desk.fails(TimedOut)
    assert error.detail == "Gemini gave no whole answer in time in 1 call"
    assert desk.world.breakers().states() == []


def test_an_interrupted_call_is_measured_and_gives_its_try_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.server.script.extend([fake.closed(), fake.closed()])
    desk.fails(TimedOut)
    desk.server.script.append(fake.closed())
    desk.fails(TimedOut)
    desk.world.now += 20

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Gemini, "generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            desk.generate()
    desk.metrics.flush()
    labels = [one.labels for one in desk.metrics.stored()]
    assert labels == [("1K", "ambiguous"), ("1K", "interrupted")]
    desk.server.script.append(fake.image())
    desk.generate()


def test_a_changed_file_is_told_before_anything_is_sent(desk: Desk) -> None:
    request = desk.request()
    request.images[0].path.write_bytes(REAL["jpeg"])
    with pytest.raises(NoInput):
        desk.generator().generate(request, deadline=Deadline(None), request_id="req-1")
    assert desk.server.asked == []


def test_a_file_that_changed_between_two_calls_is_not_told_as_if_nothing_was_sent(desk: Desk) -> None:
    request = desk.request()
    desk.server.script.append(fake.error(503))

    def changes(_seconds: float) -> None:
        request.images[0].path.write_bytes(request.images[0].path.read_bytes()[:-1] + b"x")

    desk.sleep = changes  # type: ignore[method-assign, assignment]
    with pytest.raises(NoInput, match="changed while it was to be sent") as caught:
        desk.generator().generate(request, deadline=Deadline(None), request_id="req-1")
    assert len(desk.server.asked) == 1
    assert "nothing was sent" not in caught.value.detail + caught.value.hint


def test_one_measurement_and_one_line_for_each_call(desk: Desk, tmp_path: Path) -> None:
    desk.server.script.extend([fake.error(503, "UNAVAILABLE", "busy"), fake.image(png(2048, 2048))])
    log = tmp_path / "log.jsonl"
    logs.configure(Log(file=str(log)), verbose=False, debug=False, stderr_write=print)
    try:
        desk.generate(quality="2K")
    finally:
        logs.close()
    desk.metrics.flush()
    found = {(one.metric, one.labels): one.count for one in desk.metrics.stored()}
    duration = catalog.GEMINI_REQUEST_DURATION
    assert found == {(duration, ("2K", "server_error")): 1, (duration, ("2K", "success")): 1}
    first, second = [json.loads(line) for line in log.read_text().splitlines()]
    assert (first["level"], first["outcome"], first["http_status"], first["reason"]) == (
        "warning", "server_error", 503, "UNAVAILABLE",
    )  # fmt: skip
    wanted = {
        "event": "gemini", "level": "info", "outcome": "success", "attempt": 2, "response_id": "r-1",
        "model": MODEL, "model_version": "gemini-test-001", "quality": "2K", "key": "a", "project": "p1",
        "width": 2048, "height": 2048, "sent_bytes": len(REAL["png"]), "output_tokens": 1120, "finish": "STOP",
    }  # fmt: skip
    assert wanted.items() <= second.items()
    assert [word for word in ("private", "AIzaSy", "unlisted") if word in log.read_text()] == []


def test_a_peer_that_repeats_the_key_is_not_repeated(desk: Desk) -> None:
    logs.hide(A.secret)
    try:
        desk.server.script.append(fake.error(400, f"BAD {A.secret}", f"what is {A.secret}?"))
        assert desk.fails(BadData).detail == (
            "Gemini does not accept the request (400 BAD [hidden]: what is [hidden]?)"
        )
    finally:
        logs.close()


TESTS: dict[str, tuple[Reply, str, str]] = {
    "accepted": (fake.model(), "success", "ready"),
    "rejected": (fake.rejected(), "key_rejected", "rejected"),
    "not allowed": (fake.error(403, "PERMISSION_DENIED"), "key_rejected", "cooling"),
    "over quota": (fake.exhausted(9), "quota_minute", "ready"),
    "unknown model": (fake.error(404, "NOT_FOUND"), "not_found", "ready"),
    "silent": (fake.closed(), "ambiguous", "ready"),
}


@pytest.mark.parametrize("case", TESTS)
def test_a_test_of_a_key_tells_and_keeps_what_it_finds(desk: Desk, case: str) -> None:
    reply, label, state = TESTS[case]
    desk.server.script.append(reply)
    made = desk.generator(A, C)
    found = made.test_key(A, MODEL, deadline=Deadline(None), request_id="req-1")
    assert (found.key, found.label) == (A, label)
    assert _state(made, A) == state


def test_a_test_that_goes_well_brings_a_key_back(desk: Desk) -> None:
    desk.server.script.extend([fake.rejected(), fake.model(), fake.error(403), fake.model()])
    made = desk.generator(A, C)
    for state in ("rejected", "ready", "cooling", "ready"):
        made.test_key(A, MODEL, deadline=Deadline(None), request_id="req-1")
        assert _state(made, A) == state


def test_without_time_no_key_is_tested(desk: Desk) -> None:
    with pytest.raises(TimedOut):
        desk.generator().test_key(A, MODEL, deadline=Deadline(0), request_id="req-1")


def _state(made: Generator, key: Key) -> str:
    return next(one.state for one in made.keyring.states(MODEL) if one.key == key)
