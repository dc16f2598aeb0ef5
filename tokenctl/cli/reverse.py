"""`tokenctl reverse`: the compensating entry of a transaction or of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import Refused, UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.models import Receipt, Reversal

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="USER:SEQ",
        parser=options.reads("transaction"),
        help="The transaction.",
        show_default=False,
    ),
]
BatchId = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="ID",
        parser=options.reads("batch"),
        help="All that this batch granted, instead.",
    ),
]


def _reverse(
    run: Run,
    reason: options.Reason,
    transaction: Name = None,
    batch: BatchId = None,
    note: options.Note = None,
    ticket: options.Ticket = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    idempotency_key: options.Key = None,
) -> None:
    """Undo a transaction, or a whole batch, by a linked entry of the opposite amount.

    \b
    tokenctl reverse u_42:17 --reason mistake
    tokenctl reverse u_42:17 --reason mistake --ticket 48121 --yes
    tokenctl reverse --batch 5f0c22ab9d10 --reason wrong-file --dry-run

    Nothing is ever edited. A transaction is reversed at most once, and never by more
    tokens than the user has available.
    """
    from tokenctl.cli import forms
    from tokenctl.models import Reversal
    from tokenctl.settings import check_reason

    if (transaction is None) == (batch is None):
        raise UsageError(
            "name a transaction (USER:SEQ) or a batch (--batch ID), one of them",
            hint="tokenctl reverse --help",
        )
    if batch is not None and idempotency_key is not None:
        raise UsageError("a batch's reversal needs no key: it is done once", hint="leave --idempotency-key out")
    check_reason(reason, run.settings)
    if not dry_run:
        run.output.require_answer("--yes", given=yes)
    run.banner()
    if transaction is not None:
        user, seq = forms.split_transaction(transaction)
        _one(run, Reversal(user, seq, reason, note, ticket, idempotency_key), dry_run=dry_run, yes=yes)
    elif batch is not None:
        _batch(run, batch, reason, note, ticket, dry_run=dry_run, yes=yes)


def _one(run: Run, reversal: Reversal, *, dry_run: bool, yes: bool) -> None:
    from tokenctl.cli import views
    from tokenctl.services import reversals

    name = run.settings.profile
    keyed, receipt = reversals.preview(run.runtime.ledger, reversal, ledger_name=name, dry_run=dry_run)
    if not receipt.replayed and not dry_run:
        run.output.say(_change(receipt), mark=" ")
        if not yes:
            run.output.confirm(f"Reverse {reversal.user_id}:{reversal.seq}?")
        run.output.unfinished = (
            f"whether it was reversed is unknown; this tells, and reverses at most once:\n{reversals.command(keyed)}"
        )
        receipt = reversals.post(run.runtime.ledger, keyed, ledger_name=name)
        run.output.unfinished = None
        run.output.committed = f"{receipt.name}, {receipt.amount:+,} tokens, reverses {reversal.user_id}:{reversal.seq}"
        run.output.say(f"reversed {reversal.user_id}:{reversal.seq}, balance {receipt.balance_after:,}", mark="✓")
    elif receipt.replayed:
        run.output.warn(f"tokenctl: already reversed with this key: {receipt.name}; nothing was changed")
    else:
        run.output.say(f"dry run, nothing was written: {_change(receipt)}")
    run.show(views.receipt("tokenctl.reversal.v1", receipt, dry_run=dry_run))


def _batch(
    run: Run, batch: str, reason: str, note: str | None, ticket: str | None, *, dry_run: bool, yes: bool
) -> None:
    from tokenctl.cli import views
    from tokenctl.services import reversals

    opened = reversals.open_batch(run.runtime.batch_store, batch, reason=reason, note=note, ticket=ticket)
    rows, tokens = opened.plan.fresh, -opened.plan.fresh_tokens
    what = f"{rows:,} transactions of {opened.plan.users:,} users, {tokens:,} tokens"
    if dry_run:
        reversals.give_up(opened)
        run.output.say(f"dry run, nothing was written: {what} would be reversed")
        run.show(views.batch_reversal(opened.original, None, rows=rows, tokens=tokens, dry_run=True))
        return
    try:
        if not yes:
            run.output.say(f"batch {batch} ({opened.original.file_name or 'reversal'}): {what}", mark=" ")
            run.output.confirm(f"Reverse batch {batch}?")
    except BaseException:
        reversals.give_up(opened)
        raise
    run.output.unfinished = f"the reversal of batch {batch} is half done, and the same command finishes it"
    done = reversals.post_batch(opened, progress=run.output.progress)
    run.output.unfinished = None
    run.output.committed = f"batch {done.batch_id} reverses {batch}, {done.applied:,} transactions"
    run.output.say(
        f"reversed batch {batch}: {done.applied:,} transactions, {-(done.applied_tokens or 0):,} tokens",
        mark="✓",
    )
    run.output.say(f"batch {done.batch_id}   undo: tokenctl reverse --batch {done.batch_id} --reason mistake", mark=" ")
    run.show(
        views.batch_reversal(
            opened.original, done, rows=done.applied or 0, tokens=-(done.applied_tokens or 0), dry_run=False
        )
    )
    if done.refused:
        raise Refused(
            f"{done.refused:,} transactions were not reversed: their users spent the tokens meanwhile",
            hint="the same command reverses the rest when they have the tokens",
        )
    if done.conflicting:
        raise Refused(
            f"{done.conflicting:,} transactions were not reversed: another entry has their key, reverse:SEQ",
            hint="reverse them one by one with --idempotency-key",
        )


def _change(receipt: Receipt) -> str:
    balances = f"balance {receipt.balance_before:,} → {receipt.balance_after:,}"
    return f"{receipt.user_id}   {balances}   {receipt.amount:+,} {receipt.reason}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "reverse")(_reverse)
