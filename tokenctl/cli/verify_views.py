"""What `verify` prints: findings as a table, or the seal that it made."""

from __future__ import annotations

from datetime import datetime

from tokenctl.output import Cell, Column, Count, Schema, Table, TypedDict, View
from tokenctl.services.verify import Report
from tokenctl.storage.seals import Seal


class FlawData(TypedDict):
    """One finding; `name` is the transaction, user, batch or seal that it is about."""

    rule: str
    name: str
    user_id: str | None
    seq: int | None
    what: str
    hint: str


class SealData(TypedDict):
    """A seal; its counts are of what came since the one before."""

    seal_no: Count
    head: str
    users: Count
    entries: Count
    tokens: int
    at: datetime | None
    operator: str


class VerifyData(TypedDict):
    """What was looked at and found; `seal` is the newest one, `sealed` says that this run made it."""

    ok: bool
    scope: str
    user_id: str | None
    deep: bool
    users: Count
    entries: Count
    balances: int
    funds: dict[str, int]
    findings_total: Count
    findings_by_rule: dict[str, Count]
    findings: list[FlawData]
    verified_head: str | None
    seals_checked: Count
    seal: SealData | None
    sealed: bool


VERIFY = Schema("tokenctl.verify.v1", VerifyData)


def report(found: Report) -> View[VerifyData]:
    """The findings; or with --seal, where there are none, the seal. Its value is the head, else their number."""
    sealing = found.asked.seal and not found.total
    seal = found.seal
    head = (seal.head if seal else "") if sealing else str(found.total)
    table = _seal_table(seal) if sealing else _findings(found)
    return View(VERIFY, _data(found), table, value=head, kept=sealing)


def _data(found: Report) -> VerifyData:
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


def _seal(seal: Seal | None) -> SealData | None:
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
