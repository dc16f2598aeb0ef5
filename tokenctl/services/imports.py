"""Importing a grant file exactly once: check, plan, confirm, apply, receipt.

The batch's id is made of the file's content and of the options that change rows,
so the same work is known by one name however often and wherever it is started.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Self

from tokenctl.errors import BadData, NotAllowed, TokenctlError
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.rejects import RejectFile
from tokenctl.grantfile.source import Source
from tokenctl.grantfile.tally import Tally
from tokenctl.models import BadLine, Batch, Finding, ImportReport, Plan
from tokenctl.services import batches, import_refusals
from tokenctl.services.bad_lines import as_bad_line
from tokenctl.settings import Limits
from tokenctl.storage.imports import BatchStore
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from tokenctl.grantfile.rows import BadRow

#: What metrics call this job.
JOB = "batch-import"
#: What becomes of a row, by the names of a batch's counts.
RESULTS = ("applied", "replayed", "conflicting", "refused", "rejected", "duplicate")
#: What posting finds out as well.
MET = {"conflict", "reversed", "refused"}
#: Problems of bad rows that are named in a message; all of them go to the reject file.
SHOWN = 100
#: Tokens of one file that can be counted: --expect-total takes no more, nor do the ledger's sums.
MAX_TOTAL = 10**18 - 1

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class ImportOptions:
    """What `batch-import` was asked for, beyond the file; counts in rows and tokens."""

    rows: CheckOptions
    partial: bool = False
    known_users_only: bool = False
    atomic: bool = False
    expect_rows: int | None = None
    expect_total: int | None = None
    reject_file: str | None = None


@dataclass
class Import:
    """One run of an import: from the file to its receipt. Close it whatever happens."""

    source: Source
    options: ImportOptions
    store: BatchStore
    limits: Limits
    metrics: Metrics
    dry_run: bool = False
    tally: Tally = field(default_factory=Tally)
    plan: Plan = field(default_factory=Plan)
    bad: list[BadLine] = field(default_factory=list)
    rejected: int = 0
    problems: int = 0
    #: Rows that posting will leave out as things stand, and finds out itself.
    foreseen: list[Finding] = field(default_factory=list)
    _rejects: RejectFile | None = None
    _opened: bool = False
    _resumes: bool = False
    _done: Batch | None = None
    _started: float = field(default_factory=monotonic)

    @property
    def batch_id(self) -> str:
        """The batch's name."""
        return batch_id(self.source, self.options)

    def prepare(self, *, progress: Progress) -> ImportReport | None:
        """Stage and judge every row; answers the old receipt when the file was imported before.

        Raises BadData with every bad row named unless `partial`, LockHeld while another
        run is at it, ReplayOfReversed, NotAllowed, LimitNotConfirmed.
        """
        if not self.store.lock():
            raise import_refusals.held(self.store, self.source.name, self.batch_id)
        known = self.store.batch()
        outcome = self.store.open_import(
            file_name=self.source.name,
            sha256=self.source.sha256,
            size=self.source.size,
            options=_changing(self.options),
            rows=self.source.line_count,
        )
        if outcome == "not_allowed":
            raise NotAllowed("the database's role may not import", hint="it needs tokenctl_batch")
        if outcome == "done":
            return self._already(known, progress)
        if outcome == "reversed":
            raise import_refusals.taken_back(self.store, self.batch_id)
        self._opened = True
        self._resumes = outcome == "resume"
        with progress("checking", self.source.size) as advance:
            self._copy(advance)
        self._judge()
        return None

    def unconfirmed_total(self) -> int | None:
        """The total that must still be confirmed, in tokens; None when it is within the limit."""
        within = self.tally.tokens <= self.limits.batch_total
        return None if within or self.options.expect_total is not None else self.tally.tokens

    def planned(self) -> ImportReport:
        """The report of a dry run; what was staged is dropped."""
        self._give_up()
        self.bad = [*self.bad, *map(as_bad_line, self.foreseen)][:SHOWN]
        refused = sum(finding.problem == "refused" for finding in self.foreseen)
        return replace(self._report("planned", None), conflicting=len(self.foreseen) - refused, refused=refused)

    def apply(self, *, progress: Progress) -> ImportReport:
        """Post what was planned, slice by slice; the same command finishes what is cut off."""
        if self._rejects is not None:
            self._rejects.commit()  # before anything is posted: it may turn out that it can't be made
        self.store.begin(self._asked())
        lanes = self.store.pending()
        with progress("importing", sum(lane.staged for lane in lanes)) as advance:
            post = self.store.apply_atomically if self.options.atomic else self.store.apply
            post(lanes, progress=advance)
        batch = self.store.finish(rows_read=self.tally.rows, rejected=self.rejected, duplicate=self.plan.duplicate)
        self._opened = False
        late = (
            [as_bad_line(finding) for finding in self.store.lane_findings()]
            if batch.conflicting or batch.refused
            else []
        )
        self.bad = [*self.bad, *late][:SHOWN]
        return self._report("resumed" if self._resumes else "applied", batch)

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whatever happened."""
        self.close()

    def close(self) -> None:
        """Give back the lock; what was only staged is dropped."""
        if self._opened:
            with suppress(TokenctlError):  # the reaper of the next import drops it too
                self._give_up()
        if self._rejects is not None:
            self._rejects.discard()
        self.store.close()
        if not self.dry_run:
            self._measure()

    def _copy(self, advance: Callable[[int], None]) -> None:
        """Judge the rows, and give the good ones to the database."""
        from tokenctl.grantfile.check import check

        blocks = check(self.source, self.options.rows)
        first = next(blocks)  # there is one: a file without a line is refused before

        def good() -> Iterator[bytes]:
            for block in chain((first,), blocks):
                self.tally.add(block)
                for row in block.bad:
                    self._reject(row)
                advance(block.bytes_read)
                yield block.copy

        self.store.copy(first.columns, good())

    def _judge(self) -> None:
        """Refuse now, before anything is posted, or take the bad rows out."""
        if self.tally.tokens > MAX_TOTAL:
            raise BadData(
                f"{self.source.name}: its rows sum to {self.tally.tokens:,} tokens; one import carries {MAX_TOTAL:,}",
                hint="are the amounts right? a large file can be split",
            )
        known_only = self.options.known_users_only
        first = self.plan = self.store.plan(known_only=known_only)
        found = self.store.findings(known_only=known_only) if first.findings else {}
        left_out = self._to_leave_out(found)
        dropped = {finding.line for findings in left_out.values() for finding in findings}
        self.foreseen = [one for findings in found.values() for one in findings if one.line not in dropped]
        if left_out:
            self._reject_findings([finding for findings in left_out.values() for finding in findings])
        # Bad rows first: they are often why a sum is not the expected one.
        if self.rejected and not self.options.partial:
            raise self._bad_rows()
        self._expectations()
        if left_out:  # these very rows: what has changed since is met when they are posted
            self.plan = self.store.plan(known_only=known_only, drop=left_out)
        if self.foreseen:  # they stay to be judged when they are posted, and are not promised
            self.plan = self.store.plan(known_only=known_only, drop=found, trial=True)
        self.plan = replace(self.plan, findings=first.findings, duplicate=first.duplicate)

    def _bad_rows(self) -> BadData:
        return import_refusals.bad_rows(
            self.source.name,
            sorted(self.bad, key=lambda bad: bad.line),
            problems=self.problems,
            rejected=self.rejected,
            rows=self.tally.rows,
            resumes=self._resumes,
        )

    def _to_leave_out(self, found: dict[int, list[Finding]]) -> dict[int, list[Finding]]:
        """Of what stands in the way, by partition, all that posting cannot judge as well."""
        problems = {finding.problem for findings in found.values() for finding in findings}
        if self._resumes and not self.options.partial and problems <= MET:
            return {}  # met on the way, while posting: these are reported, and the rest is finished
        if self.options.partial:  # a balance may be another by the time of posting
            found = {part: [one for one in findings if one.problem != "refused"] for part, findings in found.items()}
        return {part: findings for part, findings in found.items() if findings}

    def _expectations(self) -> None:
        tally, options = self.tally, self.options
        self._hold_to(tally.rows, tally.tokens)
        if not self.source.ends_with_newline and options.expect_rows is None and options.expect_total is None:
            raise BadData(
                f"{self.source.name}:{tally.last_line}: the last line has no newline: the file may have been cut",
                hint=f"if it is whole: --expect-rows {tally.rows} --expect-total {tally.tokens}",
            )

    def _hold_to(self, rows: int, tokens: int | None) -> None:
        """Refuse a file that has other rows or tokens than were expected."""
        expect = {"expect_rows": self.options.expect_rows, "expect_total": self.options.expect_total}
        if (refusal := import_refusals.unexpected(self.source.name, rows=rows, tokens=tokens, **expect)) is not None:
            raise refusal

    def _reject(self, row: BadRow) -> None:
        self.rejected += 1
        self.problems += len(row.problems)
        if self.problems <= SHOWN:  # whole rows, and none after the first that is not named
            self.bad += [BadLine(row.line, problem.column, problem.why) for problem in row.problems]
        if self.options.partial and not self.dry_run:
            if self._rejects is None:
                self._rejects = RejectFile(self.source, self.options.rows, self.batch_id, self.options.reject_file)
            self._rejects.add(row)

    def _reject_findings(self, findings: list[Finding]) -> None:
        """Read the file again for the rows as they stand there."""
        from tokenctl.grantfile.check import rows_at

        problems = {finding.line: as_bad_line(finding) for finding in findings}
        for row in rows_at(
            self.source, self.options.rows, {line: (bad.column, bad.why) for line, bad in problems.items()}
        ):
            self._reject(row)

    def _already(self, batch: Batch | None, progress: Progress) -> ImportReport:
        assert batch is not None  # noqa: S101 — open_import just said that it is done, and the lock is ours
        tokens = None if self.options.expect_total is None else self._imported_total(batch, progress)
        self._hold_to(batch.rows_read or 0, tokens)
        return self._report("already", batch)

    def _imported_total(self, batch: Batch, progress: Progress) -> int:
        """The tokens in the good rows of a file that was imported: of one that left rows out, the file has to tell."""
        if not (batch.rejected or batch.conflicting or batch.refused or batch.duplicate):
            return (batch.applied_tokens or 0) + (batch.replayed_tokens or 0)
        from tokenctl.grantfile.check import check

        tally = Tally()
        with progress("checking", self.source.size) as advance:
            for block in check(self.source, self.options.rows):
                tally.add(block)
                advance(block.bytes_read)
        return tally.tokens

    def _give_up(self) -> None:
        self._opened = False
        self.store.give_up()

    def _asked(self) -> dict[str, Any]:
        """What the command line had beside the options that change rows, by flag; the total as it was confirmed."""
        options = self.options
        typed = self.unconfirmed_total()
        asked = {
            "format-in": options.rows.format,
            "partial": options.partial,
            "known-users-only": options.known_users_only,
            "atomic": options.atomic,
            "expect-rows": options.expect_rows,
            "expect-total": options.expect_total if typed is None else typed,
            "reject-file": options.reject_file,
        }
        return {flag: value for flag, value in asked.items() if value is not None and value is not False}

    def _measure(self) -> None:
        """What the job's last run came to: its batch, also one that was done before; without any, only bad rows.

        A run that leaves rows out is no success, and one that finds its file imported succeeded back then.
        """
        batch = self._done
        counts = {"rejected": self.rejected} if batch is None else {name: getattr(batch, name) for name in RESULTS}
        for result in RESULTS:
            self.metrics.set(catalog.BATCH_ROWS, counts.get(result) or 0, job=JOB, result=result)
        if batch is not None and batch.finished_at and not (batch.rejected or batch.conflicting or batch.refused):
            self.metrics.rise(catalog.BATCH_LAST_SUCCESS, batch.finished_at.timestamp(), job=JOB)
        self.metrics.set(catalog.BATCH_LAST_RUN, time(), job=JOB)
        self.metrics.set(catalog.BATCH_LAST_DURATION, monotonic() - self._started, job=JOB)

    def _reject_file(self, batch: Batch | None) -> str | None:
        """Where the bad rows are: of this run, or of the one that imported the file before."""
        if self._rejects is not None:
            return str(self._rejects.path)
        return None if batch is None else batches.rejects_of(batch)

    def _report(self, outcome: str, batch: Batch | None) -> ImportReport:
        self._done = batch
        return ImportReport(
            outcome=outcome,
            batch_id=self.batch_id,
            file_name=self.source.name,
            rows=self.tally.rows,
            total=self.tally.tokens,
            rejected=self.rejected,
            plan=self.plan if outcome == "planned" else None,
            batch=batch,
            bad=tuple(sorted(self.bad, key=lambda bad: bad.line)),
            reject_file=self._reject_file(batch),
            seconds=monotonic() - self._started,
            posted=max((batch.applied or 0) - self.plan.own, 0) if outcome in ("applied", "resumed") and batch else 0,
            unconfirmed=self.unconfirmed_total() if outcome == "planned" else None,
            new_users=None if outcome == "already" else self.plan.new_users,
            by_reason=dict(self.tally.by_reason),
        )


def batch_id(source: Source, options: ImportOptions) -> str:
    """The first 12 hex digits of sha256 over the file's digest and the options that change rows."""
    canonical = json.dumps([source.sha256, _changing(options)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _changing(options: ImportOptions) -> dict[str, Any]:
    chosen = {"campaign": options.rows.campaign, "reason": options.rows.default_reason}
    return {name: value for name, value in chosen.items() if value is not None}
