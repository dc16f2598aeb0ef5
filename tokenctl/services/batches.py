"""Imports and reversals: what became of each, and what to do next."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tokenctl import commandline
from tokenctl.errors import NotFound, TokenctlError
from tokenctl.grantfile.rejects import beside
from tokenctl.models import Batch, BatchStanding, Finding, ImportReport
from tokenctl.services.batch_commands import again, asked, importing
from tokenctl.storage.batches import Batches
from tokenctl.wording import counted, fitting


@dataclass(frozen=True)
class BatchReport:
    """A batch, the rows that the ledger did not take, and the way on.

    `rejects` is where its bad rows are; `next` is a sentence and `command` what it means to run;
    `undo` reverses the whole batch.
    """

    batch: BatchStanding
    findings: tuple[Finding, ...]
    rejects: str | None
    next: str
    command: str | None
    undo: str | None


def newest(batches: Batches, *, limit: int, standing: str | None) -> tuple[list[BatchStanding], bool]:
    """At most `limit` batches, the newest first, and whether there are more."""
    found = batches.newest(rows=limit + 1, standing=standing)
    return found[:limit], len(found) > limit


def show(batches: Batches, batch_id: str, *, ledger_name: str) -> BatchReport:
    """The batch of that id; raises NotFound."""
    batch = batches.one(batch_id)
    if batch is None:
        raise NotFound(f"no batch {batch_id} in ledger {ledger_name}", hint=f"{commandline.line('batches')} lists them")
    findings = tuple(batches.findings(batch_id)) if batch.conflicting or batch.refused else ()
    if batch.kind == "reversal":  # its lines are of no file, and start anew in each partition
        findings = tuple(sorted(findings, key=lambda found: (found.user_id, int(found.other or 0))))
    rejects = rejects_of(batch)
    undoing = batches.one(batch.reversed_by) if batch.reversed_by is not None else None
    advice, command = _way_on(batch, rejects) if undoing is None else _way_back(undoing)
    undo = commandline.undo_batch(*batch.ends) if batch.standing == "done" else None
    return BatchReport(batch, findings, rejects, advice, command, undo if batch.applied else None)


def undo(batches: Batches, report: ImportReport) -> str | None:
    """The command that undoes an import, as things stand; None when it posted nothing, or it cannot be told.

    What an earlier run imported may have been reversed and stand again: then what brought it back is reversed.
    """
    if report.batch is None or not report.batch.applied:
        return None
    if report.outcome != "already":
        return commandline.undo_batch(report.batch_id)
    found = None
    with suppress(TokenctlError):  # the receipt is true without it
        found = batches.one(report.batch_id)
    return commandline.undo_batch(*found.ends) if found is not None and found.standing == "done" else None


def _way_on(batch: BatchStanding, rejects: str | None) -> tuple[str, str | None]:
    """A sentence and a command for whoever looks at the batch."""
    match batch.standing:
        case "checking":
            return "its rows are being checked at this moment; nothing is posted yet", None
        case "running":
            return "it is being posted at this moment", None
        case "abandoned":
            return "nothing was posted; the next import forgets it", again(batch)
        case "unfinished":
            return "it was cut off; the same command posts the rest, and no row twice", again(batch)
        case _ if batch.kind == "reversal" and batch.refused:
            return "not all could be reversed; the same command takes back the rest when it can be", again(batch)
        case _ if batch.kind == "reversal" and batch.conflicting:
            one = fitting(batch.conflicting, "entry", "entries")
            return f"reverse the {one} named below one by one with --idempotency-key", None
        case _ if batch.conflicting or batch.refused:
            return _way_on_with_met(batch, rejects)
        case _ if rejects:
            return "mend the rejected rows and import that file", importing(rejects, batch)
        case _ if batch.rejected:
            return "mend the rejected rows and import the file that --reject-file named", None
        case _:
            return "nothing is left to do", None


def _way_on_with_met(batch: BatchStanding, rejects: str | None) -> tuple[str, str | None]:
    """The same where the ledger did not take rows of a file: they are in no file but that one, which is done."""
    left = (batch.conflicting or 0) + (batch.refused or 0)
    advice = f"put the {fitting(left, 'row')} named below into a new file, mended, and import that"
    if not batch.rejected:
        return advice, None
    file = rejects or "the file that --reject-file named"
    command = None if rejects is None else importing(rejects, batch)
    return f"{advice}; mend the rejected rows in {file} and import that, too", command


def _way_back(undoing: BatchStanding) -> tuple[str, str | None]:
    """The same for a batch that `undoing` has reversed, or is about to."""
    if undoing.standing == "running":
        return f"batch {undoing.batch_id} reverses it at this moment", None
    if undoing.standing == "unfinished":
        return f"batch {undoing.batch_id} reverses it and was cut off; the same command finishes that", again(undoing)
    if undoing.refused:
        advice = (
            f"batch {undoing.batch_id} reversed it but for {counted(undoing.refused, 'entry', 'entries')};"
            f" {commandline.line('batches', 'show', undoing.batch_id)} says why, and the same command takes"
            f" {fitting(undoing.refused, 'it back when it', 'them back when they')} can be"
        )
        return advice, again(undoing)
    return f"batch {undoing.batch_id} reversed it; reversing that brings it back", commandline.undo_batch(*undoing.ends)


def rejects_of(batch: Batch) -> str | None:
    """Where the rejected rows of a batch are; None when it has none, or that cannot be told."""
    if not batch.rejected:
        return None
    if (wanted := asked(batch).get("reject-file")) is not None:
        return str(wanted)
    file = Path(batch.file_name or "-")
    return str(beside(file, batch.batch_id)) if file.name not in ("", "-") else None
