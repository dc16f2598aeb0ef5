"""One image from Gemini: at most three calls, each within its time and all within theirs.

This is the only layer that tries again. Which key is asked and what a failure means are
decided by the keyring and by outcomes.classify.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenctl import commandline
from tokenctl.clients.failures import failure, told
from tokenctl.clients.generation import Outcome, Request
from tokenctl.clients.keyfile import Key
from tokenctl.clients.keyring import POLICY, Keyring
from tokenctl.clients.outcomes import Act, Kind, Scope, Verdict, classify
from tokenctl.errors import RateLimited, TimedOut, TokenctlError
from tokenctl.resilience.breaker import Breaker, Breakers
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.events import Emit, Retried
from tokenctl.telemetry import catalog, logs
from tokenctl.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from tokenctl.clients.gemini import Answer, Gemini

#: Calls for one image, whatever they come to.
MOST_CALLS = 3
#: How long one call may take, and all with the waits between them, in seconds by quality.
CALL_S = {"1K": 90.0, "2K": 120.0, "4K": 240.0}
TOTAL_S = {"1K": 300.0, "2K": 420.0, "4K": 600.0}
#: How long a test of a key may take.
TEST_S = 10.0
# No further call begins with less time than this: it would be billed, and cut off.
_LEAST_S = 15.0
# Who has to wait longer for a key is told when to come back.
_LONGEST_WAIT_S = 60.0
_BASE_S, _CAP_S = 2.0, 30.0


@dataclass(frozen=True)
class KeyTest:
    """What a test of a key came to; `label` as in Verdict, `said` in Gemini's words, `took_s` in seconds."""

    key: Key
    label: str
    said: str
    took_s: float


@dataclass(frozen=True)
class _Job:
    """One image that is asked for, and when it is to be given up."""

    request: Request
    request_id: str
    deadlines: tuple[Deadline, ...]
    before_call: Callable[[], None]

    def left_s(self) -> float:
        """Seconds until the first of the deadlines, one of which is a limit of ours."""
        return min(left for deadline in self.deadlines if (left := deadline.left()) is not None)


class Generator:
    """Asks Gemini for images; `connect` loads the library and is called with the first call."""

    def __init__(
        self,
        connect: Callable[[], Gemini],
        keyring: Keyring,
        *,
        breakers: Breakers,
        metrics: Metrics,
        emit: Emit,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`sleep` and `clock` are in seconds."""
        self._connect = connect
        self.keyring = keyring
        self._breakers = breakers
        self._metrics = metrics
        self._emit = emit
        self._sleep = sleep
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 — it spreads calls, it hides nothing
        self._gemini: Gemini | None = None
        self._probing: list[Breaker] = []

    def close(self) -> None:
        """Close the connections, if there are any."""
        if self._gemini is not None:
            self._gemini.close()

    def generate(
        self, request: Request, *, deadline: Deadline, request_id: str, before_call: Callable[[], None] = lambda: None
    ) -> Outcome:
        """The image, or the error of the last call; `before_call` is asked before each, and what it raises is the end.

        Raises ContentRefused, NoImage, BadData, NoInput, ConfigError, RateLimited, TimedOut,
        GeminiUnavailable or BreakerOpen; whichever it is, no image was kept.
        """
        deadlines = (deadline, Deadline(TOTAL_S[request.quality], clock=self._clock))
        job = _Job(request, request_id, deadlines, before_call)
        seen: Counter[str] = Counter()
        last: TokenctlError | None = None
        rotating = False
        for call in range(1, MOST_CALLS + 1):
            try:
                key = self._admitted(job, last)
            except TokenctlError as error:
                if last is None or rotating:  # that no key is left to ask with is news
                    raise
                raise last from error
            answer, verdict = self._called(job, key, call)
            if verdict.act is Act.DONE:
                return _outcome(answer)
            last = failure(answer.ended, verdict, key, model=request.model, calls=call)
            rotating = verdict.act is Act.ROTATE
            seen[verdict.label] += 1
            if verdict.act is Act.FAIL or call == MOST_CALLS or seen[verdict.label] > verdict.repeats:
                break
            wait_s = self._backoff_s(verdict, call)
            if wait_s + _LEAST_S > job.left_s():
                break
            self._emit(Retried("gemini", verdict.label, call + 1, wait_s))
            self._sleep(wait_s)
        assert last is not None  # noqa: S101 — a loop that ends has failed
        raise last

    def test_key(self, key: Key, model: str, *, deadline: Deadline, request_id: str) -> KeyTest:
        """Whether Gemini accepts the key: a question that costs nothing and says nothing of quotas.

        What it finds out is kept. Raises TimedOut when no time is left.
        """
        left = deadline.left()
        limit_s = TEST_S if left is None else min(TEST_S, left)
        if limit_s <= 0:
            raise TimedOut("no time was left to test every key", hint="--timeout gives more")
        started = self._clock()
        ended = self._library().look_up(model, key.secret, limit_s=limit_s, request_id=request_id).ended
        verdict = classify(ended, now=datetime.now(UTC))
        if verdict.act is Act.DONE:
            self.keyring.accepted(key)
        elif verdict.scope is Scope.KEY or verdict.label == "project_refused":
            self.keyring.report(key, model, verdict, told(ended))
        said = "" if verdict.act is Act.DONE else told(ended)
        return KeyTest(key, verdict.label, said, self._clock() - started)

    def _admitted(self, job: _Job, last: TokenctlError | None) -> Key:
        """The key for the next call, after waiting for one if that is worth it; `last` is how the last call failed."""
        try:
            for breaker in self._peers(job.request.model):
                if breaker.admit().probe:
                    self._probing.append(breaker)
            return self._key(job, last)
        except BaseException:
            self._abandon()
            raise

    def _key(self, job: _Job, last: TokenctlError | None) -> Key:
        chosen = self.keyring.choose(job.request.model)
        for _ in range(MOST_CALLS):
            if isinstance(chosen, Key):
                return chosen
            wait_s = chosen.wait_s + self._rng.uniform(0, 1)
            if wait_s > _LONGEST_WAIT_S or wait_s + _LEAST_S > job.left_s():
                break
            self._emit(Retried("gemini", "cooling", 1, wait_s))
            self._sleep(wait_s)
            chosen = self.keyring.choose(job.request.model)
        if isinstance(chosen, Key):
            return chosen
        why = last.detail if last is not None else "every Gemini key is cooling down"
        raise RateLimited(
            f"{why}; a key can be used again in {math.ceil(chosen.wait_s)} s",
            hint=commandline.line("keys", "list"),
            retry_after_s=round(chosen.wait_s, 3),
        )

    def _called(self, job: _Job, key: Key, call: int) -> tuple[Answer, Verdict]:
        """Call once, if that is allowed, and tell everybody what came of it."""
        try:
            gemini = self._library()
            job.before_call()
            return self._sent(gemini, job, key, call)
        finally:
            self.keyring.abandon()
            self._abandon()

    def _sent(self, gemini: Gemini, job: _Job, key: Key, call: int) -> tuple[Answer, Verdict]:
        request, full_s = job.request, CALL_S[job.request.quality]
        limit_s = min(full_s, job.left_s())
        if limit_s <= 0:
            raise TimedOut("no time was left to ask Gemini", hint="--timeout gives more")
        started = self._clock()
        try:
            answer = gemini.generate(request, key.secret, limit_s=limit_s, request_id=job.request_id)
            verdict = classify(answer.ended, now=datetime.now(UTC))
            cut = limit_s < full_s and answer.ended.kind is Kind.LOST
            self._report(key, request.model, verdict, told(answer.ended), cut=cut)
        except TokenctlError:
            raise  # nothing was sent
        except BaseException:
            took_s = self._measure(request, "interrupted", started)
            logs.emit("warning", "gemini", outcome="interrupted", attempt=call, duration_s=round(took_s, 3), key=key.id)
            raise
        took_s = self._measure(request, verdict.label, started)
        _log(request, key, call, answer, verdict, took_s=took_s)
        return answer, verdict

    def _measure(self, request: Request, label: str, started: float) -> float:
        """Count and time one call; answers its seconds."""
        took_s = self._clock() - started
        self._metrics.observe(catalog.GEMINI_REQUEST_DURATION, took_s, quality=request.quality, outcome=label)
        return took_s

    def _report(self, key: Key, model: str, verdict: Verdict, why: str, *, cut: bool) -> None:
        """A call that was `cut` short of the time it may take says nothing of a peer that did not answer."""
        endpoint, of_model = self._peers(model)
        if verdict.scope is not Scope.ENDPOINT:
            endpoint.succeeded()
        elif not cut:
            endpoint.failed(why)
        if verdict.scope is Scope.MODEL:
            of_model.failed(why)
        elif verdict.scope is Scope.NOBODY:
            of_model.succeeded()
        self.keyring.report(key, model, verdict, why)

    def _abandon(self) -> None:
        for breaker in self._probing:
            breaker.abandoned()  # passed over when it was reported already
        self._probing.clear()

    def _peers(self, model: str) -> tuple[Breaker, Breaker]:
        """Gemini as a whole, and one model of it."""
        return (
            self._breakers.breaker("gemini", "Gemini", POLICY),
            self._breakers.breaker(f"gemini-model:{model}", f"the model {model}", POLICY),
        )

    def _library(self) -> Gemini:
        if self._gemini is None:
            self._gemini = self._connect()
        return self._gemini

    def _backoff_s(self, verdict: Verdict, call: int) -> float:
        """Another key can be asked at once; the same peer is given time, and never less than it wants."""
        if verdict.act is Act.ROTATE:
            return 0.0
        return max(verdict.wait_s, self._rng.uniform(0, min(_CAP_S, _BASE_S * 2 ** (call - 1))))


def _log(request: Request, key: Key, call: int, answer: Answer, verdict: Verdict, *, took_s: float) -> None:
    ended, found = answer.ended, answer.measured
    logs.emit(
        "info" if verdict.act is Act.DONE else "warning",
        "gemini",
        outcome=verdict.label,
        attempt=call,
        duration_s=round(took_s, 3),
        model=request.model,
        model_version=answer.model_version,
        response_id=answer.response_id,
        quality=request.quality,
        key=key.id,
        project=key.project,
        http_status=ended.http_status,
        reason=ended.reason or ended.status or ended.blocked,
        finish=ended.finish,
        wait_s=ended.retry_after_s,
        sent_bytes=sum(image.size_bytes for image in request.images),
        image_bytes=len(answer.image),
        width=found.width if found else None,
        height=found.height if found else None,
        output_tokens=answer.usage.output,
    )


def _outcome(answer: Answer) -> Outcome:
    assert answer.measured is not None  # noqa: S101 — an image was measured, or it would not count as one
    return Outcome(
        image=answer.image,
        mime=answer.measured.mime,
        width=answer.measured.width,
        height=answer.measured.height,
        response_id=answer.response_id,
        model_version=answer.model_version,
        usage=answer.usage,
    )
