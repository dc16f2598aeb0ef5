"""What results look like: the JSON of each, its table, its single value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from tokenctl.models import Balance, ImportReport, Receipt
from tokenctl.output import Cell, Column, Count, EntryName, Meta, Schema, Table, Tokens, TypedDict, View


class ChangeData(TypedDict):
    """The newest entry of an account."""

    at: datetime
    amount: Tokens
    reason: str


class BalanceData(TypedDict):
    """What a user has; `age_s` is how long ago it was read, null when it was read now."""

    user_id: str
    balance: Tokens
    held: Tokens
    available: Tokens
    last_change: ChangeData | None
    age_s: float | None


class BalanceMeta(Meta):
    """The run, and whether anything is from the cache; `stale` when the database did not answer.

    `as_of` is the moment that the numbers are of; null for now.
    """

    cached: bool
    age_s: float | None
    stale: bool
    as_of: datetime | None


BALANCE = Schema("tokenctl.balance.v1", BalanceData, meta=BalanceMeta)
BALANCES = Schema("tokenctl.balances.v1", list[BalanceData], meta=BalanceMeta)


def balances(
    found: Sequence[Balance],
    *,
    single: bool,
    ages_s: Mapping[str, float],
    stale: bool = False,
    as_of: datetime | None = None,
) -> View[BalanceData] | View[list[BalanceData]]:
    """One user as an object, several as a list; `ages_s` has those that are from the cache."""
    data = [_balance(item, ages_s.get(item.user_id)) for item in found]
    age_s = _seconds(max(ages_s.values(), default=None))
    meta = {"cached": age_s is not None, "age_s": age_s, "stale": stale, "as_of": as_of}
    columns = (
        Column("USER"),
        Column("BALANCE", number=True),
        Column("HELD", number=True),
        Column("AVAILABLE", number=True),
        Column("LAST CHANGE"),
        Column("AMOUNT", number=True, signed=True, optional=True),
        Column("REASON", optional=True),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            b.user_id,
            b.balance,
            b.held,
            b.available,
            *((c.at, c.amount, c.reason) if (c := b.last_change) else (None, None, None)),
        )
        for b in found
    ]
    if single:
        return View(BALANCE, data[0], Table(columns, rows), value=str(found[0].balance), meta=meta)
    each = "\n".join(str(b.balance) for b in found)
    return View(BALANCES, data, Table(columns, rows), value=each or None, meta=meta)


def _balance(item: Balance, age_s: float | None) -> BalanceData:
    change = item.last_change
    return {
        "user_id": item.user_id,
        "balance": item.balance,
        "held": item.held,
        "available": item.available,
        "last_change": None if change is None else {"at": change.at, "amount": change.amount, "reason": change.reason},
        "age_s": _seconds(age_s),
    }


def _seconds(age_s: float | None) -> float | None:
    return None if age_s is None else round(age_s, 3)


class ReceiptData(TypedDict):
    """An entry as it was posted; `id`, `seq`, `undo` and `at` are null where nothing was posted.

    Of an entry that an earlier run posted, `undo` is what undoes it now.
    """

    id: EntryName | None
    user_id: str
    seq: Count | None
    kind: str | None
    amount: Tokens | None
    balance_before: Tokens | None
    balance: Tokens | None
    reason: str | None
    note: str | None
    ticket: str | None
    campaign: str | None
    operator: str | None
    claimed_by: str | None
    request_id: str | None
    idempotency_key: str | None
    reverses: EntryName | None
    at: datetime | None
    undo: str | None


GRANT = Schema("tokenctl.grant.v1", ReceiptData)
REVERSAL = Schema("tokenctl.reversal.v1", ReceiptData)


def receipt(
    schema: Schema[ReceiptData], entry: Receipt, *, undo: str | None, dry_run: bool = False
) -> View[ReceiptData]:
    """A write's receipt: who, why, how much, before and after, the name, and the command that is its `undo`."""
    reverses = f"{entry.user_id}:{entry.reverses_seq}" if entry.reverses_seq else None
    name = None if dry_run and not entry.replayed else entry.name
    data: ReceiptData = {
        "id": name,
        "user_id": entry.user_id,
        "seq": entry.seq if name else None,
        "kind": entry.kind,
        "amount": entry.amount,
        "balance_before": entry.balance_before,
        "balance": entry.balance_after,
        "reason": entry.reason,
        "note": entry.note,
        "ticket": entry.ticket,
        "campaign": entry.campaign,
        "operator": entry.operator,
        "claimed_by": entry.claimed_by,
        "request_id": entry.request_id,
        "idempotency_key": entry.idempotency_key,
        "reverses": reverses,
        "at": entry.created_at,
        "undo": undo,
    }
    cells: dict[str, Cell] = {
        "TRANSACTION": name,
        "USER": entry.user_id,
        "AMOUNT": entry.amount,
        "BEFORE": entry.balance_before,
        "AFTER": entry.balance_after,
        "REASON": entry.reason,
        "NOTE": entry.note,
        "TICKET": entry.ticket,
        "CAMPAIGN": entry.campaign,
        "REVERSES": reverses,
        "BY": f"{entry.operator} ({entry.claimed_by})",
        "AT": entry.created_at,
        "KEY": entry.idempotency_key,
        "UNDO": undo,
    }
    meta = {"replayed": entry.replayed, "dry_run": dry_run}
    return View(schema, data, _pairs(cells), value=name, meta=meta)


class ImportRows(TypedDict):
    """Rows by what became of them; `applied` is what was, or in a dry run would be, granted.

    `posted` is what the batch has in the ledger, by the name that `batches` gives it: none yet in a dry run,
    unless an earlier run was cut off.
    """

    read: Count | None
    applied: Count
    posted: Count
    replayed: Count | None
    conflicting: Count | None
    rejected: Count | None
    duplicate: Count | None
    refused: Count | None


class ReasonTotals(TypedDict):
    """What an import grants for one reason."""

    rows: Count
    tokens: Tokens


class ImportSummary(TypedDict):
    """An import: planned, applied, resumed or already (the same file again); `tokens` is what its rows grant.

    `new_users` are those whom the ledger did not know when it was planned; null for the same file again.
    """

    batch_id: str
    file: str
    outcome: str
    rows: ImportRows
    tokens: Tokens
    by_reason: dict[str, ReasonTotals]
    new_users: Count | None
    reject_file: str | None
    seconds: float
    undo: str | None


class BadRow(TypedDict):
    """A row that cannot be imported."""

    line: Count
    column: str
    why: str


class ImportData(ImportSummary):
    """An import, with the first hundred rows that are wrong."""

    bad: list[BadRow]


class ImportSummaryLine(ImportSummary, Meta):
    """An import's last line: what was, or would be, imported."""


IMPORT = Schema("tokenctl.import.v1", ImportData)
IMPORT_ROW = Schema("tokenctl.import_row.v1", BadRow, flat=True)
IMPORT_SUMMARY = Schema("tokenctl.import_summary.v1", ImportSummaryLine, flat=True)


def import_report(report: ImportReport, *, undo: str | None) -> View[ImportData]:
    """An import's plan or receipt, with the command that is its `undo`; as JSON Lines the bad rows, then a summary."""
    rows, tokens = _import_rows(report)
    summary: ImportSummary = {
        "batch_id": report.batch_id,
        "file": report.file_name,
        "outcome": report.outcome,
        "rows": rows,
        "tokens": tokens,
        "by_reason": {reason: {"rows": n, "tokens": sum_} for reason, (n, sum_) in sorted(report.by_reason.items())},
        "new_users": report.new_users,
        "reject_file": report.reject_file,
        "seconds": round(report.seconds, 3),
        "undo": undo,
    }
    bad: list[BadRow] = [{"line": b.line, "column": b.column, "why": b.why} for b in report.bad]
    return View(
        IMPORT,
        {**summary, "bad": bad},
        _import_table(report, rows, tokens),
        value=report.batch_id,
        meta={"dry_run": report.outcome == "planned", "replayed": report.outcome == "already"},
        lines=[*((IMPORT_ROW, row) for row in bad), (IMPORT_SUMMARY, summary)],
    )


def _import_rows(report: ImportReport) -> tuple[ImportRows, int]:
    """Rows by what became of them, and the tokens of those that were or would be granted."""
    plan, batch = report.plan, report.batch
    if batch is not None:
        return {
            "read": batch.rows_read,
            "applied": batch.applied or 0,
            "posted": batch.applied or 0,
            "replayed": batch.replayed,
            "conflicting": batch.conflicting,
            "rejected": batch.rejected,
            "duplicate": batch.duplicate,
            "refused": batch.refused,
        }, batch.applied_tokens or 0
    assert plan is not None  # noqa: S101 — a report has one or the other
    return {
        "read": report.rows,
        "applied": plan.fresh,
        "posted": plan.own,
        "replayed": plan.replayed + plan.own,
        "conflicting": report.conflicting,
        "rejected": report.rejected,
        "duplicate": plan.duplicate,
        "refused": report.refused,
    }, plan.fresh_tokens


def _import_table(report: ImportReport, counts: ImportRows, tokens: int) -> Table:
    granted = "would be granted" if report.outcome == "planned" else "granted"
    rows: list[tuple[Cell, ...]] = [(granted, counts["applied"], tokens)]
    names: dict[Literal["replayed", "duplicate", "conflicting", "refused", "rejected"], str] = {
        "replayed": "already imported",
        "duplicate": "twice in the file",
        "conflicting": "key used otherwise",
        "refused": "refused by the ledger",
        "rejected": "rejected",
    }
    rows += [(words, counts[key], None) for key, words in names.items() if counts[key]]
    if report.outcome == "planned":
        rows += [
            (f"  {reason}", n, total)
            for reason, (n, total) in sorted(report.by_reason.items())
            if len(report.by_reason) > 1
        ]
    return Table((Column("RESULT"), Column("ROWS", number=True), Column("TOKENS", number=True)), rows)


def pairs(facts: Mapping[str, Any]) -> Table:
    """One object of named facts as a table."""
    return _pairs({key.upper().replace("_", " "): value for key, value in facts.items()})


def _pairs(cells: Mapping[str, Cell]) -> Table:
    return Table([Column(heading) for heading in cells], [tuple(cells.values())], pairs=True)
