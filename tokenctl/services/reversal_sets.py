"""Undoing many entries: a batch, or all that one operator did. Staged, counted, confirmed, posted by slices."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Self

from tokenctl import commandline
from tokenctl.errors import (
    AlreadyReversed,
    BalanceTooLarge,
    InsufficientTokens,
    LimitNotConfirmed,
    LockHeld,
    NotAllowed,
    NotFound,
    Refused,
    TokenctlError,
    TryLater,
)
from tokenctl.models import Batch, Plan, Selection
from tokenctl.services.batch_commands import again
from tokenctl.services.unreversed import MOST, NAMED, TOO_LARGE, as_data, named, named_overflows
from tokenctl.settings import Limits
from tokenctl.storage.imports import BatchStore
from tokenctl.storage.staged import KindTotal, LeftOut
from tokenctl.wording import counted, fitting

#: How often it is looked for what is due, when somebody else is quicker each time.
LOOKS = 5

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
_WAS = ("entry was not", "entries were not")
_WOULD_BE = ("entry would not be", "entries would not be")


@dataclass(frozen=True)
class Asked:
    """What `reverse --batch` or `--operator` was asked for; `expect_total` in tokens."""

    chosen: Selection
    reason: str
    note: str | None = None
    ticket: str | None = None
    partial: bool = False
    expect_total: int | None = None


@dataclass
class Undoing:
    """One run of the reversal of many: from the selection to its receipt. Close it whatever happens."""

    make_store: Callable[[str], BatchStore]
    asked: Asked
    limits: Limits
    original: Batch | None = None
    plan: Plan = field(default_factory=Plan)
    kinds: list[KindTotal] = field(default_factory=list)
    users_left_out: list[LeftOut] = field(default_factory=list)
    #: Entries that were left out when it was tried, because a balance would have been too large.
    too_large: int = 0
    earlier: list[Batch] = field(default_factory=list)
    resumes: bool = False
    #: The batch that gave back what an earlier reversal took, for one that is resumed and leaves that out.
    given_back: str | None = None
    #: What a total may come to without its number, in tokens: the limit, or what was confirmed for one that is resumed.
    bound: int = 0
    _store: BatchStore | None = None
    _opened: bool = False
    _started: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return monotonic() - self._started

    @property
    def store(self) -> BatchStore:
        """The batch at work."""
        assert self._store is not None  # noqa: S101 — prepare makes it
        return self._store

    @property
    def shortages(self) -> list[LeftOut]:
        """Users whose tokens are spent or held."""
        return self._left_out_as("refused")

    @property
    def overflows(self) -> list[LeftOut]:
        """Users whose balance would be too large."""
        return self._left_out_as("too_large")

    @property
    def left_out(self) -> int:
        """Entries that are not reversed as things stand."""
        return sum(one.entries for one in self.users_left_out)

    @property
    def taken(self) -> int:
        """Tokens that users lose, in the whole of a reversal that was cut off too."""
        return sum(kind.taken for kind in self.kinds) - sum(one.taken for one in self.users_left_out)

    @property
    def given(self) -> int:
        """Tokens that users get back, because what is undone had taken them."""
        return sum(kind.given for kind in self.kinds) - sum(one.given for one in self.users_left_out)

    @property
    def total(self) -> int:
        """Tokens that move at most, either way: what a limit bounds."""
        return self.taken + self.given

    def prepare(self) -> None:
        """Stage and count. Raises when there is nothing to reverse, not enough, or another total than expected."""
        self._open()
        staged = self.store.stage_reversal()
        self.given_back = staged.given_back
        if self.given_back is not None and not self.resumes:  # what was begun is finished, with what is left to it
            raise self._given_back(self.given_back, finished=False)
        if not staged.staged and not self.resumes:
            raise self._nothing(found=staged.chosen)
        self.plan = self.store.plan(known_only=False)
        self.kinds = _by_kind(self.store.totals())
        self.users_left_out = self.store.leave_out()
        self.bound = self._confirmed() if self.resumes else self.limits.batch_total
        if self.resumes:  # one that was cut off is finished, and leaves out those users alone
            self._expect_resumed()
            return
        entries = self.left_out
        if entries and (not self.asked.partial or entries == self.plan.fresh):
            raise self._refusal(nothing_left=entries == self.plan.fresh)
        self._expect(self.total, "comes to")

    def kept_words(self) -> str | None:
        """What one that is finished keeps from its beginning, and what this run gives in vain; None without that."""
        batch = self.store.batch() if self.resumes else None
        if batch is None:
            return None
        begun = {"reason": batch.reason, "note": batch.options.get("note"), "ticket": batch.options.get("ticket")}
        given = {"reason": self.asked.reason, "note": self.asked.note, "ticket": self.asked.ticket}
        in_vain = [f"--{name} {value}" for name, value in given.items() if value not in (None, begun[name])]
        keeps = ", ".join(f"{name} {value}" for name, value in begun.items() if value)
        return f"{keeps}, and not with {', '.join(in_vain)}" if in_vain else None

    def unconfirmed_total(self) -> int | None:
        """The total that must still be confirmed, in tokens; None when it is within bounds, or was named."""
        return None if self.total <= self.bound or self.asked.expect_total is not None else self.total

    def apply(self, *, progress: Progress) -> Batch:
        """Post what was staged, slice by slice; the same command finishes what is cut off."""
        self.store.begin_reversal(max(self.total, self.bound) if self.resumes else self.total)
        lanes = self.store.pending()
        with progress("reversing", sum(lane.staged for lane in lanes)) as advance:
            self.store.apply(lanes, progress=advance)
        done = self.store.finish(rows_read=None, rejected=0, duplicate=0)
        self._opened = False
        if done.refused:
            self.too_large = self.store.problems().get("too_large", 0)
        return done

    def incomplete(self, done: Batch | None) -> Refused | None:
        """The error to end with when entries were left out, or with `done` None would be."""
        if self.given_back is not None:
            return self._given_back(self.given_back, finished=done is not None)
        if done is None and self.left_out:
            too_large = sum(user.entries for user in self.overflows)
            hint = "the same command without --dry-run reverses the others"
            return self._part(self.left_out, too_large, _WOULD_BE, hint)
        if done is not None and done.refused:
            when = "when they are there" if done.refused > self.too_large else "when there is room"
            hint = (
                f"the same command reverses the rest {when};"
                f" {commandline.line('batches', 'show', done.batch_id)} names the entries"
            )
            return self._part(done.refused, self.too_large, _WAS, hint)
        if done is not None and done.conflicting:
            return Refused(
                f"{counted(done.conflicting, *_WAS)} reversed: another entry has their key, reverse:SEQ",
                hint="reverse them one by one with --idempotency-key",
            )
        return None

    def _part(self, entries: int, too_large: int, verb: tuple[str, str], hint: str) -> Refused:
        """The error for so many entries that were, or would be, left out, of which some are too large."""
        lacking = entries - too_large
        why = [f"{counted(lacking, *verb)} reversed: the tokens are spent or held"] if lacking else []
        why += [f"{counted(too_large, *verb)} reversed: {TOO_LARGE}"] if too_large else []
        return Refused("; ".join(why), hint=hint, refused=entries, shortages=as_data(self.shortages))

    @property
    def name(self) -> str:
        """What is reversed, in words."""
        chosen = self.asked.chosen
        if chosen.batch is not None:
            return f"batch {chosen.batch}"
        return f"what {chosen.operator} did {_span(chosen)}"

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give back the lock; what was only staged is dropped."""
        if self._opened:
            with suppress(TokenctlError):  # the reaper of the next import drops it too
                self.store.give_up()
        if self._store is not None:
            self._store.close()

    def _open(self) -> None:
        """Lock and open; look again when somebody was quicker, who may have left something out."""
        self._opened = any(self._opens_next() for _ in range(LOOKS))
        if not self._opened:
            raise TryLater(
                f"{self.name} is being reversed by others at this moment", hint="try again when that is done"
            )

    def _opens_next(self) -> bool:
        """Lock and open the reversal that is due; False when somebody did it between look and lock."""
        chosen, asked = self.asked.chosen, self.asked
        self._store = self.make_store(_batch_id(chosen, 0))
        if chosen.batch is not None:
            self.original = self.store.batch(chosen.batch)
            if self.original is None:
                raise NotFound(
                    f"no batch {chosen.batch} in this ledger", hint=f"{commandline.line('batches')} lists them"
                )
        free = self._free_name()  # first: whoever takes it from now on is met under it, all before are seen next
        self.earlier = self.store.reversals(chosen)
        cut_off = next((batch.batch_id for batch in self.earlier if batch.state != "done"), None)
        self.store.close()
        self._store = self.make_store(cut_off or free)
        names = [chosen.batch] if chosen.batch is not None else []
        if not self.store.lock(*names):
            by = self.store.holder(*names)
            raise LockHeld(
                f"{self.name} is being imported or reversed at this moment" + (f" by {by}" if by else ""),
                hint="try again when that is done",
            )
        match self.store.open_reversal(chosen, reason=asked.reason, note=asked.note, ticket=asked.ticket):
            case "not_allowed":
                raise NotAllowed("the database's role may not reverse so much at once", hint="it needs tokenctl_batch")
            case "not_finished":
                raise self._unfinished()
            case "done":
                self.store.close()
                return False
            case outcome:
                self.resumes = outcome == "resume"
        return True

    def _unfinished(self) -> Refused:
        """The error for a batch that was cut off: nobody is at it, or its lock would not be ours."""
        assert self.original is not None  # noqa: S101 — what an operator did is never unfinished
        finishing = again(self.original)
        hint = f"this finishes it:\n{finishing}" if finishing else "run its import again to finish it, then reverse it"
        what = "a reversal" if self.original.kind == "reversal" else "an import"
        return Refused(f"{self.name} is {what} that was cut off: it is not finished", hint=hint)

    def _free_name(self) -> str:
        """The first of the selection's names that no batch has; whoever imports may have given one to other work."""
        names = (_batch_id(self.asked.chosen, number) for number in count())
        return next(name for name in names if self.store.batch(name) is None)

    def _refusal(self, *, nothing_left: bool) -> Refused:
        """The error that names who stands in the way: has spent or holds the tokens, or would have too many."""
        missing = sum(item.missing for item in self.shortages)
        lack = fitting(len(self.shortages), "lacks", "lack")
        why = [f"{counted(len(self.shortages), 'user')} {lack} {counted(missing, 'token')}"] if self.shortages else []
        why += [f"the balance of {counted(len(self.overflows), 'user')} would pass {MOST}"] if self.overflows else []
        way = "" if nothing_left else "; --partial reverses what can be"
        before = [batch for batch in self.earlier if batch.applied]
        what = f"the rest of {self.name}" if before else self.name
        entries = counted(before[-1].applied or 0, "entry", "entries") if before else ""
        done = f"; batch {before[-1].batch_id} reversed {entries}" if before else ""
        spent = "; the tokens are spent or held" if self.shortages else ""
        detail = "\n".join(
            [f"{what} cannot be reversed: {', '.join(why)}", *named(self.shortages), *named_overflows(self.overflows)]
        )
        hint = f"nothing was changed{spent}{done}{way}"
        if not self.shortages:
            return BalanceTooLarge(detail, hint=hint, users=[item.user_id for item in self.overflows[:NAMED]])
        return InsufficientTokens(
            detail,
            hint=hint,
            missing=missing,
            users=[item.user_id for item in self.shortages[:NAMED]],
            shortages=as_data(self.shortages),
        )

    def _nothing(self, *, found: bool) -> TokenctlError:
        """Why nothing was staged."""
        if not found and self.asked.chosen.operator is not None:
            return NotFound(
                f"no entry was made by {self.asked.chosen.operator} {_span(self.asked.chosen)}",
                hint="an operator is a database role, a user name or user@host, as"
                f" {commandline.line('history', 'USER')} shows them",
            )
        if self.original is not None and not self.original.applied:
            return Refused(f"{self.name} posted nothing: there is nothing to reverse", hint="nothing was changed")
        if self.original is not None and not self.earlier:
            return AlreadyReversed(
                f"nothing of {self.name} is left to reverse: each of its entries was reversed already",
                hint=f"nothing was changed; {commandline.line('history', 'USER')} shows by whom",
            )
        by = f" by batch {self.earlier[-1].batch_id} ({self.earlier[-1].operator})" if self.earlier else ""
        return AlreadyReversed(f"{self.name} is already reversed{by}", hint="nothing was changed")

    def _given_back(self, batch: str, *, finished: bool) -> AlreadyReversed:
        """The error that names the batch which gave back what a reversal of this took: it is what can be undone."""
        again = commandline.line("reverse", "--batch", batch, "--reason", self.asked.reason)
        done = "what was cut off is finished" if finished else "nothing was changed"
        return AlreadyReversed(
            f"{self.name} was reversed, and batch {batch} reversed that",
            hint=f"{done}; this undoes it again:\n{again}",
        )

    def _confirmed(self) -> int:
        """The total with which a reversal was begun that is finished now."""
        batch = self.store.batch()
        return self.total if batch is None else int(batch.options.get("total", self.total))

    def _expect_resumed(self) -> None:
        """Hold --expect-total against what may move now, or what was confirmed when that is no less."""
        if self.total > self.bound:
            self._expect(self.total, f"was begun with {counted(self.bound, 'token')} and comes to")
        elif self.asked.expect_total != self.total:
            self._expect(self.bound, "was begun with")

    def _left_out_as(self, problem: str) -> list[LeftOut]:
        return [one for one in self.users_left_out if one.problem == problem]

    def _expect(self, total: int, verb: str) -> None:
        expected = self.asked.expect_total
        if expected is not None and expected != total:
            raise LimitNotConfirmed(
                f"the reversal of {self.name} {verb} {counted(total, 'token')}, --expect-total says {expected:,};"
                " nothing was changed",
                hint="look at it with --dry-run",
                tokens=total,
            )


def _by_kind(totals: Sequence[KindTotal]) -> list[KindTotal]:
    """One total for each kind."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for total in totals:
        for place, number in enumerate((total.entries, total.taken, total.given)):
            sums[total.kind][place] += number
    return [KindTotal(kind, *sums[kind]) for kind in sorted(sums)]


def _batch_id(chosen: Selection, number: int) -> str:
    """The id of the reversal of a selection with that number, from 0 on: the same work has one name."""
    if chosen.batch is not None:
        what = f"reverse:{chosen.batch}:{number}"
    else:
        what = "\0".join(map(str, ("reverse-operator", chosen.operator, chosen.since, chosen.until, number)))
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def _span(chosen: Selection) -> str:
    until = f" until {chosen.until:%Y-%m-%d %H:%M} UTC" if chosen.until is not None else ""
    return f"since {chosen.since:%Y-%m-%d %H:%M} UTC{until}"
