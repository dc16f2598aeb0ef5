"""A paid image: hold, claim, call, write, capture, name. Charged if and only if the image exists.

No transaction is open during the call. The image is on the disk before it is paid, and has
its name after. While this process lives every failure releases the hold; when it dies, the
next run with the same key, `--resume`, or the hold's own deadline finishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from tokenctl.errors import (
    BadData,
    InsufficientTokens,
    KeyConflict,
    LockHeld,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Refused,
    TokenctlError,
    TryLater,
    UserNotFound,
)
from tokenctl.models import Generation, Paid
from tokenctl.services.pictures import Place, sha256
from tokenctl.storage.generations import GenerationStore

#: Calls to the provider for one generation, over all its runs.
MAX_CALLS = 3


@dataclass(frozen=True)
class Order:
    """What is asked for and what it costs; `price` in tokens, `input_sha256` over prompt and images."""

    user_id: str
    price: int
    price_version: str
    model: str
    quality: str
    aspect_ratio: str | None
    input_sha256: str


@dataclass(frozen=True)
class Times:
    """In seconds: how long one call may take with everything around it, and how long a hold lives beyond that."""

    lease_s: int
    hold_s: int


class Answer(Protocol):
    """What the provider gave; sizes in pixels."""

    image: bytes
    mime: str
    width: int
    height: int
    response_id: str | None
    model_version: str | None
    usage: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A paid image: the ledger's side, its file, and whether an earlier run had paid it."""

    generation: Generation
    path: Path | None
    replayed: bool


Call = Callable[[Callable[[], None]], Answer]


def input_digest(prompt: str, images: list[bytes]) -> str:
    """sha256 over the prompt and each image, length-prefixed, so that no two lists read alike."""
    digest = hashlib.sha256()
    for part in (prompt.encode(), *images):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@dataclass
class Job:
    """One run of one generation. `said` hears of each step, for a person who waits."""

    store: GenerationStore
    folder: Path
    times: Times
    said: Callable[[str], None]
    at: Generation | None = None

    def open(self, order: Order, *, key: str | None) -> Generation:
        """Hold the price. Raises what the ledger refuses; nothing was sent then."""
        generation_id = uuid.uuid4().hex[:12]
        Place(self.folder, generation_id).prepare()
        asked = {**asdict(order), "amount": order.price}
        at = self.store.open(
            asked, generation_id=generation_id, key=key or f"generate:{generation_id}", hold_s=self.times.hold_s
        )
        if at.outcome not in ("held", "open", "captured"):
            _refused(at)
        self.at = at
        return at

    def run(self, call: Call) -> Result:
        """Call the provider and pay for its image, unless that was done before. `call` asks before each request."""
        at = self._begun()
        place = Place(self.folder, at.generation_id)
        if at.outcome == "captured":
            return self._paid_before(at, place)
        with self._released_on_failure(at, place):
            answer = call(self._claim)
            part = place.write(answer.image, answer.mime)
            paid = Paid(
                image_sha256=hashlib.sha256(answer.image).hexdigest(),
                image_bytes=len(answer.image),
                width=answer.width,
                height=answer.height,
                response_id=answer.response_id,
                model_version=answer.model_version,
                usage=answer.usage,
            )
            captured = self.store.capture(at, paid)
            if captured.outcome != "captured":
                raise Refused(
                    f"the tokens were not there any more when the image was: {captured.outcome}",
                    hint="nothing was charged, and the image was not kept",
                )
        self.at = captured
        return Result(captured, place.name(part), replayed=False)

    def resume(self, user_id: str, generation_id: str) -> Result:
        """Finish what an earlier run paid and did not name. Raises when there is nothing to finish."""
        at = self.store.get(user_id, generation_id)
        if at.outcome == "unknown_generation":
            raise NotFound(
                f"user {user_id} has no generation {generation_id}", hint=f"tokenctl holds list {user_id} shows them"
            )
        if at.outcome != "captured":
            raise TryLater(
                f"generation {generation_id} is {at.outcome}, not paid",
                hint=f"run it again with its prompt, its images and --idempotency-key {at.idempotency_key}",
            )
        self.at = at
        return self._paid_before(at, Place(self.folder, generation_id))

    def _begun(self) -> Generation:
        assert self.at is not None  # noqa: S101 — open comes first
        return self.at

    def _claim(self) -> None:
        """The right to one request, from the ledger."""
        at = self.store.claim(
            self._begun(), lease_s=self.times.lease_s, hold_s=self.times.hold_s, max_attempts=MAX_CALLS
        )
        if at.outcome != "claimed":
            _refused(at)
        self.at = at

    @contextlib.contextmanager
    def _released_on_failure(self, at: Generation, place: Place) -> Iterator[None]:
        try:
            yield
        except OutcomeUnknown:
            # Whether it is paid is not known: the image stays, and so does the hold. The same key tells.
            raise
        except LockHeld:  # another run is at it: its hold and its file are not ours
            raise
        except BaseException as error:
            if self._release(at, error):
                place.discard()
            raise

    def _release(self, at: Generation, error: BaseException) -> bool:
        """Give the tokens back, and answer whether they are: a signal may come just after the capture."""
        why = error.code if isinstance(error, TokenctlError) else type(error).__name__
        try:
            released = self.store.release(at, why)
        except TokenctlError:
            self.said(f"the hold of {at.amount:,} tokens ends by itself at {at.expires_at:%H:%M:%S} UTC")
            return False
        if released.outcome == "captured":
            self.said(f"generation {at.generation_id} is paid, {released.transaction}; --resume names its image")
        elif released.outcome == "released":
            left = f"{released.available:,} available"
            self.said(f"the hold of {at.amount:,} tokens was released; {at.user_id} has {left}")
        return released.outcome == "released"

    def _paid_before(self, at: Generation, place: Place) -> Result:
        """The image of a generation that is paid: under its name, or waiting for it."""
        named = place.finished()
        if named is None and (part := place.waiting()) is not None:
            named = place.name(part) if sha256(part) == at.image_sha256 else None
        return Result(at, named, replayed=True)


def _refused(at: Generation) -> NoReturn:
    match at.outcome:
        case "insufficient":
            raise InsufficientTokens(
                f"{at.user_id} lacks {at.missing:,} tokens: {at.available:,} of {at.balance:,} are available",
                hint="nothing was sent",
                missing=at.missing,
            )
        case "unknown_user":
            raise UserNotFound(f"no user '{at.user_id}' in this ledger", users=[at.user_id])
        case "not_allowed":
            raise NotAllowed("the database's role may not generate", hint="it needs tokenctl_support or tokenctl_batch")
        case "conflict":
            raise KeyConflict(
                f"the key was used for generation {at.generation_id} ({at.quality}, {at.amount:,} tokens, {at.state})",
                hint="a key stands for one prompt, its images and its quality; take another",
            )
        case "busy":
            raise LockHeld(
                f"generation {at.generation_id} is at work in another run until {at.lease_until:%H:%M:%S} UTC",
                hint="run it again then",
            )
        case "exhausted":
            raise Refused(
                f"generation {at.generation_id} has had its {MAX_CALLS} calls to the provider", hint="take another key"
            )
        case "expired" | "released":
            raise TryLater(f"the hold of generation {at.generation_id} is {at.outcome}", hint="run it again")
        case _:
            raise BadData(f"generation {at.generation_id}: {at.outcome}")
