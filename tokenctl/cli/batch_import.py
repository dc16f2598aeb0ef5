"""`tokenctl batch-import`: a grant file, exactly once."""

from __future__ import annotations

import contextlib
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import BadData, ConfirmationMissing
from tokenctl.wording import counted, fitting, pace

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.grantfile.source import Source
    from tokenctl.models import ImportReport
    from tokenctl.services.imports import Import, ImportOptions

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE | -", help="CSV with a header, or JSON Lines; gzip too; - is stdin.", show_default=False
    ),
]
FormatIn = Annotated[
    Literal["csv", "jsonl"] | None,
    typer.Option("--format-in", help="The file's format. [told from its content]"),
]
Partial = Annotated[bool, typer.Option("--partial", help="Import the good rows, write the bad ones to a file.")]
RejectFile = Annotated[
    str | None,
    typer.Option("--reject-file", metavar="FILE", help="Where --partial writes bad rows. [NAME.BATCH.rejected.csv]"),
]
KnownOnly = Annotated[
    bool, typer.Option("--known-users-only", help="A user whom the ledger does not know is a bad row.")
]
Atomic = Annotated[bool, typer.Option("--atomic", help="One transaction for all rows; others wait longer.")]
DefaultReason = Annotated[
    str | None,
    typer.Option("--reason", metavar="CODE", parser=options.reads("reason"), help="For rows that name none."),
]


def _batch_import(
    run: Run,
    file: File,
    format_in: FormatIn = None,
    reason: DefaultReason = None,
    campaign: options.Campaign = None,
    partial: Partial = False,
    reject_file: RejectFile = None,
    known_users_only: KnownOnly = False,
    expect_rows: options.ExpectRows = None,
    expect_total: options.ExpectTotal = None,
    atomic: Atomic = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
) -> None:
    """Import a file of grants: every row once, whatever fails, however often it is run.

    \b
    tokenctl batch-import november.csv --dry-run
    tokenctl batch-import november.csv --yes --expect-rows 9996 --expect-total 499800
    tokenctl batch-import november.csv --partial
    gunzip -c grants.jsonl.gz | tokenctl batch-import - --yes -q

    Columns: user_id, amount, reason, idempotency_key (or key), and if you like note, ticket,
    kind (bonus or purchase).
    Nothing is written while a row is bad. After a crash, run the same command again.
    """
    from tokenctl.grantfile.options import CheckOptions

    if not dry_run:
        run.output.require_answer("--yes", given=yes)
    if partial and file == "-" and reject_file is None and not dry_run:
        raise ConfirmationMissing("--partial from stdin needs a place for bad rows", hint="add --reject-file FILE")
    limit = run.settings.limits.import_rows
    rows = CheckOptions(
        format=format_in,
        default_reason=reason,
        campaign=campaign,
        reasons=run.settings.reasons,
        max_rows=limit,
    )
    with _opened(file) as source:
        from tokenctl.services.imports import ImportOptions

        run.banner()
        wanted = ImportOptions(rows, partial, known_users_only, atomic, expect_rows, expect_total, reject_file)
        report = _work(run, source, wanted, dry_run=dry_run, yes=yes)
    _talk(run, report)
    if not run.output.quiet or dry_run or run.settings.format:
        from tokenctl.cli import views
        from tokenctl.services import batches

        run.show(views.import_report(report, undo=batches.undo(run.runtime.batches, report)))
    _end(report)


def _opened(file: str) -> Source:
    """Open the file; what works on it is loaded while it is read for the first time."""
    from tokenctl.grantfile.source import open_file

    loader = Thread(target=_load)
    loader.start()
    try:
        return open_file(file)
    finally:
        loader.join()


def _load() -> None:
    with contextlib.suppress(Exception):  # whoever needs it meets that again, and tells it
        import tokenctl.services.imports  # noqa: F401


def _work(run: Run, source: Source, wanted: ImportOptions, *, dry_run: bool, yes: bool) -> ImportReport:
    """Prepare, confirm, apply; whatever happens, close."""
    from tokenctl.services import imports

    store = run.runtime.batch_store(imports.batch_id(source, wanted), record=not dry_run)
    limits, metrics = run.settings.limits, run.runtime.metrics
    with imports.Import(source, wanted, store, limits, metrics, dry_run=dry_run) as work:
        already = work.prepare(progress=run.output.progress)
        if already is not None:
            return already
        if dry_run:
            return work.planned()
        _confirm(run, work, yes=yes)
        run.about["batch"] = work.batch_id
        run.output.unfinished = f"batch {work.batch_id} is half done, and the same command finishes it"
        report = work.apply(progress=run.output.progress)
        run.output.unfinished = None
        applied = report.batch.applied or 0 if report.batch else 0
        run.output.committed = f"batch {report.batch_id}, {counted(applied, 'row')}"
        return report


def _confirm(run: Run, work: Import, *, yes: bool) -> None:
    plan = work.plan
    rows, tokens = counted(plan.fresh, "row"), counted(plan.fresh_tokens, "token")
    new = f"{plan.new_users:,} of them new" if plan.users != 1 else "who is new" if plan.new_users else "who is known"
    run.output.say(f"{rows}, {tokens} for {counted(plan.users, 'user')}, {new}", mark=" ")
    if left := work.rejected + len(work.foreseen):
        named = f"--dry-run names {fitting(left, 'it', 'them')}"
        run.output.say(f"{counted(left, 'row')} will be left out as things stand; {named}", mark=" ")
    if plan.own:
        run.output.say(f"an earlier run was cut off after {counted(plan.own, 'row')}; this one finishes it", mark=" ")
    if plan.largest_user is not None and plan.largest_tokens is not None:
        run.output.say(f"most for one user: {plan.largest_tokens:,} for {plan.largest_user}", mark=" ")
    total = work.unconfirmed_total()
    if total is not None:
        limit = run.settings.limits.batch_total
        run.output.require_number("--expect-total", total, limit, what="in one import")
        run.output.confirm_number("total", total)
    elif not yes:
        run.output.confirm(f"Import {rows}?")


def _talk(run: Run, report: ImportReport) -> None:
    batch = report.batch
    if batch is None:
        run.output.say(f"dry run, nothing was written: batch {report.batch_id}")
        if report.unconfirmed is not None:
            limit = run.settings.limits.batch_total
            run.output.foretell_number("--expect-total", report.unconfirmed, limit, what="in one import")
        for bad in report.bad:
            run.output.warn(f"{report.file_name}:{bad.line}: {bad.column}: {bad.why}")
        return
    if report.outcome == "already":
        when = f"{batch.finished_at:%Y-%m-%d %H:%M} UTC" if batch.finished_at else "?"
        run.output.say(
            f"already imported as batch {report.batch_id} on {when} by {batch.operator}; nothing was changed",
            mark="✓",
        )
        return
    done = f"{counted(batch.applied or 0, 'row')}, {counted(batch.applied_tokens or 0, 'token')} granted"
    now = pace(report.posted, batch.applied or 0, report.seconds, "rows")
    run.output.say(f"batch {report.batch_id}: {done}{now}", mark="✓")
    if batch.applied:
        run.output.say(f"undo: {commandline.undo_batch(report.batch_id)}", mark=" ")


def _end(report: ImportReport) -> None:
    """Exit 65 when rows were left out, whether now or in the run that this one repeats."""
    batch = report.batch
    stands = report if batch is None else batch
    met = (stands.conflicting or 0) + (stands.refused or 0)
    rejected = stands.rejected or 0
    left = rejected + met
    if left:
        named = (
            [f"{report.file_name}:{bad.line}: {bad.column}: {bad.why}" for bad in report.bad]
            if batch is not None
            else []
        )
        would = "would be" if batch is None else fitting(left, "was", "were")
        where, hint = _way_on(report, rejected, met)
        problems = counted(len(report.bad), "problem")
        more = f"; the first {problems} are named" if 0 < len({bad.line for bad in report.bad}) < left else ""
        raise BadData(
            "\n".join([f"{counted(left, 'row')} {would} left out{where}{more}", *named]),
            hint=hint,
            rejected=left,
        )


def _way_on(report: ImportReport, rejected: int, met: int) -> tuple[str, str]:
    """Where the rows are that were left out, and what to do: those that were met while posting are in no file."""
    it = fitting(rejected or met, "it", "them")
    told = f"{commandline.line('batches', 'show', report.batch_id)} says what to do"
    if report.reject_file is None:
        again = f"mend {fitting(rejected + met, 'it', 'them')} and import the file again: no row is posted twice"
        return "", told if report.outcome == "already" else again
    if not met:
        return f"; {fitting(rejected, 'it is', 'they are')} in {report.reject_file}", f"mend {it} and import that file"
    where = f"; {rejected:,} of them {fitting(rejected, 'is', 'are')} in {report.reject_file}"
    rest = f"mend the rest in {report.file_name} and import it again: no row is posted twice"
    rest = told if report.outcome == "already" else rest
    return where, f"mend {it} and import that file; {rest}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "batch-import", formats=options.VALUED)(_batch_import)
