"""What results look like: the JSON of each, its table, its single value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenctl.models import Balance, ImportReport, Receipt
from tokenctl.output import Cell, Column, Table, View


def balances(found: Sequence[Balance], *, single: bool, ages_s: Mapping[str, float]) -> View:
    """One user as an object, several as a list; `ages_s` has those that are from the cache."""
    data = [{**_balance(item), "age_s": _seconds(ages_s.get(item.user_id))} for item in found]
    age_s = _seconds(max(ages_s.values(), default=None))
    meta = {"cached": age_s is not None, "age_s": age_s}
    columns = (
        Column("USER"),
        Column("BALANCE", number=True),
        Column("HELD", number=True),
        Column("AVAILABLE", number=True),
        Column("LAST CHANGE"),
        Column("AMOUNT", number=True),
        Column("REASON"),
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
        return View("tokenctl.balance.v1", data[0], Table(columns, rows), value=str(found[0].balance), meta=meta)
    return View(
        "tokenctl.balances.v1",
        data,
        Table(columns, rows),
        value="\n".join(str(b.balance) for b in found) or None,
        meta=meta,
    )


def _balance(item: Balance) -> dict[str, Any]:
    change = item.last_change
    return {
        "user_id": item.user_id,
        "balance": item.balance,
        "held": item.held,
        "available": item.available,
        "last_change": None if change is None else {"at": change.at, "amount": change.amount, "reason": change.reason},
    }


def _seconds(age_s: float | None) -> float | None:
    return None if age_s is None else round(age_s, 3)


def receipt(schema: str, entry: Receipt, *, dry_run: bool = False) -> View:
    """A write's receipt: who, why, how much, before and after, the name, the undo."""
    undo = None if dry_run else f"tokenctl reverse {entry.name} --reason mistake"
    reverses = f"{entry.user_id}:{entry.reverses_seq}" if entry.reverses_seq else None
    name = None if dry_run and not entry.replayed else entry.name
    data = {
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
    pairs: dict[str, Cell] = {
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
    return View(schema, data, _pairs(pairs), value=name, meta=meta)


def import_report(report: ImportReport, *, jsonl: bool) -> View:
    """An import's plan or receipt; as JSON Lines the bad rows, then a summary."""
    counts = _import_counts(report)
    tokens = counts.pop("tokens")
    data: dict[str, Any] = {
        "batch_id": report.batch_id,
        "file": report.file_name,
        "outcome": report.outcome,
        "rows": counts,
        "tokens": tokens,
        "by_reason": {reason: {"rows": n, "tokens": sum_} for reason, (n, sum_) in sorted(report.by_reason.items())},
        "new_users": report.plan.new_users if report.plan else None,
        "reject_file": report.reject_file,
        "seconds": round(report.seconds, 3),
        "undo": None if report.outcome == "planned" else f"tokenctl reverse --batch {report.batch_id} --reason mistake",
    }
    bad = [{"line": b.line, "column": b.column, "why": b.why} for b in report.bad]
    meta = {"dry_run": report.outcome == "planned", "replayed": report.outcome == "already"}
    table = _import_table(report, counts, tokens)
    if jsonl:
        lines = [{"schema": "tokenctl.import_row.v1", **row} for row in bad]
        return View(
            "tokenctl.import_summary.v1",
            [*lines, {"schema": "tokenctl.import_summary.v1", **data, **meta}],
            table,
        )
    return View("tokenctl.import.v1", {**data, "bad": bad}, table, value=report.batch_id, meta=meta)


def _import_counts(report: ImportReport) -> dict[str, Any]:
    """Rows by what became of them; `ok` is what was or would be granted."""
    plan, batch = report.plan, report.batch
    if batch is not None:
        ok, tokens = batch.applied or 0, batch.applied_tokens or 0
        return {
            "read": batch.rows_read,
            "ok": ok,
            "replayed": batch.replayed,
            "conflicting": batch.conflicting,
            "rejected": batch.rejected,
            "duplicate": batch.duplicate,
            "refused": batch.refused,
            "tokens": tokens,
        }
    assert plan is not None  # noqa: S101 — a report has one or the other
    return {
        "read": report.rows,
        "ok": plan.fresh,
        "replayed": plan.replayed + plan.own,
        "conflicting": 0,
        "rejected": report.rejected,
        "duplicate": plan.duplicate,
        "refused": 0,
        "tokens": plan.fresh_tokens,
    }


def _import_table(report: ImportReport, counts: dict[str, Any], tokens: int) -> Table:
    granted = "would be granted" if report.outcome == "planned" else "granted"
    rows: list[tuple[Cell, ...]] = [(granted, counts["ok"], tokens)]
    names = {
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


def facts(schema: str, pairs: dict[str, Cell]) -> View:
    """One object of named facts."""
    return View(schema, dict(pairs), _pairs({key.upper().replace("_", " "): value for key, value in pairs.items()}))


def text(schema: str, name: str, content: str) -> View:
    """One text, for scripts."""
    return View(schema, {name: content}, Table((Column(name.upper()),), [(content,)], bare=True), value=content)


def steps(applied: Sequence[tuple[int, str]]) -> View:
    """Schema changes, migrations with their version, function files without."""
    data = [{"version": version or None, "name": name} for version, name in applied]
    rows: list[tuple[Cell, ...]] = [(version or None, name) for version, name in applied]
    return View("tokenctl.db_migrations.v1", data, Table((Column("VERSION", number=True), Column("NAME")), rows))


def _pairs(pairs: dict[str, Cell]) -> Table:
    return Table([Column(heading) for heading in pairs], [tuple(pairs.values())], pairs=True)
