"""What `verify` prints: findings as a table, or the seal that it made."""

from __future__ import annotations

from typing import Any

from tokenctl.output import Cell, Column, Table, View
from tokenctl.services.verify import Report
from tokenctl.storage.seals import Seal


def report(found: Report) -> View:
    """The findings; or with --seal, where there are none, the seal. Its value is the head, else their number."""
    sealing = found.asked.seal and not found.total
    seal = found.seal
    head = (seal.head if seal else "") if sealing else str(found.total)
    return View("tokenctl.verify.v1", _data(found), _seal_table(seal) if sealing else _findings(found), value=head)


def _data(found: Report) -> dict[str, Any]:
    asked = found.asked
    return {
        "ok": not found.total,
        "scope": asked.scope.name,
        "user_id": asked.scope.user,
        "deep": asked.deep,
        "users": found.users,
        "entries": found.entries,
        "balances": found.balances,
        "funds": found.funds,
        "findings_total": found.total,
        "findings_by_rule": found.counts,
        "findings": [
            {
                "rule": flaw.rule,
                "name": flaw.name,
                "user_id": flaw.user_id,
                "seq": flaw.seq,
                "what": flaw.what,
                "hint": flaw.hint,
            }
            for flaw in found.flaws
        ],
        "verified_head": asked.head,
        "seals_checked": found.seals_checked,
        "seal": _seal(found.seal),
        "sealed": found.sealed,
    }


def _seal(seal: Seal | None) -> dict[str, Any] | None:
    """A seal; its counts are of what came since the one before."""
    if seal is None:
        return None
    return {
        "seal_no": seal.seal_no,
        "head": seal.head,
        "users": seal.users,
        "entries": seal.entries,
        "tokens": int(seal.tokens),
        "at": seal.sealed_at,
        "operator": seal.operator,
    }


def _findings(found: Report) -> Table:
    rows: list[tuple[Cell, ...]] = [(flaw.name, flaw.rule, flaw.what) for flaw in found.flaws]
    return Table((Column("FINDING"), Column("RULE"), Column("WHAT")), rows)


def _seal_table(seal: Seal | None) -> Table:
    columns = ("SEAL", "HEAD", "ENTRIES", "USERS", "AT", "BY")
    rows: list[tuple[Cell, ...]] = (
        [(seal.seal_no, seal.head, seal.entries, seal.users, seal.sealed_at, seal.operator)] if seal else []
    )
    return Table([Column(name) for name in columns], rows, pairs=bool(seal))
