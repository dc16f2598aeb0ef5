"""Retry with exponential backoff and full jitter, in exactly one layer.

What may be tried again is decided by the failure's `fault`; how often and how long
apart is a policy. A budget for the whole process keeps a sick peer from being hammered.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from tokenctl.errors import BreakerOpen, Fault, TokenctlError
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.events import Emit, Retried, ignore

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """At most `attempts` calls; before the n-th a wait of up to min(cap_s, base_s * 2^(n - 2)) seconds.

    `cost` is taken from the budget for each further attempt.
    """

    name: str
    attempts: int
    base_s: float
    cap_s: float
    cost: int = 5


_CONFLICT = Policy("conflict", 6, 0.01, 0.5)  # measured on a hot account: 17 attempts with jitter, 33 without
_LOCK = Policy("lock", 2, 0.2, 1.0)
_CONNECT = Policy("connect", 8, 0.1, 2.0)  # a failover took 6 attempts in 2.5 s
_CROWDED = Policy("crowded", 5, 0.5, 4.0)
_ALWAYS = {
    Fault.CONFLICT: _CONFLICT,
    Fault.LOCK: _LOCK,
    Fault.STARTING: _CONNECT,
    Fault.CONNECT: _CONNECT,
    Fault.CROWDED: _CROWDED,
}
#: A read changes nothing, so it may be sent again after whatever passes.
READ: Mapping[Fault, Policy] = {
    **_ALWAYS,
    Fault.LOST: Policy("read", 3, 0.05, 1.0),
    Fault.CANCELLED: Policy("read", 2, 0.05, 1.0, cost=10),
}
#: A write that its key makes safe to send again, also when nobody knows how the last try ended.
KEYED: Mapping[Fault, Policy] = {
    **_ALWAYS,
    Fault.LOST: Policy("lost", 5, 0.1, 2.0),
    Fault.CANCELLED: Policy("lost", 2, 0.1, 2.0, cost=10),
}
#: While the outcome of a keyed write is unknown, it is asked for until the deadline.
SETTLE: Mapping[Fault, Policy] = {fault: Policy("settle", 60, 0.1, 2.0, cost=0) for fault in KEYED}
#: Only what certainly changed nothing: it was not begun, or was rolled back.
UNDONE: Mapping[Fault, Policy] = _ALWAYS
#: Only what certainly was not begun.
ONCE: Mapping[Fault, Policy] = {fault: _ALWAYS[fault] for fault in (Fault.STARTING, Fault.CONNECT, Fault.CROWDED)}


@dataclass
class Budget:
    """A token bucket over all retries of a process: about ten in a row, then a fifth of the successes."""

    capacity: int = 50
    left: int = field(default=50)

    def take(self, cost: int) -> bool:
        """Whether another attempt is affordable; takes its cost."""
        if cost > self.left:
            return False
        self.left -= cost
        return True

    def succeeded(self) -> None:
        """A call went well."""
        self.left = min(self.capacity, self.left + 1)


_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_retry", default=False)


@dataclass
class Retry:
    """Calls again what failed in a way that passes, within the deadline and the budget."""

    deadline: Deadline
    budget: Budget = field(default_factory=Budget)
    emit: Emit = ignore
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)

    def call(self, work: Callable[[], T], policies: Callable[[], Mapping[Fault, Policy]]) -> T:
        """The result of `work`, or its last error of its own; `policies` is asked after each failure.

        A refusal by the breaker after a real failure is not told: the failure says more.
        """
        assert not _inside.get(), "a retry inside a retry multiplies attempts"  # noqa: S101 — a mistake of ours
        token = _inside.set(True)
        try:
            result = work()
        except TokenctlError as error:
            if error.fault is None or error.fault not in policies():
                raise
            result = self._again(work, policies, error)
        finally:
            _inside.reset(token)
        self.budget.succeeded()
        return result

    def _again(self, work: Callable[[], T], policies: Callable[[], Mapping[Fault, Policy]], first: TokenctlError) -> T:
        import tenacity  # 50 ms that only a failure costs

        attempts = _Attempts(self, work, policies, first)
        retrying = tenacity.Retrying(
            retry=lambda state: attempts.policy(state) is not None,
            wait=attempts.wait,
            stop=attempts.stop,
            before_sleep=attempts.tell,
            sleep=self.sleep,
            reraise=True,
        )
        with contextlib.suppress(BreakerOpen):
            return retrying(attempts.next)
        raise attempts.last  # it keeps its cause


class _Attempts(Generic[T]):
    """The attempts of one call as tenacity asks for them; the first has failed already."""

    def __init__(
        self,
        retry: Retry,
        work: Callable[[], T],
        policies: Callable[[], Mapping[Fault, Policy]],
        first: TokenctlError,
    ) -> None:
        self._retry = retry
        self._work = work
        self._policies = policies
        self._made = False
        self.last = first

    def next(self) -> T:
        left = self._retry.deadline.left()
        if not self._made or (left is not None and left <= 0):  # why it failed says more than that time is over
            self._made = True
            raise self.last
        try:
            return self._work()
        except BreakerOpen:
            raise
        except TokenctlError as error:
            self.last = error
            raise

    def policy(self, state: RetryCallState) -> Policy | None:
        error = state.outcome.exception() if state.outcome is not None else None
        return self._policies().get(error.fault) if isinstance(error, TokenctlError) and error.fault else None

    def wait(self, state: RetryCallState) -> float:
        """Full jitter: anything up to the bound, so that those who failed together do not return together."""
        policy = self.policy(state)
        if policy is None:  # not asked then
            return 0.0
        return self._retry.rng.uniform(0, min(policy.cap_s, policy.base_s * 2 ** (state.attempt_number - 1)))

    def stop(self, state: RetryCallState) -> bool:
        policy, left = self.policy(state), self._retry.deadline.left()
        if policy is None or state.attempt_number >= policy.attempts:
            return True
        if left is not None and left <= state.upcoming_sleep:
            return True
        return not self._retry.budget.take(policy.cost)

    def tell(self, state: RetryCallState) -> None:
        policy = self.policy(state)
        if policy is not None:
            event = Retried(policy.name, str(self.last.fault), state.attempt_number + 1, state.upcoming_sleep)
            self._retry.emit(event)
