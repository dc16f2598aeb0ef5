"""What imports and reversals look like: a list, and one of them whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokenctl.output import Cell, Column, Count, EntryName, Listing, Meta, Named, Schema, Table, Tokens, TypedDict, View
from tokenctl.output.text import moment
from tokenctl.services.unreversed import TOO_LARGE
from tokenctl.wording import counted, fitting

if TYPE_CHECKING:
    from tokenctl.models import BatchStanding, Finding
    from tokenctl.services.batches import BatchReport

_LIST = (
    Column("BATCH"),
    Column("STARTED"),
    Column("STATE"),
    Column("FILE", optional=True, wraps=True),
    Column("ROWS", number=True, optional=True),
    Column("TOKENS", number=True, signed=True),
    Column("REJECTED", number=True, optional=True),
    Column("KIND", optional=True),
    Column("REVERSED BY", optional=True),
    Column("REVERSES", optional=True),
    Column("OPERATOR", optional=True),
    Column("SHA256", optional=True),
)
#: Hex digits of a file's digest in the list; JSON and `show` have all.
_DIGEST = 12
#: Rows that were left out and are named below the table of a batch; JSON names a hundred.
SHOWN = 20


class BatchRows(TypedDict):
    """Rows by what became of them; null where that is not known yet."""

    read: Count | None
    posted: Count
    replayed: Count | None
    conflicting: Count | None
    rejected: Count | None
    duplicate: Count | None
    refused: Count | None


class BatchSummary(TypedDict):
    """An import or a reversal; `options` are those that change rows, `tokens` what its rows come to.

    `taken_back_by` is the reversal of all that an operator did, which took back all of it or a part.
    """

    batch_id: str
    kind: str
    state: str
    file: str | None
    sha256: str | None
    size_bytes: Count | None
    options: dict[str, Any]
    reason: str | None
    operator: str
    claimed_by: str
    request_id: str
    started_at: datetime
    finished_at: datetime | None
    rows: BatchRows
    tokens: Tokens | None
    reverses: str | None
    reverses_operator: str | None
    reverses_since: datetime | None
    reverses_until: datetime | None
    reversed_by: str | None
    taken_back_by: str | None


class FindingData(TypedDict):
    """A row that the ledger did not take; `id` is the entry that has its key, of a reversal what was not reversed."""

    line: Count
    problem: str
    user_id: str
    id: EntryName | None


class BatchData(BatchSummary):
    """One batch whole: what was left out, where the rejected rows are, what to do `next` and with which command."""

    findings: list[FindingData]
    rejects: str | None
    next: str
    command: str | None
    undo: str | None


class BatchesMeta(Meta):
    """The run, and whether there are older batches."""

    more: bool


BATCHES = Schema("tokenctl.batches.v1", list[BatchSummary], meta=BatchesMeta)
BATCH = Schema("tokenctl.batch.v1", BatchData)


def batches(found: Sequence[BatchStanding], *, more: bool) -> Listing[BatchSummary]:
    """Batches, the newest first."""
    rows = [(_batch(batch), _cells(batch)) for batch in found]
    return Listing(BATCHES, _LIST, rows, lambda: {"more": more})


def _cells(batch: BatchStanding) -> tuple[Cell, ...]:
    return (
        batch.batch_id,
        batch.started_at,
        batch.standing,
        batch.file_name,
        _posted(batch),
        batch.applied_tokens,
        batch.rejected or None,
        batch.kind,
        batch.reversed_by,
        batch.reverses_batch or batch.reverses_operator,
        batch.operator,
        None if batch.file_sha256 is None else batch.file_sha256[:_DIGEST],
    )


def _posted(batch: BatchStanding) -> int:
    """Rows that are in the ledger, of a batch under way, too."""
    return batch.posted if batch.applied is None else batch.applied


def _batch(batch: BatchStanding) -> BatchSummary:
    return {
        "batch_id": batch.batch_id,
        "kind": batch.kind,
        "state": batch.standing,
        "file": batch.file_name,
        "sha256": batch.file_sha256,
        "size_bytes": batch.file_size,
        "options": {name: value for name, value in batch.options.items() if name != "asked"},
        "reason": batch.reason,
        "operator": batch.operator,
        "claimed_by": batch.claimed_by,
        "request_id": batch.request_id,
        "started_at": batch.started_at,
        "finished_at": batch.finished_at,
        "rows": {
            "read": batch.rows_read,
            "posted": _posted(batch),
            "replayed": batch.replayed,
            "conflicting": batch.conflicting,
            "rejected": batch.rejected,
            "duplicate": batch.duplicate,
            "refused": batch.refused,
        },
        "tokens": batch.applied_tokens,
        "reverses": batch.reverses_batch,
        "reverses_operator": batch.reverses_operator,
        "reverses_since": batch.reverses_since,
        "reverses_until": batch.reverses_until,
        "reversed_by": batch.reversed_by,
        "taken_back_by": batch.taken_back_by,
    }


def batch(report: BatchReport) -> View[BatchData]:
    """One batch whole, and what to do next."""
    found = report.batch
    data: BatchData = {
        **_batch(found),
        "findings": [
            {
                "line": f.line,
                "problem": f.problem,
                "user_id": f.user_id,
                "id": f"{f.user_id}:{f.other}" if f.other else None,
            }
            for f in report.findings
        ],
        "rejects": report.rejects,
        "next": report.next,
        "command": report.command,
        "undo": report.undo,
    }
    posted = f"{found.posted:,} of {counted(found.staged, 'row')} {fitting(found.posted, 'is', 'are')} in"
    pairs: dict[str, Cell] = {
        "BATCH": found.batch_id,
        "KIND": found.kind,
        "STATE": found.standing + (f" ({posted})" if found.state == "applying" else ""),
        "REVERSES": _reverses(found),
        "REVERSED BY": found.reversed_by,
        "TAKEN BACK BY": found.taken_back_by and f"{found.taken_back_by}, all or a part, with what its operator did",
        "FILE": found.file_name,
        "BYTES": found.file_size,
        "SHA256": found.file_sha256,
        "REASON": found.reason or _option(found, "reason"),
        "CAMPAIGN": _option(found, "campaign"),
        "NOTE": _option(found, "note"),
        "TICKET": _option(found, "ticket"),
        "BY": f"{found.operator} ({found.claimed_by})",
        "STARTED": found.started_at,
        "FINISHED": found.finished_at,
        "REQUEST": found.request_id,
        "ROWS READ": found.rows_read,
        "POSTED": _posted(found),
        "TOKENS": found.applied_tokens,
        "REPLAYED": found.replayed or None,
        "DUPLICATE": found.duplicate or None,
        "CONFLICTING": found.conflicting or None,
        "REFUSED": found.refused or None,
        "REJECTED": found.rejected or None,
        "REJECTS": report.rejects,
        "NEXT": report.next,
        "COMMAND": report.command,
        "UNDO": report.undo,
    }
    columns = [Column(heading, signed=heading == "TOKENS") for heading in pairs]
    return View(BATCH, data, Table(columns, [tuple(pairs.values())], pairs=True), value=found.standing)


def _reverses(batch: BatchStanding) -> str | Named | None:
    """The batch that a reversal took back, or whose doings of what time."""
    if batch.reverses_operator is None or batch.reverses_since is None or batch.reverses_until is None:
        return batch.reverses_batch
    told = f"{batch.reverses_operator}, {moment(batch.reverses_since)} to {moment(batch.reverses_until)}"
    return Named(batch.reverses_operator, told)


def _option(batch: BatchStanding, name: str) -> str | None:
    value = batch.options.get(name)
    return None if value is None else str(value)


def findings(report: BatchReport) -> list[str]:
    """A line for each row that the ledger did not take, the first of them; so few that the table stays in sight."""
    lines = [_finding(report.batch.file_name, found) for found in report.findings[:SHOWN]]
    rest = (report.batch.refused or 0) + (report.batch.conflicting or 0) - len(lines)
    return [*lines, f"and {rest:,} more"] if lines and rest > 0 else lines


def _finding(file: str | None, found: Finding) -> str:
    """A row that the ledger did not take, as file:line: column: why; of a reversal, an entry."""
    if file is None:
        states = {"refused": "its tokens are spent or held", "too_large": TOO_LARGE}
        return (
            f"{found.user_id}:{found.other} was not reversed: {states.get(found.problem, 'another entry has its key')}"
        )
    why = {
        "conflict": f"idempotency_key: was used with other content ({found.user_id}:{found.other})",
        "reversed": f"idempotency_key: was granted before ({found.user_id}:{found.other}) and then reversed",
        "refused": f"amount: the tokens of {found.user_id} are not enough, or too many for a balance",
    }
    return f"{file or 'row'}:{found.line}: {why.get(found.problem, found.problem)}"
