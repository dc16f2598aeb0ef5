"""The values that cross layers: frozen, typed, without any I/O.

Tokens are whole numbers up to 2^53 - 1; times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict


@dataclass(frozen=True)
class Change:
    """The newest entry of an account, as `balance` shows it."""

    at: datetime
    amount: int
    reason: str


@dataclass(frozen=True)
class Balance:
    """What a user has. `available` is what can be spent now: balance less open holds."""

    user_id: str
    balance: int
    held: int
    available: int
    last_change: Change | None


@dataclass(frozen=True)
class Receipt:
    """What the ledger answered to a write; `outcome` as in sql/functions/010_receipt.sql."""

    outcome: str
    user_id: str
    seq: int | None
    kind: str | None
    amount: int | None
    balance_before: int | None
    balance_after: int | None
    held: int | None
    missing: int | None
    reason: str | None
    note: str | None
    ticket: str | None
    campaign: str | None
    operator: str | None
    claimed_by: str | None
    request_id: str | None
    idempotency_key: str | None
    batch_id: str | None
    reverses_seq: int | None
    reversed_by: int | None
    created_at: datetime | None

    @property
    def name(self) -> str:
        """The transaction's name, USER:SEQ."""
        return f"{self.user_id}:{self.seq}"

    @property
    def replayed(self) -> bool:
        """Whether this entry was made by an earlier call with the same key."""
        return self.outcome == "replayed"

    @property
    def done(self) -> bool:
        """Whether the ledger has what was asked for, from now or from before; else `outcome` is why it refused."""
        return self.outcome in ("applied", "replayed")


@dataclass(frozen=True)
class Grant:
    """What `grant-bonus` asks for; amount in tokens."""

    user_id: str
    amount: int
    reason: str
    note: str | None = None
    ticket: str | None = None
    campaign: str | None = None
    key: str | None = None
    new_user: bool = False


@dataclass(frozen=True)
class Reversal:
    """What `reverse USER:SEQ` asks for."""

    user_id: str
    seq: int
    reason: str
    note: str | None = None
    ticket: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Plan:
    """What an import would do, counted by the database on the staged rows."""

    staged: int = 0
    tokens: int = 0
    users: int = 0
    new_users: int = 0
    duplicate: int = 0
    findings: int = 0
    replayed: int = 0
    replayed_tokens: int = 0
    own: int = 0
    own_tokens: int = 0
    largest_user: str | None = None
    largest_tokens: int | None = None

    def __add__(self, other: Plan) -> Plan:
        """The plan of two partitions together."""
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__dataclass_fields__
            if name not in ("largest_user", "largest_tokens")
        }
        larger = max((self, other), key=lambda plan: plan.largest_tokens or 0)
        return Plan(**counts, largest_user=larger.largest_user, largest_tokens=larger.largest_tokens)

    @property
    def fresh(self) -> int:
        """Rows that would be posted now."""
        return self.staged - self.replayed - self.own

    @property
    def fresh_tokens(self) -> int:
        """Tokens that would be posted now."""
        return self.tokens - self.replayed_tokens - self.own_tokens


@dataclass(frozen=True)
class Batch:
    """An import, or the reversal of one, as the ledger keeps it.

    `opened_as` has operator, claimed_by and request_id of a run that has an unfinished one
    open and has not posted yet.
    """

    batch_id: str
    kind: str
    state: str
    file_name: str | None
    file_sha256: str | None
    file_size: int | None
    options: dict[str, Any]
    slices: int
    reverses_batch: str | None
    reason: str | None
    operator: str
    claimed_by: str
    request_id: str
    rows_read: int | None
    rejected: int | None
    duplicate: int | None
    applied: int | None
    applied_tokens: int | None
    replayed: int | None
    replayed_tokens: int | None
    conflicting: int | None
    refused: int | None
    started_at: datetime
    finished_at: datetime | None
    reverses_operator: str | None
    reverses_since: datetime | None
    reverses_until: datetime | None
    opened_as: dict[str, str] | None


@dataclass(frozen=True)
class Finding:
    """One row of an import that must not be, or was not, posted."""

    line: int
    problem: str
    user_id: str
    idempotency_key: str | None = None
    other: str | None = None


@dataclass(frozen=True)
class Selection:
    """What a reversal of many takes back: a batch, or what an operator did from `since` on and before `until`."""

    batch: str | None = None
    operator: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class BadLine:
    """One row that was judged bad before anything was written: where, what, why."""

    line: int
    column: str
    why: str


@dataclass(frozen=True)
class ImportReport:
    """The outcome of `batch-import`, for people and programs alike.

    `outcome` is planned (a dry run), applied, resumed, or already (the same file again). In `seconds`
    this run posted `posted` rows; of a dry run `unconfirmed` tokens are above the limit, and must be confirmed,
    and the ledger would not take `conflicting` and `refused` rows as things stand.
    """

    outcome: str
    batch_id: str
    file_name: str
    rows: int
    total: int
    rejected: int
    plan: Plan | None
    batch: Batch | None
    bad: tuple[BadLine, ...] = ()
    reject_file: str | None = None
    seconds: float = 0.0
    posted: int = 0
    unconfirmed: int | None = None
    conflicting: int = 0
    refused: int = 0
    new_users: int | None = None
    by_reason: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One row of the ledger as it was posted, and the seq of the entry that reverses it, if any."""

    user_id: str
    seq: int
    amount: int
    balance_after: int
    created_at: datetime
    kind: str
    reason: str
    ticket: str | None
    campaign: str | None
    note: str | None
    operator: str
    claimed_by: str
    request_id: str
    idempotency_key: str
    batch_id: str | None
    reverses_seq: int | None
    reversed_by: int | None

    @property
    def name(self) -> str:
        """The transaction's name, USER:SEQ."""
        return f"{self.user_id}:{self.seq}"


@dataclass(frozen=True)
class BatchStanding(Batch):
    """A batch and what became of it.

    `standing` is checking, abandoned, running, unfinished, done or reversed; `taken_back_by` is the
    reversal of an operator's doings that took back what he did while it was at work; `ends` are what to
    reverse to undo it while it stands, in that order: what gave back what reversals of it took, and
    itself unless they took all; `posted` of `staged` rows are in the ledger while it is unfinished.
    """

    standing: str
    reversed_by: str | None
    taken_back_by: str | None
    ends: list[str]
    staged: int
    posted: int


#: The side of a square image of each quality, in pixels; another ratio has as many in all.
SIDES = {"1K": 1024, "2K": 2048, "4K": 4096}
_LEAST_SHARE = 0.75


@dataclass(frozen=True)
class Generation:
    """A paid job as the ledger has it; `outcome` as in sql/functions/100_generations.sql, amounts in tokens."""

    outcome: str
    user_id: str
    generation_id: str
    state: str | None
    amount: int | None
    balance: int | None
    available: int | None
    missing: int | None
    expires_at: datetime | None
    attempts: int | None
    lease_until: datetime | None
    captured_seq: int | None
    quality: str | None
    model: str | None
    aspect_ratio: str | None
    price_version: str | None
    input_sha256: str | None
    image_sha256: str | None
    image_bytes: int | None
    width: int | None
    height: int | None
    response_id: str | None
    model_version: str | None
    usage: dict[str, Any] | None
    idempotency_key: str | None
    created_at: datetime | None

    @property
    def transaction(self) -> str | None:
        """The name of its payment, USER:SEQ."""
        return None if self.captured_seq is None else f"{self.user_id}:{self.captured_seq}"

    @property
    def is_full_size(self) -> bool:
        """Whether the image has the pixels that its quality promises.

        Give or take the rounding of a ratio; a smaller quality in the place of a larger one has a quarter.
        """
        side = SIDES.get(self.quality or "", 0)
        return (self.width or 0) * (self.height or 0) >= _LEAST_SHARE * side * side


@dataclass(frozen=True)
class Paid:
    """What an image is paid for; size in bytes, width and height in pixels."""

    image_sha256: str
    image_bytes: int
    width: int
    height: int
    response_id: str | None
    model_version: str | None
    usage: dict[str, Any]


@dataclass(frozen=True)
class Hold:
    """Tokens promised to a job; `is_past` when its deadline is over by the database's clock."""

    user_id: str
    hold_id: str
    amount: int
    state: str
    expires_at: datetime
    is_past: bool
    purpose: str
    idempotency_key: str
    captured_seq: int | None
    operator: str
    claimed_by: str
    created_at: datetime
    settled_at: datetime | None
    attempts: int | None
    lease_until: datetime | None
    released_why: str | None
    released_by: str | None
    released_claimed_by: str | None


class Shortage(TypedDict):
    """A user who lacks tokens for what was asked, as programs read it."""

    user_id: str
    wanted: int
    available: int
    missing: int
