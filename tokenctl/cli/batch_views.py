"""What imports and reversals look like: a list, and one of them whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenctl.output import Cell, Column, Listing, Table, View
from tokenctl.output.text import moment

if TYPE_CHECKING:
    from tokenctl.models import BatchStanding, Finding
    from tokenctl.services.batches import BatchReport

_LIST = (
    Column("BATCH"),
    Column("STARTED"),
    Column("STATE"),
    Column("KIND", optional=True),
    Column("ROWS", number=True),
    Column("TOKENS", number=True, signed=True),
    Column("FILE", optional=True),
    Column("OPERATOR", optional=True),
    Column("REJECTED", number=True, optional=True),
    Column("REVERSES", optional=True),
    Column("REVERSED BY", optional=True),
    Column("SHA256", optional=True),
)
#: Hex digits of a file's digest in the list; JSON and `show` have all.
_DIGEST = 12


def batches(found: Sequence[BatchStanding], *, more: bool) -> Listing:
    """Batches, the newest first."""
    rows = [(_batch(batch), _cells(batch)) for batch in found]
    return Listing("tokenctl.batches.v1", _LIST, rows, lambda: {"more": more})


def _cells(batch: BatchStanding) -> tuple[Cell, ...]:
    return (
        batch.batch_id,
        batch.started_at,
        batch.standing,
        batch.kind,
        _posted(batch),
        batch.applied_tokens,
        batch.file_name,
        batch.operator,
        batch.rejected or None,
        batch.reverses_batch or batch.reverses_operator,
        batch.reversed_by,
        None if batch.file_sha256 is None else batch.file_sha256[:_DIGEST],
    )


def _posted(batch: BatchStanding) -> int:
    """Rows that are in the ledger, of a batch under way, too."""
    return batch.posted if batch.applied is None else batch.applied


def _batch(batch: BatchStanding) -> dict[str, Any]:
    return {
        "batch_id": batch.batch_id,
        "kind": batch.kind,
        "state": batch.standing,
        "file": batch.file_name,
        "sha256": batch.file_sha256,
        "size_bytes": batch.file_size,
        "options": batch.options,
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
    }


def batch(report: BatchReport) -> View:
    """One batch whole, and what to do next."""
    found = report.batch
    data = {
        **_batch(found),
        "findings": [{"line": f.line, "problem": f.problem, "user_id": f.user_id} for f in report.findings],
        "rejects": report.rejects,
        "next": report.next,
        "command": report.command,
        "undo": report.undo,
    }
    progress = f" ({found.posted:,} of {found.staged:,} rows are in)" if found.state == "applying" else ""
    pairs: dict[str, Cell] = {
        "BATCH": found.batch_id,
        "KIND": found.kind,
        "STATE": found.standing + progress,
        "REVERSES": _reverses(found),
        "REVERSED BY": found.reversed_by,
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
    return View("tokenctl.batch.v1", data, Table(columns, [tuple(pairs.values())], pairs=True), value=found.standing)


def _reverses(batch: BatchStanding) -> str | None:
    """The batch that a reversal took back, or whose doings of what time."""
    if batch.reverses_operator is None or batch.reverses_since is None or batch.reverses_until is None:
        return batch.reverses_batch
    return f"{batch.reverses_operator}, {moment(batch.reverses_since)} to {moment(batch.reverses_until)}"


def _option(batch: BatchStanding, name: str) -> str | None:
    value = batch.options.get(name)
    return None if value is None else str(value)


def finding(file: str | None, found: Finding) -> str:
    """A row that the ledger did not take, as file:line: column: why; of a reversal, an entry."""
    if file is None:
        state = "its tokens are spent or held" if found.problem == "refused" else "another entry has its key"
        return f"{found.user_id}:{found.other} was not reversed: {state}"
    why = {
        "conflict": f"idempotency_key: was used with other content ({found.user_id}:{found.other})",
        "refused": f"amount: the tokens of {found.user_id} are not enough, or too many for a balance",
    }
    return f"{file or 'row'}:{found.line}: {why.get(found.problem, found.problem)}"
