"""What verify can find, in words: what is named, what is wrong with it, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenctl.wording import counted, fitting

#: A finding's detail, as its statement in sql/queries/ gives it.
Detail = Mapping[str, Any]


@dataclass(frozen=True)
class Flaw:
    """One finding. `name` is what people call the place: a transaction, a user, a batch, a seal."""

    rule: str
    name: str
    what: str
    user_id: str | None = None
    seq: int | None = None

    @property
    def hint(self) -> str:
        """What to do about it."""
        return hint(self.rule)


_REWRITTEN = (
    "tokenctl never writes this: look in the server's log for who went past its functions,"
    " and compare with a backup before anything is mended"
)
_PROJECTION = (
    "the entries decide, the account only sums them up: if they are as they were, have the account"
    " set to their sum by whoever owns the tables"
)
_BATCH = (
    "compare the file with the entries of the batch; entries that are gone come back from a backup,"
    " never by importing again"
)
_SEALED = (
    "sealed rows were changed: compare with a backup from after that seal, and find out who can write to the tables"
)
_HINTS = {
    "balance": _PROJECTION,
    "last-seq": _PROJECTION,
    "no-account": _PROJECTION,
    "trial-balance": "the findings about single users say where the difference is",
    "held-too-much": "find out how the held tokens were spent; the holds end by themselves at their deadline",
    "paid-without-hold": "the hold was deleted, or the entry forged: see the server's log",
    "hold-of-nobody": "an account was deleted, or the hold was forged: see the server's log",
    "batch-rows": _BATCH,
    "batch-sums": _BATCH,
    "batch-unknown": _BATCH,
    "sealed-cut": _SEALED,
    "sealed-rows": _SEALED,
    "seal-broken": "the seals themselves were changed: verify with the last head that was kept elsewhere (--head)",
    "head-missing": "is it a head of this ledger? Then what it stands for was rewritten or cut off: go to a backup",
    "trigger": "the owner of the tables turned off what refuses changes: ALTER TABLE … ENABLE ALWAYS TRIGGER,"
    " and look at what was changed meanwhile",
    "partition-missing": "a part of the ledger was taken away: attach it again, or go to a backup",
}


def hint(rule: str) -> str:
    """What to do about findings of a rule."""
    return _HINTS.get(rule, _REWRITTEN)


def flaw(found: Detail) -> Flaw:
    """A finding of a statement (rule, user_id, seq, detail) in words."""
    rule, user, seq, detail = found["rule"], found["user_id"], found["seq"], found["detail"]
    name, what = _WORDS[rule](user, seq, detail)
    return Flaw(rule, name, what, user, seq)


def _gap(user: str, seq: int, d: Detail) -> tuple[str, str]:
    if seq <= max(d["seq_before"], 0):
        return f"{user}:{seq}", "stands twice, or below 1"
    first, last = max(d["seq_before"], 0) + 1, seq - 1
    if first > last:
        return f"{user}:{seq}", f"comes after seq {d['seq_before']}"
    missing = "is missing" if first == last else f"and all up to {user}:{last} are missing"
    return f"{user}:{first}", f"{missing}: after seq {d['seq_before']} comes {seq}"


def _last_seq(user: str, _seq: int | None, d: Detail) -> tuple[str, str]:
    if d["last_seq"] > d["newest"]:
        return f"{user}:{d['newest'] + 1}", f"is missing: the account counts up to {d['last_seq']}"
    return user, f"the account counts {_entries(d['last_seq'])}, there {_is(d['entries'])} {d['entries']:,}"


def _running_sum(user: str, seq: int, d: Detail) -> tuple[str, str]:
    right = d["balance_before"] + d["amount"]
    return f"{user}:{seq}", (
        f"balance_after is {d['balance_after']:,}, but {d['balance_before']:,} and {d['amount']:+,} make {right:,}"
    )


def _sealed(user: str, first: int, d: Detail) -> tuple[str, str]:
    last = d["last_seq"]
    name = f"{user}:{first}" if first == last else f"{user}:{first}-{last}"
    found, sealed = d["entries"], last - first + 1
    there = "" if found == sealed else f"; {found:,} of {_entries(sealed)} {_is(found)} there"
    return name, f"not what seal {d['seal_no']} holds: edited, reordered or removed{there}"


def _unpaired(user: str, seq: int, d: Detail) -> tuple[str, str]:
    reversed_ = f"{user}:{d['reverses_seq']}, {d['reversed_amount']:+,} {d['reversed_kind']}"
    return f"{user}:{seq}", f"is {d['amount']:+,} {d['kind']} and reverses {reversed_}"


def _captured(user: str, _seq: int | None, d: Detail) -> tuple[str, str]:
    hold = f"hold {d['hold_id']} of {d['amount']:,} was captured as {user}:{d['captured_seq']}"
    if d["entry_seq"] is None:
        return user, f"{hold}, which is not there"
    if d["captures"] > 1:
        return user, f"{hold}, and so was another hold"
    return user, f"{hold}, which is {d['entry_amount']:+,} {d['entry_kind']}"


def _batch_rows(_user: None, _seq: None, d: Detail) -> tuple[str, str]:
    applied = f"{_entries(d['applied'] or 0)} of {counted(d['applied_tokens'] or 0, 'token')}"
    there = f"{_is(d['entries'] or 0)} {d['entries'] or 0:,} of {d['tokens'] or 0:,}"
    return f"batch {d['batch']}", f"counts {applied} in partition {d['part']}, there {there}"


def _batch_sums(_user: None, _seq: None, d: Detail) -> tuple[str, str]:
    name = f"batch {d['batch_id']}"
    if d["state"] == "staging":
        return name, f"has not begun, and its slices count {_entries(d['lanes_applied'])}"
    if d["pending"]:
        return name, f"is done, and {d['pending']:,} of its slices {_is(d['pending'])} not"
    if d["rows_told"] not in (None, d["rows_read"]):
        return name, f"read {counted(d['rows_read'], 'row')}, and tells what became of {d['rows_told']:,}"
    applied = f"counts {_entries(d['applied'])} of {counted(d['applied_tokens'], 'token')}"
    return name, f"{applied}, its slices {d['lanes_applied']:,} of {d['lanes_applied_tokens']:,}, or other rows differ"


def _job(user: str, _seq: int | None, d: Detail) -> tuple[str, str]:
    paid = (
        f"was paid with {d['amount']:,} and has no image"
        if d["state"] == "captured"
        else f"has its image and is {d['state']}, not paid"
    )
    return user, f"generation {d['generation']} {paid}"


def _entries(number: int) -> str:
    return counted(number, "entry", "entries")


def _is(number: int) -> str:
    return fitting(number, "is", "are")


_Words = Callable[[Any, Any, Detail], tuple[str, str]]
_WORDS: dict[str, _Words] = {
    "seq-gap": _gap,
    "amount-range": lambda u, s, d: (
        f"{u}:{s}",
        f"an amount of {d['amount']} with a balance of {d['balance_after']} is out of range",
    ),
    "running-sum": _running_sum,
    "time-order": lambda u, s, d: (
        f"{u}:{s}",
        f"is of {d['created_at']}, the entry before it of {d['at_before']}",
    ),
    "no-account": lambda u, _s, d: (
        u,
        f"has {_entries(d['entries'])}, {counted(d['tokens'], 'token')}, and no account",
    ),
    "balance": lambda u, _s, d: (u, f"the account says {d['balance']:,}, its entries make {d['tokens']:,}"),
    "last-seq": _last_seq,
    "sealed-cut": lambda u, s, d: (
        f"{u}:{d['last_seq'] + 1}",
        f"was sealed and is gone: sealed up to {s}, the account counts {d['last_seq']}",
    ),
    "reversal-of-nothing": lambda u, s, d: (
        f"{u}:{s}",
        f"reverses {u}:{d['reverses_seq']}, which is not there or not earlier",
    ),
    "reversal-unpaired": _unpaired,
    "reversed-twice": lambda u, s, d: (f"{u}:{s}", f"reverses {u}:{d['reverses_seq']}, as {d['times']} entries do"),
    "hold-captured": _captured,
    "hold-state": lambda u, _s, d: (u, f"hold {d['hold_id']} is {d['state']}, and its other columns say otherwise"),
    "paid-without-hold": lambda u, s, d: (
        f"{u}:{s}",
        f"is a generation of {d['amount']:+,}, and no hold was captured as it",
    ),
    "paid-without-image": _job,
    "image-unpaid": _job,
    "hold-of-nobody": lambda u, _s, d: (u, f"has holds of {counted(d['held'] or 0, 'token')} and no account"),
    "held-too-much": lambda u, _s, d: (
        u,
        f"{counted(d['held'], 'token is', 'tokens are')} held of a balance of {d['balance']:,}",
    ),
    "batch-unknown": lambda _u, _s, d: (
        f"batch {d['batch']}",
        f"is named by {_entries(d['entries'] or 0)} in partition {d['part']}, and nobody knows it",
    ),
    "batch-rows": _batch_rows,
    "batch-sums": _batch_sums,
    "form": lambda u, s, d: (f"{u}:{s}", f"has not its form: {d['what']}"),
    "key-twice": lambda u, s, d: (f"{u}:{s}", f"has the idempotency key of {u}:{d['first']}"),
    "sealed-rows": _sealed,
}
