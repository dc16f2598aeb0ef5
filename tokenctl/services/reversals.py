"""Undoing: the compensating entry of one transaction, or of a whole batch."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tokenctl.errors import (
    AlreadyReversed,
    InsufficientTokens,
    LockHeld,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    TryLater,
)
from tokenctl.models import Batch, Plan, Receipt, Reversal, Shortage
from tokenctl.services.refusals import DONE, refusal
from tokenctl.storage.imports import BatchStore
from tokenctl.storage.ledger import Ledger

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def preview(ledger: Ledger, reversal: Reversal, *, ledger_name: str, dry_run: bool) -> tuple[Reversal, Receipt]:
    """The reversal with its key, and what the ledger would answer. Raises what it would refuse."""
    receipt = ledger.preview_reversal(reversal)
    keyed = replace(reversal, key=receipt.idempotency_key) if receipt.outcome in DONE else reversal
    if receipt.outcome not in DONE:
        raise refusal(
            ledger,
            receipt if dry_run else ledger.reverse(reversal),
            ledger_name=ledger_name,
            asked=_asked(reversal),
        )
    return keyed, receipt


def post(ledger: Ledger, reversal: Reversal, *, ledger_name: str) -> Receipt:
    """Post a reversal that has its key. Raises the refusal, or OutcomeUnknown with the command to run again."""
    try:
        receipt = ledger.reverse(reversal)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            error.detail, hint=f"run again, it cannot be reversed twice:\n{command(reversal)}", **error.context
        ) from error
    if receipt.outcome not in DONE:
        raise refusal(ledger, receipt, ledger_name=ledger_name, asked=_asked(reversal))
    return receipt


def command(reversal: Reversal) -> str:
    """The command line that does just this reversal, with its key."""
    words = ["tokenctl", "reverse", f"{reversal.user_id}:{reversal.seq}", "--reason", reversal.reason]
    for flag, value in (
        ("--note", reversal.note),
        ("--ticket", reversal.ticket),
        ("--idempotency-key", reversal.key),
    ):
        words += [flag, value] if value else []
    return shlex.join([*words, "--yes"])


def _asked(reversal: Reversal) -> str:
    return f"the reversal of {reversal.user_id}:{reversal.seq}, {reversal.reason}"


@dataclass(frozen=True)
class BatchReversal:
    """A batch whose reversal is staged and counted, ready to be posted."""

    original: Batch
    store: BatchStore
    plan: Plan


def open_batch(
    make_store: Callable[[str], BatchStore],
    batch_id: str,
    *,
    reason: str,
    note: str | None,
    ticket: str | None,
) -> BatchReversal:
    """Stage the reversal of a batch and count it. Raises when there is nothing to reverse, or not enough.

    Whoever gets the answer closes its store, after `post_batch` or `give_up`.
    """
    first = make_store(batch_id)
    try:
        original = first.batch()
        if original is None:
            raise NotFound(f"no batch {batch_id} in this ledger", hint="the receipt of batch-import names its batch")
        earlier = first.reversals(batch_id)
    finally:
        first.close()
    cut_off = next((batch.batch_id for batch in earlier if batch.state != "done"), None)
    store = make_store(cut_off or hashlib.sha256(f"reverse:{batch_id}:{len(earlier)}".encode()).hexdigest()[:12])
    try:
        if not store.lock(batch_id):
            raise LockHeld(
                f"batch {batch_id} is being imported or reversed at this moment",
                hint="try again when that is done",
            )
        match store.open_reversal(batch_id, reason=reason, note=note, ticket=ticket, rows=original.applied or 0):
            case "not_allowed":
                raise NotAllowed("the database's role may not reverse a batch", hint="it needs tokenctl_batch")
            case "not_finished":
                raise TryLater(
                    f"batch {batch_id} is not finished",
                    hint="run its import again to finish it, then reverse it",
                )
            case "done":  # by somebody who was quicker
                raise AlreadyReversed(f"batch {batch_id} is already reversed", hint="nothing was changed")
        plan = store.plan(known_only=False, drop=False)
        shortages = store.shortages()
    except BaseException:
        store.close()
        raise
    opened = BatchReversal(original, store, plan)
    if not plan.fresh and not plan.own:
        give_up(opened)
        by = f" by {earlier[-1].batch_id} ({earlier[-1].operator})" if earlier else ""
        raise AlreadyReversed(f"batch {batch_id} is already reversed{by}", hint="nothing was changed")
    if shortages and not plan.own:  # one that was cut off is finished, and refuses those users alone
        give_up(opened)
        raise short(batch_id, shortages)
    return opened


def short(batch_id: str, shortages: list[Shortage]) -> InsufficientTokens:
    """The error that names who has spent or holds what the reversal wants back."""
    total = sum(item.wanted - item.available for item in shortages)
    lines = [
        f"{s.user_id} lacks {s.wanted - s.available:,} (wanted {s.wanted:,}, available {s.available:,})"
        for s in shortages[:20]
    ]
    more = [f"and {len(shortages) - 20} more users"] if len(shortages) > 20 else []  # noqa: PLR2004
    return InsufficientTokens(
        "\n".join(
            [f"batch {batch_id} cannot be reversed: {len(shortages)} users lack {total:,} tokens", *lines, *more]
        ),
        hint="nothing was changed; the tokens are spent or held",
        missing=total,
        users=[s.user_id for s in shortages],
    )


def post_batch(opened: BatchReversal, *, progress: Progress) -> Batch:
    """Post a staged reversal, slice by slice; what was cut off is finished by the same command."""
    store = opened.store
    store.begin()
    lanes = store.pending()
    with progress("reversing", sum(lane.staged for lane in lanes)) as advance:
        store.apply(lanes, progress=advance)
    return store.finish(rows_read=None, rejected=0, duplicate=0)


def give_up(opened: BatchReversal) -> None:
    """Drop what was staged; nothing was posted by this call."""
    opened.store.give_up()
    opened.store.close()
