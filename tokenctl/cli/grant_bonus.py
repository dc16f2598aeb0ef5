"""`tokenctl grant-bonus`: tokens for one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.models import Grant, Receipt

NewUser = Annotated[bool, typer.Option("--new-user", help="Make the user if the ledger does not know it.")]


def _grant_bonus(
    run: Run,
    user: options.User,
    amount: options.Amount,
    reason: options.Reason,
    note: options.Note = None,
    ticket: options.Ticket = None,
    campaign: options.Campaign = None,
    new_user: NewUser = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    confirm_amount: options.ConfirmAmount = None,
    idempotency_key: options.Key = None,
) -> None:
    """Grant bonus tokens to a user, once.

    \b
    tokenctl grant-bonus u_42 --amount 500 --reason goodwill
    tokenctl grant-bonus u_42 --amount 500 --reason goodwill --ticket 48121 --yes
    tokenctl grant-bonus u_42 --amount 50 --reason welcome --campaign spring --dry-run

    The same grant on the same UTC day is the same grant: running it again answers the
    first receipt. A ticket or a key of its own makes it another one.
    """
    from tokenctl.cli import views
    from tokenctl.models import Grant
    from tokenctl.services import grants, transactions

    grant = Grant(user, amount, reason, note, ticket, campaign, idempotency_key, new_user)
    must_type = grants.check(grant, run.settings, confirm_amount=confirm_amount)
    confirmed = yes or confirm_amount is not None
    if not dry_run:
        if must_type:
            run.output.require_number("--confirm-amount", amount, run.settings.limits.grant, what="for one grant")
        run.output.require_answer("--yes", given=confirmed)
    run.banner()
    with grants.counted(run.runtime.metrics, grant, run.settings, dry_run=dry_run) as claimed:
        receipt = _claim(run, grant, must_type=must_type, confirmed=confirmed, dry_run=dry_run)
        claimed(receipt)
    if not dry_run:  # now, or by the run that this one repeats
        tokens = counted(receipt.amount or 0, "token")
        run.output.committed = f"{receipt.name}, +{tokens}, key {receipt.idempotency_key}"
    _talk(run, receipt, derived=idempotency_key is None, dry_run=dry_run)
    if dry_run and must_type:
        run.output.foretell_number("--confirm-amount", amount, run.settings.limits.grant, what="for one grant")
    undo = None if dry_run else transactions.undo(run.runtime.history, receipt)
    run.show(views.receipt(views.GRANT, receipt, undo=undo, dry_run=dry_run))


def _claim(run: Run, grant: Grant, *, must_type: bool, confirmed: bool, dry_run: bool) -> Receipt:
    """Look, ask, post."""
    from tokenctl.services import grants

    ledger, name = run.runtime.ledger, run.settings.profile
    keyed, receipt = grants.preview(ledger, grant, ledger_name=name, dry_run=dry_run)
    if receipt.replayed or dry_run:
        return receipt
    run.output.say(_change(receipt), mark=" ")
    run.output.say(f"key {keyed.key}", mark=" ")
    if must_type:
        run.output.confirm_number("amount", grant.amount)
    elif not confirmed:
        run.output.confirm(f"Grant {counted(grant.amount, 'token')} to {grant.user_id}?")
    again = grants.command(keyed, limit=run.settings.limits.grant)
    run.output.unfinished = f"whether it was granted is unknown; this tells, and grants at most once:\n{again}"
    receipt = grants.post(ledger, keyed, ledger_name=name, again=again)
    run.output.unfinished = None
    return receipt


def _change(receipt: Receipt) -> str:
    about = f"{receipt.amount:+,} {receipt.reason}" + (f", ticket {receipt.ticket}" if receipt.ticket else "")
    return f"{receipt.user_id}   balance {receipt.balance_before:,} → {receipt.balance_after:,}   {about}"


def _talk(run: Run, receipt: Receipt, *, derived: bool, dry_run: bool) -> None:
    if receipt.replayed:
        when = f"{receipt.created_at:%Y-%m-%d %H:%M} UTC" if receipt.created_at else "?"
        by = f"{receipt.operator} ({receipt.claimed_by})"
        line = f"already granted: {receipt.name} at {when} by {by}; nothing was changed"
        other = "give another --ticket, or --idempotency-key" if receipt.ticket else "add --ticket or --idempotency-key"
        more = f"; to grant once more {other}" if derived and not receipt.campaign else ""
        run.warnings.append(line)
        if derived:  # whoever chose no key may have meant another grant: told with --quiet, too
            run.output.warn(f"tokenctl: {line}{more}")
        else:
            run.output.say(line)
    elif dry_run:
        run.output.say(f"dry run, nothing was written: {_change(receipt)}")
    else:
        run.output.say(
            f"granted {counted(receipt.amount or 0, 'token')} to {receipt.user_id}, balance {receipt.balance_after:,}",
            mark="✓",
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "grant-bonus", formats=options.VALUED)(_grant_bonus)
