"""Which key is asked with, and which are left alone for a while.

The key that went well last is used again until it fails: then the next one in the file's
order whose key and project are not cooling down. All processes of a machine share what is
known, in the breakers' file; this process remembers its own cool-downs even without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenctl import commandline
from tokenctl.clients.keyfile import Key
from tokenctl.clients.keymarks import KeyMarks, Mark
from tokenctl.clients.outcomes import FOR_EVER, Scope, Verdict
from tokenctl.errors import BreakerOpen, ConfigError, UsageError
from tokenctl.resilience.breaker import Breaker, Breakers, BreakerState
from tokenctl.resilience.breaker_rules import BreakerPolicy
from tokenctl.resilience.events import Emit, Trouble
from tokenctl.resilience.notes import Notes
from tokenctl.statefile import StateFile, StateUnusable

#: Of everything that Gemini is: images take half a minute each, so failures in ten minutes count together. A
#: probe is an attempt, of which the longest takes 240 s.
POLICY = BreakerPolicy(window_s=600.0, open_s=15.0, longest_open_s=300.0, lease_s=242.0)

_KIND = "gemini"
_LAST_GOOD = "key"
_REMEMBER_S = 86_400.0


@dataclass(frozen=True)
class Cooling:
    """No key can be used now; the first one can again in `wait_s` seconds."""

    wait_s: float


@dataclass(frozen=True)
class KeyState:
    """What is known of a key: in use, ready, cooling, disabled or rejected; `cooldown_s` is None unless cooling."""

    key: Key
    state: str
    why: str | None = None
    cooldown_s: float | None = None


class Keyring:
    """The keys, and what all processes know of them."""

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        breakers: Breakers,
        marks: KeyMarks,
        state: StateFile,
        clock: Callable[[], float],
        boot_id: str,
        emit: Emit,
    ) -> None:
        """`clock` answers seconds that mean the same to every process of the boot `boot_id`."""
        self.keys = tuple(keys)
        self._breakers = breakers
        self._marks = marks
        self._state = state
        self._clock = clock
        self._boot_id = boot_id
        self._emit = emit
        #: Until when this process leaves a breaker's subject alone, whatever --ignore-breaker says.
        self._cooling: dict[str, float] = {}
        self._probing: list[Breaker] = []

    def choose(self, model: str) -> Key | Cooling:
        """The key to ask `model` with now, to be followed by `report`; or how long to wait for one.

        Raises ConfigError when every key is disabled or was rejected.
        """
        marks = self._marks.all()
        lists = commandline.line("keys", "list")
        usable = [key for key in self._in_order() if key.fingerprint not in marks]
        if not usable:
            found = ", ".join(f"{key.id} ({_marked(marks[key.fingerprint])})" for key in self.keys)
            raise ConfigError(
                f"no Gemini key can be used: {found}", hint=f"{lists}; {commandline.line('keys', 'enable', 'ID')}"
            )
        waits: list[float] = []
        for key in usable:
            wait_s = self._admit(key, model)
            if wait_s <= 0:
                return key
            waits.append(wait_s)
        if math.isinf(min(waits)):  # rejected in this run, and that could not be noted
            raise ConfigError("every Gemini key was rejected", hint=lists)
        return Cooling(min(waits))

    def report(self, key: Key, model: str, verdict: Verdict, why: str) -> None:
        """What came of asking `model` with `key`; `why` says it in a few words, without a secret."""
        own, project = self._own(key), self._project(key, model)
        if verdict.scope is Scope.KEY:
            self._cool(own, verdict, why)
            if verdict.cooldown_s == FOR_EVER:
                self._reject(key, why)
        elif verdict.scope is Scope.PROJECT:
            self._cool(project, verdict, why)
            own.succeeded()
        elif verdict.scope is Scope.NOBODY:
            own.succeeded()
            project.succeeded()
            self._stay_with(key)
        self.abandon()

    def abandon(self) -> None:
        """Nothing is known of the last choice: whoever comes next may try."""
        for breaker in self._probing:
            breaker.abandoned()  # passed over when it was reported already
        self._probing.clear()

    def accepted(self, key: Key) -> None:
        """A test went well: forget what Gemini said against the key before; what a person said stays."""
        self._own(key).close()
        if self._marks.all():
            self._marks.lift(key.fingerprint, only="rejected")

    def disable(self, key_id: str) -> None:
        """Use the key no more until `enable`. Raises UsageError (no such key) or ConfigError (not noted)."""
        self._marks.put(self.find(key_id).fingerprint, "disabled", "by tokenctl keys disable")

    def enable(self, key_id: str, model: str) -> None:
        """Use the key again, and forget its cool-downs. Raises UsageError or ConfigError."""
        key = self.find(key_id)
        self._marks.lift(key.fingerprint)
        self._breakers.reset([self._own(key).name, self._project(key, model).name])

    def find(self, key_id: str) -> Key:
        """The key of that id. Raises UsageError."""
        for key in self.keys:
            if key.id == key_id:
                return key
        raise UsageError(f"there is no key '{key_id}'", hint=f"known keys: {', '.join(key.id for key in self.keys)}")

    def states(self, model: str) -> list[KeyState]:
        """What is known of every key, for `model`. Raises ConfigError when the state cannot be read."""
        marks = self._marks.all()
        breakers = {state.name: state for state in self._breakers.states()}
        last_good = self._last_good()
        return [self._judged(key, model, marks, breakers, last_good) for key in self.keys]

    def _judged(
        self, key: Key, model: str, marks: dict[str, Mark], breakers: dict[str, BreakerState], last_good: str | None
    ) -> KeyState:
        if mark := marks.get(key.fingerprint):
            return KeyState(key, mark.state, mark.why)
        names = (self._own(key).name, self._project(key, model).name)
        cooling = [found for name in names if (found := breakers.get(name)) and found.next_try_s]
        if cooling:
            longest = max(cooling, key=lambda state: state.next_try_s or 0.0)
            return KeyState(key, "cooling", longest.cause, longest.next_try_s)
        return KeyState(key, "in use" if key.fingerprint == last_good else "ready")

    def _in_order(self) -> list[Key]:
        last_good = self._last_good()
        return sorted(self.keys, key=lambda key: key.fingerprint != last_good)

    def _admit(self, key: Key, model: str) -> float:
        """Zero when the key may be used, else in how many seconds."""
        both = (self._project(key, model), self._own(key))
        wait_s = max(self._cooling.get(breaker.name, 0.0) - self._clock() for breaker in both)
        if wait_s > 0:
            return wait_s
        for breaker in both:
            try:
                permit = breaker.admit()
            except BreakerOpen as refusal:
                self.abandon()
                return float(refusal.context["retry_after_s"])
            if permit.probe:
                self._probing.append(breaker)
        return 0.0

    def _cool(self, breaker: Breaker, verdict: Verdict, why: str) -> None:
        seconds = verdict.cooldown_s or 0.0
        self._cooling[breaker.name] = self._clock() + seconds
        breaker.open_until(seconds, why)

    def _reject(self, key: Key, why: str) -> None:
        try:
            self._marks.put(key.fingerprint, "rejected", why)
        except ConfigError as error:  # it cools down all the same
            self._emit(Trouble("keys", error.detail))

    def _own(self, key: Key) -> Breaker:
        name = f"gemini-key:{key.id}:{key.fingerprint[:8]}"
        return self._breakers.breaker(name, f"the Gemini key {key.id}", POLICY)

    def _project(self, key: Key, model: str) -> Breaker:
        name = f"gemini-project:{key.project}:{model}"
        return self._breakers.breaker(name, f"the Gemini project {key.project}", POLICY)

    def _last_good(self) -> str | None:
        """The fingerprint of the key that went well last, in any process."""
        try:
            with self._state.transaction(write=False) as connection:
                note = Notes(connection, _KIND, clock=self._clock, boot_id=self._boot_id).get(_LAST_GOOD)
        except StateUnusable as error:
            self._emit(Trouble("keys", str(error)))
            return None
        return None if note is None else str(note.get("fingerprint"))

    def _stay_with(self, key: Key) -> None:
        if len(self.keys) == 1 or self._last_good() == key.fingerprint:
            return
        try:
            with self._state.transaction() as connection:
                notes = Notes(connection, _KIND, clock=self._clock, boot_id=self._boot_id)
                notes.put(_LAST_GOOD, {"fingerprint": key.fingerprint}, expires=self._clock() + _REMEMBER_S)
        except StateUnusable as error:
            self._emit(Trouble("keys", str(error)))


def _marked(mark: Mark) -> str:
    return f"{mark.state}: {mark.why}"
