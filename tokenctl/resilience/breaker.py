"""The circuit breaker that all processes on a machine share.

A command lives for half a second, so what earlier ones found out is kept in the state
file. CLOSED lets every call pass. OPEN refuses at once, for a while that doubles. Then
HALF_OPEN lets one process probe, under a lease, and what it finds closes or reopens.
Without a usable file every call passes.

With a healthy peer `admit` and `succeeded` only read: successes are counted while a failure
is in the window and not otherwise. So the share of failed calls is one of the calls since
the first of those failures. That the peer was well until then is no reason to go on asking.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace

from tokenctl.errors import BreakerOpen, ConfigError
from tokenctl.resilience.breaker_rules import BreakerPolicy, Record, after_failure, after_success, opened
from tokenctl.resilience.events import BreakerMoved, BreakerRefused, Emit, Trouble
from tokenctl.resilience.notes import Notes
from tokenctl.statefile import StateFile, StateUnusable

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "Breakers", "Permit"]

_KIND = "breaker"
# Nobody is refused for longer than a day, whatever a peer asks for.
_LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Permit:
    """Leave to call; with `probe` what comes of it decides for everybody, and has to be reported."""

    probe: bool = False


@dataclass(frozen=True)
class BreakerState:
    """What is to be shown of a breaker that has failures: closed, open or half_open.

    `opened_s` is how long ago it was opened, `next_try_s` in how long a call may pass; both None while closed.
    """

    name: str
    state: str
    failures: int
    opened_s: float | None
    next_try_s: float | None
    cause: str


class Breaker:
    """The breaker of one peer; `subject` is what sentences call it ("the database").

    With `force` it refuses nobody, and a success closes it. What is reported late, by a call
    that was admitted before the breaker opened, is passed over.
    """

    def __init__(
        self,
        name: str,
        state: StateFile,
        policy: BreakerPolicy,
        *,
        subject: str,
        clock: Callable[[], float],
        boot_id: str,
        rng: random.Random,
        emit: Emit,
        force: bool = False,
    ) -> None:
        """`name` is kept in the clear, so it must hold no secret; `clock` answers the boot's seconds."""
        self.name = name
        self._state = state
        self._policy = policy
        self._subject = subject
        self._clock = clock
        self._boot_id = boot_id
        self._rng = rng
        self._emit = emit
        self._force = force

    def admit(self) -> Permit:
        """Leave to call the peer now. Raises BreakerOpen, which says when to come back."""
        if self._force:
            return Permit()
        answer: Permit | BreakerOpen = Permit()
        with self._going_on():
            record = self._look()
            if record is not None and record.opened is not None:
                answer = self._ask_to_probe(record)
        if isinstance(answer, BreakerOpen):
            self._emit(BreakerRefused(self.name))
            raise answer
        return answer

    def succeeded(self) -> None:
        """The peer answered, whatever it said. A probe's success closes the breaker."""
        if self._force:
            self.close()
            return
        with self._going_on():
            record = self._look()
            if record is None or not record.counts(os.getpid()):
                return  # nothing to note, which is how it nearly always is
            closed = False
            with self._notes() as notes:
                record = self._read(notes)
                if record is not None and record.counts(os.getpid()):
                    closed = record.opened is not None
                    self._write(notes, after_success(record, self._clock(), self._policy))
            if closed:
                self._emit(BreakerMoved(self.name, "closed"))

    def failed(self, cause: str) -> None:
        """The peer did not answer; `cause` says why in a few words, without a secret."""
        with self._going_on():
            after: Record | None = None
            with self._notes() as notes:
                record = self._read(notes) or Record()
                if record.counts(os.getpid()):
                    after = after_failure(record, cause, self._clock(), self._policy, luck=self._rng.uniform(-1, 1))
                    self._write(notes, after)
            if after is not None and after.opened is not None:
                self._emit(BreakerMoved(self.name, "open"))

    def abandoned(self) -> None:
        """The call was given up half way, by a signal for instance: nothing is known, and the next may probe."""
        with self._going_on(), self._notes() as notes:
            record = self._read(notes)
            if record is not None and record.opened is not None and record.counts(os.getpid()):
                self._write(notes, replace(record, prober=0, lease_until=0.0))

    def close(self) -> None:
        """Somebody knows that the peer is well: forget its failures."""
        with self._going_on():
            if (record := self._look()) is None:
                return
            with self._notes() as notes:
                self._write(notes, None)
            if record.opened is not None:
                self._emit(BreakerMoved(self.name, "closed"))

    def open_until(self, seconds: float, cause: str) -> None:
        """Refuse calls for `seconds` from now, at most a day, as the peer asked; a longer time set before holds."""
        with self._going_on():
            with self._notes() as notes:
                now = self._clock()
                record = self._read(notes) or Record()
                until = max(record.until, now + min(seconds, _LONGEST_S))
                open_s = max(record.open_s, self._policy.open_s)
                self._write(notes, opened(record, cause, now, open_s=open_s, until=until))
            self._emit(BreakerMoved(self.name, "open"))

    def _ask_to_probe(self, record: Record) -> Permit | BreakerOpen:
        """Leave to probe an opened peer, for one process at a time; the others are told when to come back."""
        if (wait_s := record.wait_s(self._clock())) > 0:
            return self._refusal(record, wait_s)
        with self._notes() as notes:  # several see that the time has come, and one of them gets the lease
            now = self._clock()
            current = self._read(notes)
            if current is None or current.opened is None:
                return Permit()
            if (wait_s := current.wait_s(now)) > 0:
                return self._refusal(current, wait_s)
            self._write(notes, replace(current, prober=os.getpid(), lease_until=now + self._policy.lease_s))
        self._emit(BreakerMoved(self.name, "half_open"))
        return Permit(probe=True)

    def _refusal(self, record: Record, wait_s: float) -> BreakerOpen:
        return BreakerOpen(
            f"{self._subject} is marked as down by earlier failures; next try in {math.ceil(wait_s)} s",
            hint="--ignore-breaker to try all the same",
            breaker=self.name,
            last_cause=record.cause,
            retry_after_s=math.ceil(wait_s * 1000) / 1000,
        )

    def _look(self) -> Record | None:
        with self._notes(write=False) as notes:
            return self._read(notes)

    def _read(self, notes: Notes) -> Record | None:
        note = notes.get(self.name)
        return None if note is None else Record.of(note)

    def _write(self, notes: Notes, record: Record | None) -> None:
        if record is None:
            notes.drop(self.name)
        else:
            notes.put(self.name, asdict(record), expires=record.expires(self._policy))

    @contextlib.contextmanager
    def _notes(self, *, write: bool = True) -> Iterator[Notes]:
        with self._state.transaction(write=write) as connection:
            yield Notes(connection, _KIND, clock=self._clock, boot_id=self._boot_id)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Whatever is wrong with the state file, the call goes on."""
        try:
            yield
        except StateUnusable as error:
            self._emit(Trouble("breaker", str(error)))


class Breakers:
    """All breakers of one state file: makes them, lists those that have failures, and resets them."""

    def __init__(
        self,
        state: StateFile,
        *,
        clock: Callable[[], float],
        boot_id: str,
        rng: random.Random,
        emit: Emit,
        force: bool = False,
    ) -> None:
        """What every breaker made here has; see Breaker."""
        self._state = state
        self._clock = clock
        self._boot_id = boot_id
        self._rng = rng
        self._emit = emit
        self._force = force

    def breaker(self, name: str, subject: str, policy: BreakerPolicy) -> Breaker:
        """The breaker of that name; `subject` is what sentences call its peer."""
        return Breaker(
            name,
            self._state,
            policy,
            subject=subject,
            clock=self._clock,
            boot_id=self._boot_id,
            rng=self._rng,
            emit=self._emit,
            force=self._force,
        )

    def states(self) -> list[BreakerState]:
        """Every breaker that has failures, by name. Raises ConfigError when the file cannot be read."""
        with self._notes(write=False) as notes:
            records = {name: Record.of(note) for name, note in notes.all().items()}
        now = self._clock()
        return [_state(name, record, now) for name, record in records.items()]

    def reset(self, names: Collection[str]) -> list[str]:
        """Close those of `names` that have failures, and forget these; answers which they were.

        Raises ConfigError when the file cannot be written.
        """
        with self._notes(write=True) as notes:
            found = {name: Record.of(note) for name, note in notes.all().items() if name in names}
            for name in found:
                notes.drop(name)
        for name, record in found.items():
            if record.opened is not None:
                self._emit(BreakerMoved(name, "closed"))
        return list(found)

    def reset_all(self) -> list[str]:
        """Close all breakers that have failures; answers their names. Raises ConfigError."""
        return self.reset([state.name for state in self.states()])

    @contextlib.contextmanager
    def _notes(self, *, write: bool) -> Iterator[Notes]:
        try:
            with self._state.transaction(write=write) as connection:
                yield Notes(connection, _KIND, clock=self._clock, boot_id=self._boot_id)
        except StateUnusable as error:
            raise ConfigError(
                f"the state file cannot be used: {error}", hint="one that is damaged was put aside; then try once more"
            ) from error


def _state(name: str, record: Record, now: float) -> BreakerState:
    return BreakerState(
        name=name,
        state=record.state(now),
        failures=record.failures,
        opened_s=None if record.opened is None else now - record.opened,
        next_try_s=None if record.opened is None else max(record.wait_s(now), 0.0),
        cause=record.cause,
    )
