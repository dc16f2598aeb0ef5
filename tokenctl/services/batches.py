"""Imports and reversals: what became of each, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tokenctl import commandline
from tokenctl.errors import NotFound, TokenctlError
from tokenctl.grantfile.rejects import beside
from tokenctl.models import Batch, BatchStanding, Finding, ImportReport, Selection
from tokenctl.services import reversal_sets
from tokenctl.storage.batches import Batches
from tokenctl.wording import counted, fitting

#: The options of an import beside those that change rows, and what each takes.
_ASKED: dict[str, type] = {
    "format-in": str, "partial": bool, "known-users-only": bool, "atomic": bool, "expect-rows": int,
    "expect-total": int, "reject-file": str,
}  # fmt: skip


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


def again(batch: BatchStanding) -> str | None:
    """The command that does this very batch, or None when its rows came from standard input."""
    if batch.kind == "reversal":
        until = batch.options.get("until")  # as it was given; else the reversal's own time is its end
        chosen = Selection(
            batch.reverses_batch,
            batch.reverses_operator,
            batch.reverses_since,
            None if until is None else datetime.fromisoformat(str(until)),
        )
        note, ticket = batch.options.get("note"), batch.options.get("ticket")
        return reversal_sets.command(chosen, reason=batch.reason or "mistake", note=note, ticket=ticket)
    return None if batch.file_name in (None, "-") else _import(str(batch.file_name), batch, **_asked(batch))


def _asked(batch: Batch) -> dict[str, object]:
    """The further options of an import, as far as they are such: its login could have written anything there."""
    asked = batch.options.get("asked")
    given = asked.items() if isinstance(asked, dict) else ()
    return {flag: value for flag, value in given if type(value) is _ASKED.get(flag)}


def _import(file: str, batch: BatchStanding, **asked: object) -> str:
    """The import of a file with the options that change rows, and others that were asked for."""
    changing = {name: batch.options.get(name) for name in ("reason", "campaign")}
    return _line(["batch-import", f"./{file}" if file.startswith("-") else file], changing | asked)


def _line(words: list[str], flags: Mapping[str, object]) -> str:
    """A command line; a flag is left out when its value is None, and stands alone when that is True."""
    for flag, value in flags.items():
        words += [] if value is None else [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    return commandline.line(*words)


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
            return "mend the rejected rows and import that file", _import(rejects, batch)
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
    command = None if rejects is None else _import(rejects, batch)
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
    if (wanted := _asked(batch).get("reject-file")) is not None:
        return str(wanted)
    file = Path(batch.file_name or "-")
    return str(beside(file, batch.batch_id)) if file.name not in ("", "-") else None
