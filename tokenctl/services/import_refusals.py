"""Why a file is not imported: one sentence and one way on for each cause."""

from __future__ import annotations

from collections.abc import Sequence

from tokenctl import commandline
from tokenctl.errors import BadData, LimitNotConfirmed, LockHeld, ReplayOfReversed
from tokenctl.models import BadLine
from tokenctl.storage.imports import BatchStore
from tokenctl.wording import counted, fitting


def held(store: BatchStore, file: str, batch_id: str) -> LockHeld:
    """Somebody else is at work on the batch."""
    batch = store.batch()
    who = ""
    if batch is not None and batch.opened_as is not None:
        who = f": {batch.opened_as['claimed_by']} as {batch.opened_as['operator']}"
    elif batch is not None:
        who = f": {batch.claimed_by} as {batch.operator} since {batch.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return LockHeld(f"{file} is being imported at this moment (batch {batch_id}){who}", batch=batch_id)


def taken_back(store: BatchStore, batch_id: str) -> ReplayOfReversed:
    """The file was imported and reversed; the hint has the command that brings it back."""
    batch = store.standing()
    undoing = store.standing(batch.reversed_by) if batch is not None and batch.reversed_by else None
    by = f" by batch {undoing.batch_id}" if undoing is not None else ""
    hint = f"nothing was changed; {commandline.line('batches', 'show', batch_id)} says what to do"
    if undoing is not None and undoing.state == "done":
        hint = f"reversing that brings its rows back:\n{commandline.undo_batch(*undoing.ends)}"
    return ReplayOfReversed(
        f"this file was imported as batch {batch_id} and then reversed{by}", hint=hint, batch=batch_id
    )


def bad_rows(file: str, bad: Sequence[BadLine], *, problems: int, rejected: int, rows: int, resumes: bool) -> BadData:
    """So many of its rows are `rejected`; `bad` names the first of so many `problems`, and a row has one or more."""
    lines = [f"{file}:{one.line}: {one.column}: {one.why}" for one in bad]
    more = f", the first {len(lines)} problems are named" if problems > len(lines) else ""
    nothing = "nothing more was imported" if resumes else "nothing was imported"
    what = f"{rejected:,} of {counted(rows, 'row')} {fitting(rejected, 'is', 'are')} bad"
    return BadData(
        "\n".join([f"{what}; {nothing}{more}", *lines]),
        hint=f"mend {fitting(rejected, 'it', 'them')}, or import the others with --partial,"
        f" which writes the bad {fitting(rejected, 'row')} to a file",
        rejected=rejected,
        rows=[{"line": one.line, "column": one.column, "why": one.why} for one in bad],
    )


def unexpected(
    file: str, *, rows: int, tokens: int | None, expect_rows: int | None, expect_total: int | None
) -> LimitNotConfirmed | None:
    """The file has other `rows`, or `tokens` in its good rows, than were expected; None when it has those.

    What is not expected is None, and `tokens` may be None then.
    """
    has_tokens = f"{counted(tokens or 0, 'token')} in its good rows"
    for flag, wanted, found, has in (
        ("--expect-rows", expect_rows, rows, counted(rows, "row")),
        ("--expect-total", expect_total, tokens, has_tokens),
    ):
        if wanted is not None and wanted != found:
            return LimitNotConfirmed(
                f"{file} has {has}, {flag} says {wanted:,}; nothing was changed",
                hint="the file may have been cut or doubled on its way",
                rows=rows,
                tokens=tokens,
            )
    return None
