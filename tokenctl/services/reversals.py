"""Undoing one transaction: its compensating entry, looked at, then posted."""

from __future__ import annotations

from tokenctl import commandline
from tokenctl.errors import LimitNotConfirmed, OutcomeUnknown, UsageError
from tokenctl.grantfile import fields
from tokenctl.models import Receipt, Reversal
from tokenctl.services.refusals import refusal
from tokenctl.storage.ledger import Ledger


def check(reversal: Reversal) -> None:
    """Judge what can be judged without the database; raises UsageError."""
    key = reversal.key or ""
    if (prefix := fields.own_key(key)) and key != f"reverse:{reversal.seq}":
        raise UsageError(
            f"--idempotency-key: only the ledger's own keys begin with '{prefix}'",
            hint="leave it out: a reversal has a key of its own",
        )


def must_type(receipt: Receipt, *, limit: int, confirm_amount: int | None) -> bool:
    """Whether an amount above `limit` tokens must be typed; raises LimitNotConfirmed when another one is confirmed."""
    amount = abs(receipt.amount or 0)
    if confirm_amount is not None and confirm_amount != amount:
        raise LimitNotConfirmed(f"--confirm-amount {confirm_amount} is not {amount}; nothing was changed")
    return amount > limit and confirm_amount is None


def preview(ledger: Ledger, reversal: Reversal, *, ledger_name: str, dry_run: bool) -> Receipt:
    """What the ledger would answer. Raises what it would refuse.

    A refusal stays on record; a dry run leaves no trace.
    """
    receipt = ledger.preview_reversal(reversal, record=not dry_run)
    if not receipt.done:
        raise refusal(ledger, receipt, ledger_name=ledger_name, asked=_asked(reversal), seq=reversal.seq)
    return receipt


def post(ledger: Ledger, reversal: Reversal, *, ledger_name: str, again: str) -> Receipt:
    """Post it, with a key only if somebody chose one: else another's reversal would pass for this one's replay.

    Raises the refusal, or OutcomeUnknown with the command `again`.
    """
    try:
        receipt = ledger.reverse(reversal)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            error.detail,
            hint=f"run again, it cannot be reversed twice:\n{again}",
            **{**error.context, "key": _key(reversal)},
        ) from error
    if not receipt.done:
        raise refusal(ledger, receipt, ledger_name=ledger_name, asked=_asked(reversal), seq=reversal.seq)
    return receipt


def command(reversal: Reversal, amount: int | None = None) -> str:
    """The command line that settles just this reversal, by its key; `amount` in tokens if it passes the limit."""
    words = ["reverse", f"{reversal.user_id}:{reversal.seq}", "--reason", reversal.reason]
    for flag, value in (
        ("--note", reversal.note),
        ("--ticket", reversal.ticket),
        ("--idempotency-key", _key(reversal)),
    ):
        words += [flag, value] if value else []
    confirmed = ["--yes"] if amount is None else ["--confirm-amount", str(amount)]
    return commandline.line(*words, *confirmed)


def _key(reversal: Reversal) -> str:
    """The key that it has, chosen or the ledger's own."""
    return reversal.key or f"reverse:{reversal.seq}"


def _asked(reversal: Reversal) -> str:
    return f"the reversal of {reversal.user_id}:{reversal.seq}, {reversal.reason}"
