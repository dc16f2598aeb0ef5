"""Granting tokens to one user: checked, looked at, then posted with its key."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from tokenctl import commandline
from tokenctl.errors import LimitNotConfirmed, OutcomeUnknown, TokenctlError, UsageError
from tokenctl.grantfile import fields
from tokenctl.models import Grant, Receipt
from tokenctl.services.refusals import refusal
from tokenctl.settings import Settings, check_reason
from tokenctl.storage.ledger import Ledger
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import Metrics


def check(grant: Grant, settings: Settings, *, confirm_amount: int | None) -> bool:
    """Judge what can be judged without the database; answers whether the amount must be typed.

    Raises UsageError or LimitNotConfirmed.
    """
    if grant.campaign and grant.key:
        raise UsageError("--campaign is a key of its own: one claim per user", hint="leave --idempotency-key out")
    if prefix := fields.own_key(grant.key or ""):
        raise UsageError(
            f"--idempotency-key: only the ledger's own keys begin with '{prefix}'", hint="give it another name"
        )
    check_reason(grant.reason, settings)
    if confirm_amount is not None and confirm_amount != grant.amount:
        raise LimitNotConfirmed(
            f"--confirm-amount {confirm_amount} is not --amount {grant.amount}; nothing was changed"
        )
    return grant.amount > settings.limits.grant and confirm_amount is None


def preview(ledger: Ledger, grant: Grant, *, ledger_name: str, dry_run: bool) -> tuple[Grant, Receipt]:
    """The grant with its key, and what the ledger would answer. Raises what it would refuse.

    A refusal stays on record; a dry run leaves no trace.
    """
    receipt = ledger.preview_grant(grant, record=not dry_run)
    if not receipt.done:
        raise refusal(ledger, receipt, ledger_name=ledger_name, asked=_asked(grant))
    return replace(grant, key=receipt.idempotency_key), receipt


def post(ledger: Ledger, grant: Grant, *, ledger_name: str, again: str) -> Receipt:
    """Post a grant that has its key. Raises the refusal, or OutcomeUnknown with the command `again`."""
    try:
        receipt = ledger.grant(grant)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            error.detail, hint=f"run again, it cannot be granted twice:\n{again}", **error.context
        ) from error
    if not receipt.done:
        raise refusal(ledger, receipt, ledger_name=ledger_name, asked=_asked(grant))
    return receipt


@contextlib.contextmanager
def counted(
    metrics: Metrics, grant: Grant, settings: Settings, *, dry_run: bool
) -> Iterator[Callable[[Receipt], None]]:
    """Count one claim of a bonus; yields a function that hears of its receipt. A dry run claims nothing."""

    def claimed(receipt: Receipt) -> None:
        if receipt.outcome == "applied" and not dry_run:
            reason = catalog.reason_label(grant.reason, settings.reasons)
            metrics.count(catalog.BONUS_GRANTS, reason=reason)
            metrics.count(catalog.BONUS_GRANTED_TOKENS, grant.amount, reason=reason)

    try:
        yield claimed
    except TokenctlError as error:
        if not dry_run:
            metrics.count(catalog.BONUS_GRANT_FAILURES, cause=error.code)
        raise


def command(grant: Grant, *, limit: int) -> str:
    """The command line that does just this grant, with its key; an amount above `limit` tokens is confirmed."""
    words = [
        "grant-bonus",
        grant.user_id,
        "--amount",
        str(grant.amount),
        "--reason",
        grant.reason,
    ]
    for flag, value in (("--note", grant.note), ("--ticket", grant.ticket), ("--campaign", grant.campaign)):
        words += [flag, value] if value else []
    words += [] if grant.campaign or not grant.key else ["--idempotency-key", grant.key]
    words += ["--new-user"] if grant.new_user else []
    return commandline.line(*words, *(["--confirm-amount", str(grant.amount)] if grant.amount > limit else ["--yes"]))


def _asked(grant: Grant) -> str:
    extras = [f"ticket {grant.ticket}"] if grant.ticket else []
    extras += [f"campaign {grant.campaign}"] if grant.campaign else []
    return ", ".join([f"{grant.amount:+,} {grant.reason}", *extras])
