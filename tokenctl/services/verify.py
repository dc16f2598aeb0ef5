"""Verify: the ledger's rules proved from its rows, and its seals against a head that was kept elsewhere."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import time

from tokenctl.services import balances, findings
from tokenctl.services.findings import Flaw
from tokenctl.storage.inspection import ALL_SEALS, TABLES, Found, Inspection, Looked, Partition, Scope
from tokenctl.storage.ledger import Ledger
from tokenctl.storage.seals import Link, Seal
from tokenctl.telemetry import catalog, logs
from tokenctl.telemetry.metrics import Metrics

#: Findings that are shown; all are counted.
SHOWN = 100

Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Asked:
    """What to verify: a scope, and beyond the rules of its rows every form and hash (`deep`), a `head`, a new seal."""

    scope: Scope
    deep: bool = False
    seal: bool = False
    head: str | None = None


@dataclass(frozen=True)
class Report:
    """What was looked at and found.

    `seal` is the newest one at the end, `sealed` says that it was made by this run, and
    `seals_checked` how many were made anew from the rows.
    """

    asked: Asked
    users: int
    entries: int
    balances: int
    funds: dict[str, int]
    counts: dict[str, int]
    flaws: tuple[Flaw, ...]
    seals_checked: int = 0
    seal: Seal | None = None
    sealed: bool = False

    @property
    def total(self) -> int:
        """How many findings there are, the shown ones included."""
        return sum(self.counts.values())


@dataclass
class _Found:
    """Findings as they come in."""

    counts: Counter[str] = field(default_factory=Counter)
    flaws: list[Flaw] = field(default_factory=list)

    def take(self, answers: Iterable[Found]) -> None:
        """Add what statements found."""
        for answer in answers:
            self.counts.update(answer.counts or {})
            self.flaws += map(findings.flaw, answer.findings or [])

    def add(self, rule: str, name: str, what: str) -> None:
        """Add a finding about no user."""
        self.counts[rule] += 1
        self.flaws.append(Flaw(rule, name, what))

    @property
    def first(self) -> tuple[Flaw, ...]:
        """The first that are shown: about the whole first, then by transaction."""
        order = sorted(self.flaws, key=lambda f: (f.user_id is not None, f.user_id or "", f.seq or 0, f.rule, f.name))
        return tuple(order[:SHOWN])


def run(
    inspection: Inspection, ledger: Ledger, asked: Asked, *, ledger_name: str, progress: Progress, metrics: Metrics
) -> Report:
    """Look, and seal what was looked at if that is asked for and nothing was found.

    Raises UserNotFound, and LockHeld when somebody else is sealing.
    """
    inspection.open(sealing=asked.seal)
    user = asked.scope.user
    if user is not None and not inspection.knows(user):
        raise balances.not_found(ledger, [user], ledger_name=ledger_name)
    found = _Found()
    parts = _partitions(inspection, found)
    looked = _rows(inspection, asked, parts, found, progress)
    seals_checked = _seals(inspection, asked, parts, found, progress)
    before = inspection.last_seal()
    seal = inspection.seal() if asked.seal and not found.counts else before
    report = Report(
        asked,
        users=sum(part.users for part in looked),
        entries=sum(part.entries for part in looked),
        balances=int(sum(part.balances for part in looked)),
        funds=_funds(looked),
        counts=dict(sorted(found.counts.items())),
        flaws=found.first,
        seals_checked=seals_checked,
        seal=seal,
        sealed=seal != before,
    )
    _tell(report, metrics)
    return report


def _partitions(inspection: Inspection, found: _Found) -> list[int]:
    """The numbers of the partitions that can be looked at; what is missing is a finding."""
    there = inspection.partitions()
    modulus = max((part.modulus for part in there), default=0)
    by_table = {table: _numbers(there, table, modulus) for table in TABLES.values()}
    for table, numbers in by_table.items():
        if not numbers:
            found.add("partition-missing", table, "has no partitions")
        for number in sorted(set(range(modulus)) - numbers):
            found.add("partition-missing", f"{table}_{number}", f"is not attached as part {number} of {modulus}")
    return sorted(set.intersection(*by_table.values()))


def _numbers(there: Iterable[Partition], table: str, modulus: int) -> set[int]:
    return {
        part.remainder
        for part in there
        if (part.root, part.name, part.modulus) == (table, f"{table}_{part.remainder}", modulus)
    }


def _rows(inspection: Inspection, asked: Asked, parts: list[int], found: _Found, progress: Progress) -> list[Looked]:
    scope = asked.scope
    with progress("verifying", 1 if scope.user is not None else len(parts)) as done:
        looked = inspection.ledger(scope, parts, done)
    found.take(looked)
    # Jobs have no seq to go by, so nobody knows which are new since a seal.
    if scope.name != "since-last" and "partition-missing" not in found.counts:
        found.take([inspection.generations(scope.user)])
    if scope.name == "all":
        found.take([inspection.batches()])
        funds, total = _funds(looked), int(sum(part.balances for part in looked))
        if total + sum(funds.values()):
            what = f"all users have {total:,}, all funds {sum(funds.values()):,}: together they are not zero"
            found.add("trial-balance", "all users", what)
    if asked.deep:
        with progress("judging forms", 1 if scope.user is not None else len(parts)) as done:
            found.take(inspection.forms(Scope(scope.user), parts, done))
        for trigger in inspection.triggers():
            found.add("trigger", trigger.table_name, f"trigger {trigger.trigger} {trigger.what}")
    return looked


def _seals(inspection: Inspection, asked: Asked, parts: list[int], found: _Found, progress: Progress) -> int:
    """Make seals anew from the rows: all with `deep`, else those under the head; how many."""
    if not asked.deep and asked.head is None:
        return 0
    number = None if asked.head is None else inspection.seal_of(asked.head)
    if asked.head is not None and number is None:
        what = f"no seal has it: what was sealed under {asked.head} was rewritten or cut off"
        found.add("head-missing", f"head {asked.head[:12]}…", what)
    # Without a head to go by, all seals: they may say which rows were changed.
    up_to = ALL_SEALS if asked.deep or number is None else number
    links = inspection.links(up_to)
    _chain(links, found)
    user = asked.scope.user
    with progress("hashing", 1 if user is not None else len(parts)) as done:
        found.take(inspection.ranges(Scope(user), up_to, parts, done))
    return len(links)


def _chain(links: list[Link], found: _Found) -> None:
    """Every seal must follow from the one before it and from its ranges."""
    before: Link | None = None
    for link in links:
        if not link.follows(before):
            found.add("seal-broken", f"seal {link.seal_no}", "does not follow from its rows and the seal before it")
        before = link


def _funds(looked: Iterable[Looked]) -> dict[str, int]:
    """The balances of the funds: what their kinds' entries took from them."""
    tokens: Counter[str] = Counter()
    for part in looked:
        tokens.update(part.funds)
    return {kind: -tokens[kind] for kind in sorted(tokens)}


def _tell(report: Report, metrics: Metrics) -> None:
    """Tell metrics and the log; one user is not news about the ledger."""
    scope, total = report.asked.scope.name, report.total
    logs.emit(
        "warning" if total else "info",
        "verified",
        scope=scope,
        findings=total,
        rules=[f"{rule}={n}" for rule, n in report.counts.items()],
        users=report.users,
        entries=report.entries,
        seal_no=report.seal.seal_no if report.seal else None,
        head=report.seal.head if report.seal else None,
    )
    metrics.count(catalog.VERIFY_ROWS, report.entries, scope=scope)
    if scope == "user":
        return
    metrics.set(catalog.VERIFY_FINDINGS, total, scope=scope)
    if not total:
        metrics.set(catalog.VERIFY_LAST_SUCCESS, time(), scope=scope)
