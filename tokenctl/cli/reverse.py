"""`tokenctl reverse`: the compensating entry of a transaction, of a batch, or of all that an operator did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import UsageError
from tokenctl.wording import counted, fitting, pace

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.models import Batch, Receipt, Reversal, Selection
    from tokenctl.services.reversal_sets import Undoing
    from tokenctl.storage.imports import BatchStore

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
        help="All that this batch posted, instead.",
    ),
]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator",
        metavar="NAME",
        parser=options.reads("operator"),
        help="All that this role or user did since --since, instead.",
    ),
]
Partial = Annotated[bool, typer.Option("--partial", help="Reverse what can be, leave out the rest.")]
ExpectTotal = Annotated[
    int | None,
    typer.Option(
        "--expect-total",
        metavar="N",
        parser=options.reads("count"),
        help="Refuse unless N tokens move in all; confirms a total above the limit.",
    ),
]


def _reverse(
    run: Run,
    reason: options.Reason,
    transaction: Name = None,
    batch: BatchId = None,
    operator: Operator = None,
    since: options.Since = None,
    until: options.Until = None,
    note: options.Note = None,
    ticket: options.Ticket = None,
    partial: Partial = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    confirm_amount: options.ConfirmAmount = None,
    expect_total: ExpectTotal = None,
    idempotency_key: options.Key = None,
) -> None:
    """Undo a transaction, a batch or an operator's work: by linked entries of the opposite amount.

    \b
    tokenctl reverse u_42:17 --reason mistake --ticket 48121
    tokenctl reverse --batch 5f0c22ab9d10 --reason wrong-file --dry-run
    tokenctl reverse --batch 5f0c22ab9d10 --reason wrong-file --partial --yes --expect-total 499800
    tokenctl reverse --operator alice --since 2026-11-23T09:00:00Z --reason misuse --dry-run

    Nothing is ever edited. An entry is reversed at most once, and never by more tokens than
    the user has available: spent or held ones are told, and nothing is changed unless --partial.
    What is cut off is finished by the same command.
    """
    from tokenctl.cli import forms
    from tokenctl.models import Reversal
    from tokenctl.settings import check_reason

    if [transaction, batch, operator].count(None) != 2:  # noqa: PLR2004 — one of the three is left
        raise UsageError(
            "name a transaction (USER:SEQ), a batch (--batch ID) or an operator (--operator NAME), one of them",
            hint="tokenctl reverse --help",
        )
    check_reason(reason, run.settings)
    if transaction is None:
        _demand_unset("USER:SEQ", {"--idempotency-key": idempotency_key, "--confirm-amount": confirm_amount})
        chosen = _chosen(batch, operator, since, until)
        _many(run, chosen, (reason, note, ticket), partial=partial, expect_total=expect_total, dry_run=dry_run, yes=yes)
        return
    unfit = {"--since": since, "--until": until, "--partial": partial or None, "--expect-total": expect_total}
    _demand_unset("--batch and --operator", unfit)
    user, seq = forms.split_transaction(transaction)
    reversal = Reversal(user, seq, reason, note, ticket, idempotency_key)
    _one(run, reversal, dry_run=dry_run, yes=yes, confirm_amount=confirm_amount)


def _demand_unset(where: str, options: Mapping[str, object]) -> None:
    for flag, value in options.items():
        if value is not None:
            raise UsageError(f"{flag} goes with {where} only", hint="leave it out")


def _chosen(batch: str | None, operator: str | None, since: datetime | None, until: datetime | None) -> Selection:
    if operator is None:
        _demand_unset("--operator", {"--since": since, "--until": until})
    elif since is None:
        raise UsageError("--operator needs --since: from when on?", hint="tokenctl reverse --help")
    elif until is not None and since >= until:
        raise UsageError("--since is not before --until", hint="both are in UTC; a date means the whole day")
    from tokenctl.models import Selection

    return Selection(batch, operator, since, until)


def _one(run: Run, reversal: Reversal, *, dry_run: bool, yes: bool, confirm_amount: int | None) -> None:
    from tokenctl.cli import views
    from tokenctl.services import reversals, transactions

    reversals.check(reversal)
    confirmed = yes or confirm_amount is not None
    if not dry_run:
        run.output.require_answer("--yes", given=confirmed)
    run.banner()
    name, limit = run.settings.profile, run.settings.limits.grant
    receipt = reversals.preview(run.runtime.ledger, reversal, ledger_name=name, dry_run=dry_run)
    must_type = reversals.must_type(receipt, limit=limit, confirm_amount=confirm_amount)
    amount = abs(receipt.amount or 0)
    if not receipt.replayed and not dry_run:
        run.output.say(_change(receipt), mark=" ")
        if must_type:
            run.output.require_number("--confirm-amount", amount, limit, what="for one reversal")
            run.output.confirm_number("amount", amount)
        elif not confirmed:
            run.output.confirm(f"Reverse {reversal.user_id}:{reversal.seq}?")
        again = reversals.command(reversal, amount if amount > limit else None)
        run.output.unfinished = f"whether it was reversed is unknown; this tells, and reverses at most once:\n{again}"
        receipt = reversals.post(run.runtime.ledger, reversal, ledger_name=name, again=again)
        run.output.unfinished = None
    _talk(run, receipt, dry_run=dry_run)
    if dry_run and must_type and not receipt.replayed:
        run.output.foretell_number("--confirm-amount", amount, limit, what="for one reversal")
    if not dry_run:  # now, or by the run that this one repeats
        moved = f"{receipt.amount:+,} {fitting(amount, 'token')}"
        run.output.committed = f"{receipt.name}, {moved}, reverses {reversal.user_id}:{reversal.seq}"
    undo = None if dry_run else transactions.undo(run.runtime.history, receipt)
    run.show(views.receipt(views.REVERSAL, receipt, undo=undo, dry_run=dry_run))


def _talk(run: Run, receipt: Receipt, *, dry_run: bool) -> None:
    if receipt.replayed:  # with this key or request id, before or while the question stood
        when = f"{receipt.created_at:%Y-%m-%d %H:%M} UTC" if receipt.created_at else "?"
        by = f"{receipt.operator} ({receipt.claimed_by})"
        line = f"already reversed: {receipt.name} at {when} by {by}; nothing was changed"
        run.warnings.append(line)
        run.output.say(line)
    elif dry_run:
        run.output.say(f"dry run, nothing was written: {_change(receipt)}")
    else:
        reversed_ = f"{receipt.user_id}:{receipt.reverses_seq}"
        run.output.say(f"reversed {reversed_}, balance {receipt.balance_after:,}", mark="✓")


def _change(receipt: Receipt) -> str:
    balances = f"balance {receipt.balance_before:,} → {receipt.balance_after:,}"
    return f"{receipt.user_id}   {balances}   {receipt.amount:+,} {receipt.reason}"


def _many(
    run: Run,
    chosen: Selection,
    why: tuple[str, str | None, str | None],
    *,
    partial: bool,
    expect_total: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Prepare, confirm, apply; whatever happens, close. `why` is reason, note and ticket."""
    from tokenctl.cli import reversal_views
    from tokenctl.services.reversal_sets import Asked, Undoing

    if not dry_run:
        run.output.require_answer("--yes", given=yes)
    run.banner()
    asked = Asked(chosen, *why, partial=partial, expect_total=expect_total)

    def store(batch_id: str) -> BatchStore:
        return run.runtime.batch_store(batch_id, record=not dry_run)

    with Undoing(store, asked, run.settings.limits) as work:
        work.prepare()
        if kept := work.kept_words():
            line = f"begun before: it is finished with {kept}"
            run.warnings.append(line)
            run.output.warn(f"tokenctl: {line}")
        if dry_run:
            _planned(run, work)
            return
        _confirm(run, work, yes=yes)
        run.output.unfinished = f"the reversal of {work.name} is half done, and the same command finishes it"
        done = work.apply(progress=run.output.progress)
        run.output.unfinished = None
        _told(run, work, done)
        run.show(reversal_views.receipt(work, done))
        if (left := work.incomplete(done)) is not None:
            raise left


def _told(run: Run, work: Undoing, done: Batch) -> None:
    """What was reversed in all, and how fast what this run posted of it, if anything."""
    entries = counted(done.applied or 0, "entry", "entries")
    run.output.committed = f"batch {done.batch_id} reverses {work.name}, {entries}"
    posted = max((done.applied or 0) - work.plan.own, 0)
    now = pace(posted, done.applied or 0, work.seconds, "entries")
    run.output.say(f"reversed {work.name}: {entries}{now}", mark="✓")
    undo = f"   undo: {commandline.undo_batch(done.batch_id)}" if done.applied else ""
    run.output.say(f"batch {done.batch_id}{undo}", mark=" ")


def _planned(run: Run, work: Undoing) -> None:
    from tokenctl.cli import reversal_views

    run.output.say(f"dry run, nothing was written: {reversal_views.sentence(work)}")
    _left_out(run, work)
    if work.unconfirmed_total() is not None:
        run.output.foretell_number("--expect-total", work.total, work.bound, what=_bounded(work))
    run.show(reversal_views.plan(work))
    if (left := work.incomplete(None)) is not None:  # as the run itself would end
        raise left


def _confirm(run: Run, work: Undoing, *, yes: bool) -> None:
    from tokenctl.cli import reversal_views

    run.output.say(reversal_views.sentence(work), mark=" ")
    _left_out(run, work)
    if work.resumes:
        done = counted(work.plan.own, "entry", "entries")
        run.output.say(f"an earlier run was cut off after {done}; this one finishes it", mark=" ")
    total = work.unconfirmed_total()
    if total is not None:
        run.output.require_number("--expect-total", total, work.bound, what=_bounded(work))
        run.output.confirm_number("total", total)
    elif not yes:
        run.output.confirm(f"Reverse {work.name}?")


def _bounded(work: Undoing) -> str:
    return "with which it was begun" if work.resumes else "in one reversal"


def _left_out(run: Run, work: Undoing) -> None:
    from tokenctl.cli import reversal_views

    for line, users in reversal_views.left_out(work):
        run.output.say(line, mark=" ")
        for user in users:
            run.output.say(user, mark="   ")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "reverse", formats=options.VALUED)(_reverse)
