"""A paid image: hold, claim, call, write, capture, name. Charged if and only if the image exists.

No transaction is open during the call. The image is on the disk before it is paid, and has
its name after. While this process lives every failure releases the hold; when it dies, the
next run with the same key, `--resume`, or the hold's own deadline finishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from tokenctl import commandline
from tokenctl.clients.generation import Outcome, Quality, Request
from tokenctl.clients.generator import CALL_S, MOST_CALLS, TOTAL_S
from tokenctl.errors import (
    BadData,
    CannotCreate,
    ConfigError,
    Exhausted,
    InsufficientTokens,
    KeyConflict,
    LockHeld,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Refused,
    ReplayOfReversed,
    TokenctlError,
    TooExpensive,
    TryLater,
    UserNotFound,
)
from tokenctl.models import Generation, Paid
from tokenctl.resilience.deadline import Deadline
from tokenctl.services.heldtokens import moved
from tokenctl.services.pictures import Place
from tokenctl.settings import Prices
from tokenctl.statefile import discard
from tokenctl.storage.generations import GenerationStore
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import Metrics
from tokenctl.wording import counted, fitting

# What a lease has beyond the call itself: the waits before and after it, and time to write and to pay.
_AROUND_S = 150
# What a hold has beyond all that Gemini may take: more than a lease has, so that no hold ends under one.
_BEYOND_S = 180
# How often a run asks whether another one with the same key has ended, in seconds: at first, and at most.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.1, 2.0


@dataclass(frozen=True)
class Order:
    """What is asked for and what it costs; `price` in tokens, `input_sha256` over prompt and images."""

    user_id: str
    price: int
    price_version: str
    model: str
    quality: Quality
    aspect_ratio: str | None
    input_sha256: str


@dataclass(frozen=True)
class Times:
    """In seconds: how long a run that was heard of may be at work, and how long its hold lives."""

    lease_s: int
    hold_s: int


@dataclass(frozen=True)
class Result:
    """A paid image: the ledger's side, its file, and whether an earlier run had paid it."""

    generation: Generation
    path: Path | None
    replayed: bool


Call = Callable[[Callable[[], None]], Outcome]


def order(user_id: str, request: Request, prices: Prices, *, max_cost: int | None = None) -> Order:
    """What is asked for, with its price. Raises ConfigError without one, TooExpensive above `max_cost` tokens."""
    if not prices.tokens or prices.version is None or request.quality not in prices.tokens:
        missing = "prices.version" if prices.tokens and prices.version is None else f"prices.{request.quality}"
        told = f"{missing} is missing" if prices.tokens else "no price is configured"
        table = '[prices]\nversion = "2026-11"\n1K = 40\n2K = 60\n4K = 120'
        raise ConfigError(f"{told}; nothing was sent", hint=f"config.toml says what an image costs in tokens:\n{table}")
    price = prices.tokens[request.quality]
    if max_cost is not None and price > max_cost:
        raise TooExpensive(
            f"{request.quality} costs {counted(price, 'token')} and --max-cost is {max_cost:,}; nothing was changed",
            price=price,
            max_cost=max_cost,
        )
    return Order(
        user_id, price, prices.version, request.model, request.quality, request.aspect_ratio, _input_digest(request)
    )


def times(quality: Quality) -> Times:
    """How long leases and holds of this quality live, from how long Gemini may take for it."""
    return Times(round(CALL_S[quality]) + _AROUND_S, round(TOTAL_S[quality]) + _BEYOND_S)


def _input_digest(request: Request) -> str:
    """sha256 over the prompt and each image's digest, all of one length, so that no two lists read alike."""
    parts = [hashlib.sha256(request.prompt.encode()).digest(), *(bytes.fromhex(i.sha256) for i in request.images)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass
class Job:
    """One run of one generation. `said` hears what a person who waits should know."""

    store: GenerationStore
    folder: Path
    said: Callable[[str], None]
    metrics: Metrics
    #: How long another run with the same key is waited for, and with what.
    deadline: Deadline
    sleep: Callable[[float], None] = time.sleep
    _times: Times = field(init=False)
    _at: Generation = field(init=False)
    #: The first call's claim is asked for before the call is prepared.
    _claimed: bool = field(init=False, default=False)
    #: Another run was at it when we last asked: then the hold is not ours to release.
    _is_others: bool = field(init=False, default=False)
    _ended: str = field(init=False, default="ok")

    def preview(self, asked: Order, *, key: str | None) -> Generation:
        """What `open` would answer, with nothing held; the outcome is held, open or captured.

        Raises what the ledger refuses, and CannotCreate for a folder that can take no image.
        """
        generation_id, key = _new(key)
        self._place(generation_id).foresee()
        at = self.store.preview(_columns(asked), generation_id=generation_id, key=key, hold_s=1)
        return at if at.outcome in ("held", "open", "captured") else _refused(at)

    def open(self, asked: Order, *, key: str | None, limits: Times | None = None) -> Generation:
        """Hold the price. Raises what the ledger refuses; nothing was sent then."""
        generation_id, key = _new(key)
        self._times = limits or times(asked.quality)
        self._place(generation_id).prepare()
        try:
            at = self.store.open(_columns(asked), generation_id=generation_id, key=key, hold_s=self._times.hold_s)
        except OutcomeUnknown as error:
            error.hint = f"the same command with --idempotency-key {key} tells; a hold that was made ends by itself"
            raise
        if at.outcome not in ("held", "open", "captured"):
            _refused(at)
        self._at = at
        if at.outcome == "held" or at.generation_id == generation_id:  # as `open` where the first answer was lost
            moved(self.metrics, "held", at)
        return at

    def run(self, call: Call) -> Result:
        """Call the provider and pay for its image, unless that was done before. `call` asks before each request."""
        place = self._place(self._at.generation_id)
        with self._released_on_failure():
            if self._at.outcome != "captured":
                self._wait_for_claim()
            if self._at.outcome == "captured":
                return self._paid_before(place)
            place.tidy()  # no run before this one can pay any more
            answer = call(self._before_call)
            part = place.write(answer.image, answer.mime)
            captured = self._pay(answer, part)
        return self._named(place, part, captured)

    def resume(self, user_id: str, generation_id: str) -> Result:
        """Finish what an earlier run paid and did not name. Raises when there is nothing to finish."""
        at = self.store.get(user_id, generation_id)
        if at.outcome == "unknown_generation":
            raise NotFound(
                f"user {user_id} has no generation {generation_id}",
                hint=f"{commandline.line('holds', 'list', user_id, '--all')} shows them",
            )
        if at.outcome == "captured":
            self._at = at
            return self._paid_before(self._place(generation_id))
        if at.outcome == "reversed":
            _refused(at)
        raise TryLater(
            f"generation {generation_id} is {at.outcome}, not paid: there is no image to finish",
            hint=f"run it again with its prompt, its images and --idempotency-key {at.idempotency_key}",
        )

    def _place(self, generation_id: str) -> Place:
        return Place(self.folder, generation_id, self.store.run_id)

    def _wait_for_claim(self) -> None:
        """The right to the first request; another run that is at it is waited for, and may turn out to have paid."""
        pause_s, told = _FIRST_LOOK_S, False
        while True:
            at = self._claim()
            if at.outcome in ("claimed", "captured"):
                self._at, self._claimed = at, True
                return
            left = self.deadline.left()
            if at.outcome != "busy" or (left is not None and left < pause_s):
                _refused(at)
            if not told:
                self.said(f"another run is at it; waiting for its end, or until {at.lease_until:%H:%M:%S} UTC")
                told = True
            self.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_LOOK_S)

    def _before_call(self) -> None:
        """The right to one request, from the ledger."""
        if not self._claimed:
            at = self._claim()
            if at.outcome != "claimed":
                _refused(at)
            self._at = at
        self._claimed = False

    def _claim(self) -> Generation:
        at = self.store.claim(self._at, lease_s=self._times.lease_s, hold_s=self._times.hold_s, max_attempts=MOST_CALLS)
        self._is_others = at.outcome == "busy"
        # Past its deadline a hold can be made again, at a price that nobody told this run.
        same = (at.amount, at.price_version) == (self._at.amount, self._at.price_version)
        return at if same or at.outcome != "claimed" else replace(at, outcome="conflict")

    def _pay(self, answer: Outcome, part: Path) -> Generation:
        """Capture the hold. Raises Refused or LockHeld when that is not ours to do any more, without the file."""
        paid = Paid(
            image_sha256=hashlib.sha256(answer.image).hexdigest(),
            image_bytes=len(answer.image),
            width=answer.width,
            height=answer.height,
            response_id=answer.response_id,
            model_version=answer.model_version,
            usage={name: value for name, value in asdict(answer.usage).items() if value is not None},
        )
        captured = self.store.capture(self._at, paid)  # if it fails, the image stays until a release is certain
        if captured.outcome == "captured" and captured.image_sha256 == paid.image_sha256:
            moved(self.metrics, "captured", captured)
            return captured
        discard(part)
        if captured.outcome == "reversed":
            _refused(captured)
        if captured.outcome in ("captured", "busy"):
            self._is_others = True
            raise LockHeld(
                f"another run took generation {captured.generation_id} over; nothing was charged for this one's image",
                hint=f"the same command with --idempotency-key {captured.idempotency_key} shows what came of it",
            )
        raise Refused(
            f"the hold was {captured.state} when the image was there, and the tokens are needed elsewhere"
            if captured.outcome == "insufficient"
            else f"the hold was {captured.outcome} before the image was there",
            hint="nothing was charged, and the image was not kept",
        )

    def _named(self, place: Place, part: Path, captured: Generation) -> Result:
        self._at = captured
        if not captured.is_full_size:
            self.metrics.count(catalog.GENERATION_SMALLER, quality=captured.quality or "")
        try:
            path = place.name(part, captured.image_sha256 or "")
        except CannotCreate as error:
            error.hint = f"{error.hint}\nit is paid, {captured.transaction}".strip()
            raise
        return Result(captured, path, replayed=False)

    @contextlib.contextmanager
    def _released_on_failure(self) -> Iterator[None]:
        """Count how it ends; while we live a failure gives the tokens back."""
        outcome = "interrupted"
        try:
            yield
            outcome = self._ended
        except TokenctlError as error:
            outcome = error.code
            self._settle(error)
            raise
        except BaseException as error:
            for line in self._release(type(error).__name__):
                self.said(line)
            raise
        finally:
            self.metrics.count(catalog.GENERATIONS, quality=self._at.quality or "", outcome=outcome)

    def _settle(self, error: TokenctlError) -> None:
        """Give the tokens back, unless another run is at it or nobody knows whether they are spent; say so."""
        at = self._at
        error.context = {"generation": at.generation_id, "idempotency_key": at.idempotency_key, **error.context}
        if isinstance(error, OutcomeUnknown):
            again = f"the same command with --idempotency-key {at.idempotency_key} tells, and pays at most once"
            error.hint = f"{again}\nif nobody asks, the hold ends by itself at {at.expires_at:%H:%M:%S} UTC"
        elif not self._is_others:
            error.hint = "\n".join([*error.hint.splitlines(), *self._release(error.code)])
            error.context["hold"] = self._at.state

    def _release(self, why: str) -> list[str]:
        """Give the tokens back, and answer what to say of it: a signal may come just after the capture."""
        at = self._at
        if self._is_others:
            return []
        try:
            released = self.store.release(at, why)
        except TokenctlError:
            ends = f"it ends at {at.expires_at:%H:%M:%S} UTC"
            again = f"the same command with --idempotency-key {at.idempotency_key} goes on, and pays at most once"
            return [f"the hold of {counted(at.amount or 0, 'token')} could not be released; {ends}", again]
        self._at = released
        if released.outcome == "captured":
            return [f"generation {at.generation_id} is paid, {released.transaction}; --resume names its image"]
        if released.outcome not in ("released", "already_released"):
            return []
        self._place(at.generation_id).withdraw()
        if released.outcome == "released":  # else whoever released it has counted it
            moved(self.metrics, "released", released)
        left = f"{at.user_id} has {released.available:,} available"
        tokens = counted(released.amount or 0, "token")
        return [f"nothing was charged: the hold of {tokens} was released, {left}"]

    def _paid_before(self, place: Place) -> Result:
        """The image of a generation that is paid: under its name, or waiting for it."""
        self._ended = "replayed"
        return Result(self._at, place.found(self._at.image_sha256 or ""), replayed=True)


def _new(key: str | None) -> tuple[str, str]:
    """A new id, and the key: one of its own, unless one was given."""
    generation_id = uuid.uuid4().hex[:12]
    return generation_id, key or f"generate:{generation_id}"


def _columns(asked: Order) -> dict[str, object]:
    return {**asdict(asked), "amount": asked.price}


def _refused(at: Generation) -> NoReturn:
    match at.outcome:
        case "insufficient":
            raise InsufficientTokens(
                f"{at.user_id} lacks {counted(at.missing or 0, 'token')}: {at.available:,} of {at.balance:,}"
                f" {fitting(at.available or 0, 'is', 'are')} available",
                hint="nothing was sent",
                missing=at.missing,
            )
        case "unknown_user":
            raise UserNotFound(f"no user '{at.user_id}' in this ledger", hint="nothing was sent", users=[at.user_id])
        case "not_allowed":
            raise NotAllowed("the database's role may not generate", hint="it needs tokenctl_support or tokenctl_batch")
        case "conflict":
            raise KeyConflict(
                f"the key was used for generation {at.generation_id}"
                f" ({at.quality}, {counted(at.amount or 0, 'token')}, {at.state})",
                hint="a key stands for one prompt, its images, its quality and, while it runs, its price; take another",
            )
        case "reversed":
            raise ReplayOfReversed(
                f"generation {at.generation_id} was paid as {at.transaction}, and that was reversed since",
                hint="nothing was changed; another --idempotency-key makes a new image",
                transaction=at.transaction,
            )
        case "busy":
            raise LockHeld(
                f"generation {at.generation_id} is at work in another run until {at.lease_until:%H:%M:%S} UTC",
                hint=f"run it again then, with --idempotency-key {at.idempotency_key}",
            )
        case "exhausted":
            raise Exhausted(
                f"generation {at.generation_id} has had its {MOST_CALLS} calls to Gemini",
                hint="its runs died before they could tell what came of them; take another key",
            )
        case "expired" | "released":
            raise TryLater(
                f"the hold of generation {at.generation_id} is {at.outcome}",
                hint=f"run it again with --idempotency-key {at.idempotency_key}",
            )
        case _:
            raise BadData(f"generation {at.generation_id}: {at.outcome}")
