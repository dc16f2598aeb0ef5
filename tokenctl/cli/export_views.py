"""What the exported ledger looks like: rows for programs, and a journal for hledger.

In the journal each entry is a transaction between a user and the fund of its kind. No text
of the ledger can end a line, a description or a tag before its time: what hledger would read
as a mark is written as a backslash, an x and two hex digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tokenctl.cli.entry_views import PostedData, posted_data
from tokenctl.output import Cell, Column, Count, Listing, Meta, Schema
from tokenctl.output.text import clean, rfc3339
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.models import Entry
    from tokenctl.services.exports import Books

_ROWS = (
    Column("ID"),
    Column("USER ID"),
    Column("SEQ", number=True),
    Column("AT"),
    Column("KIND"),
    Column("AMOUNT", number=True),
    Column("BALANCE", number=True),
    Column("REASON"),
    Column("NOTE"),
    Column("TICKET"),
    Column("CAMPAIGN"),
    Column("OPERATOR"),
    Column("CLAIMED BY"),
    Column("REQUEST ID"),
    Column("IDEMPOTENCY KEY"),
    Column("REVERSES"),
    Column("BATCH"),
)
# Ends of a description, a payee, a code and a tag's value; and blanks, of which two end an account's name.
_MARKS = re.compile(r"[;|,()\\]")


class ExportMeta(Meta):
    """The run, and what all of it came to, as one moment has it: users and tokens of these entries."""

    users: Count
    tokens: int
    user_id: str | None
    since: datetime | None
    until: datetime | None
    as_of: datetime


EXPORT = Schema("tokenctl.export.v1", list[PostedData], meta=ExportMeta)


def rows(books: Books) -> Listing[PostedData]:
    """Every entry whole, and at the end how much it was."""

    def meta() -> dict[str, Any]:
        wanted = books.wanted
        return {
            "users": books.users,
            "tokens": books.tokens,
            "user_id": wanted.user_id,
            "since": wanted.since,
            "until": wanted.until,
            "as_of": books.as_of,
        }

    return Listing(EXPORT, _ROWS, ((posted_data(entry), _cells(entry)) for entry in books), meta)


def _cells(entry: Entry) -> tuple[Cell, ...]:
    return (
        entry.name,
        entry.user_id,
        entry.seq,
        entry.created_at,
        entry.kind,
        entry.amount,
        entry.balance_after,
        entry.reason,
        entry.note,
        entry.ticket,
        entry.campaign,
        entry.operator,
        entry.claimed_by,
        entry.request_id,
        entry.idempotency_key,
        None if entry.reverses_seq is None else f"{entry.user_id}:{entry.reverses_seq}",
        entry.batch_id,
    )


def told(books: Books, output: str | None) -> str:
    """One line about all of it."""
    entries = counted(books.entries, "entry", "entries")
    users, tokens = counted(books.users, "user"), counted(books.tokens, "token")
    return f"{entries} of {users}, {tokens}" + (f", in {output}" if output else "")


def journal(books: Books, ledger_name: str) -> Iterator[str]:
    """The books as a journal, in pieces."""
    yield from _head(books, ledger_name)
    yield from _openings(books)
    yield from map(_transaction, books)
    yield f"\n; end: {told(books, None)}\n"


def _head(books: Books, ledger_name: str) -> Iterator[str]:
    wanted = books.wanted
    yield f"; The ledger {clean(ledger_name)} as a journal for hledger, as it was at {rfc3339(books.as_of)}.\n"
    yield f"; Entries of {wanted.user_id or 'all users'}"
    yield f" from {rfc3339(wanted.since)} on" if wanted.since else ""
    yield f" before {rfc3339(wanted.until)}" if wanted.until else ""
    yield ". Times are in UTC. A whole journal ends with a line '; end'.\n"
    yield "; In an account's name % and two hex digits stand for a byte that could mean something else.\n\n"
    # Accounts are not declared: hledger takes the square of their number for that.
    yield "commodity 1000. TOKEN\n"


def _openings(books: Books) -> Iterator[str]:
    """A transaction for what a user had before: from each fund what came from it."""
    since = books.wanted.since
    for user, parts in groupby(books.openings(), key=lambda opening: opening.user_id):
        had = list(parts)
        account, tokens = _account("users", user), sum(part.tokens for part in had)
        yield f"\n{since:%Y-%m-%d} opening balance\n"
        yield f"    {account}  {tokens} TOKEN = {tokens} TOKEN\n"
        yield from (f"    {_account('funds', part.kind)}  {-part.tokens} TOKEN\n" for part in had)


def _transaction(entry: Entry) -> str:
    day, _, time = rfc3339(entry.created_at).partition("T")  # four times as fast as two formats
    note = f" | {_words(entry.note)}" if entry.note else ""
    tags = f"time:{time}, by:{_words(entry.operator)}"
    if entry.ticket:
        tags += f", ticket:{_words(entry.ticket)}"
    if entry.batch_id:
        tags += f", batch:{_words(entry.batch_id)}"
    if entry.reverses_seq is not None:
        tags += f", reverses:{_words(entry.user_id)}:{entry.reverses_seq}"
    return (
        f"\n{day} ({_words(entry.user_id)}:{entry.seq}) {_words(entry.reason)}{note}  ; {tags}\n"
        f"    {_account('users', entry.user_id)}  {entry.amount} TOKEN = {entry.balance_after} TOKEN\n"
        f"    {_account('funds', entry.kind)}  {-entry.amount} TOKEN\n"
    )


def _words(text: str) -> str:
    """A text of the ledger in which hledger finds no mark."""
    return clean(_MARKS.sub(lambda mark: f"\\x{ord(mark[0]):02x}", text))


def _account(top: str, name: str) -> str:
    """An account's name: one level below `top`, whatever is in it, and another one for every other name."""
    return f"{top}:{quote(name, safe='@')}"
