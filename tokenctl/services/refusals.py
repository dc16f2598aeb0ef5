"""The ledger's refusals as errors: one sentence and one way on for each outcome."""

from __future__ import annotations

from tokenctl import commandline, errors
from tokenctl.grantfile.display import clean
from tokenctl.grantfile.fields import campaign_key
from tokenctl.models import Receipt
from tokenctl.services import balances
from tokenctl.storage.ledger import Ledger
from tokenctl.wording import counted


def refusal(
    ledger: Ledger, receipt: Receipt, *, ledger_name: str, asked: str, seq: int | None = None
) -> errors.TokenctlError:
    """The error for a receipt that is no success.

    `asked` says in words what was asked for, `seq` names the transaction that was to be reversed.
    """
    reversed_by = f"{receipt.user_id}:{receipt.reversed_by}"
    match receipt.outcome:
        case "unknown_user":
            return balances.not_found(ledger, [receipt.user_id], ledger_name=ledger_name, granting=seq is None)
        case "unknown_entry":
            return no_transaction(receipt.user_id, seq, ledger_name=ledger_name)
        case "conflict":
            key = f"key {clean(receipt.idempotency_key or '?')} of {receipt.user_id}"
            way_on = "use another --idempotency-key if both are meant"
            if receipt.campaign and receipt.idempotency_key == campaign_key(receipt.campaign):
                way_on = "a campaign is granted to a user once"
            return errors.KeyConflict(
                f"{key} was used for {_was(receipt)}; asked for now: {asked}",
                hint=f"nothing was changed; {way_on}",
                key=receipt.idempotency_key,
                transaction=receipt.name,
            )
        case "replay_reversed":
            return errors.ReplayOfReversed(
                f"this was done before as {_was(receipt)} and reversed by {reversed_by}",
                hint="to do it once more give it a new --idempotency-key, or another --ticket"
                if seq is None
                else f"nothing was changed; this undoes it again:\n{commandline.undo(reversed_by)}",
                transaction=receipt.name,
                reversed_by=reversed_by,
            )
        case "already_reversed":
            return errors.AlreadyReversed(
                f"{receipt.user_id}:{receipt.reverses_seq} is already reversed by {_was(receipt)}",
                hint=f"nothing was changed; {commandline.line('show', f'{receipt.user_id}:{receipt.reverses_seq}')}"
                " says whether it counts, and how to undo it",
                transaction=receipt.name,
            )
        case "insufficient":
            return errors.InsufficientTokens(
                f"{receipt.user_id} lacks {counted(receipt.missing or 0, 'token')}:"
                f" balance {receipt.balance_before:,}, held {receipt.held:,}",
                hint="nothing was changed; the tokens are spent or held",
                missing=receipt.missing,
            )
        case "too_large":
            return errors.BalanceTooLarge(f"the balance of {receipt.user_id} would pass 9,007,199,254,740,991 tokens")
        case "not_allowed":
            return errors.NotAllowed(
                "the database's role may not do this",
                hint="it needs tokenctl_support, tokenctl_batch or tokenctl_admin",
            )
        case _:
            return errors.Bug(f"the ledger answered '{receipt.outcome}'")


def no_transaction(user_id: str, seq: int | None, *, ledger_name: str) -> errors.NotFound:
    """The error for a transaction that its user does not have."""
    return errors.NotFound(
        f"no transaction {user_id}:{seq} in ledger {ledger_name}",
        hint=f"{commandline.line('history', user_id)} lists those of the user",
    )


def _was(receipt: Receipt) -> str:
    when = f"{receipt.created_at:%Y-%m-%d %H:%M} UTC" if receipt.created_at else "?"
    extras = [f"ticket {receipt.ticket}"] if receipt.ticket else []
    extras += [f"campaign {receipt.campaign}"] if receipt.campaign else []
    about = ", ".join([f"{receipt.amount:+,} {receipt.reason}", *extras])
    # Cleaned: a newline in a campaign would pass for a line of ours.
    return clean(f"{receipt.name} ({about}; {when} by {receipt.operator})")
