"""What an account's month looks like: a document, lines for a spreadsheet, JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tokenctl.cli.entry_views import EntryData, entry_data
from tokenctl.output import Cell, Column, Listing, Schema, Table, Tokens, TypedDict, View
from tokenctl.output.documents import Document
from tokenctl.output.text import moment
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.models import Entry
    from tokenctl.services.statements import Month

_DOCUMENT = (
    Column("Date (UTC)"),
    Column("Transaction", optional=True),
    Column("What", optional=True),
    Column("Note", optional=True),
    Column("Tokens", number=True, signed=True),
    Column("Balance", number=True),
)
_LINES = (
    Column("LINE"),
    Column("AT"),
    Column("ID"),
    Column("KIND"),
    Column("REASON"),
    Column("NOTE"),
    Column("TICKET"),
    Column("REVERSES"),
    Column("AMOUNT", number=True),
    Column("BALANCE", number=True),
)


class StatementData(TypedDict):
    """An account's month; `complete` when it is over, else it goes to `as_of`."""

    user_id: str
    month: str
    since: datetime
    until: datetime
    complete: bool
    as_of: datetime
    opening_balance: Tokens
    added: Tokens
    taken: Tokens
    closing_balance: Tokens
    entries: list[EntryData]


STATEMENT = Schema("tokenctl.statement.v1", StatementData)


def view(month: Month) -> View[StatementData]:
    """All of it for programs."""
    data: StatementData = {
        "user_id": month.user_id,
        "month": month.name,
        "since": month.since,
        "until": month.until,
        "complete": month.is_over,
        "as_of": month.as_of,
        "opening_balance": month.opening,
        "added": month.added,
        "taken": month.taken,
        "closing_balance": month.closing,
        "entries": [entry_data(entry) for entry in month.entries],
    }
    return View(STATEMENT, data, Table((), ()))


def lines(month: Month) -> Listing[Any]:
    """A line for the opening balance, one an entry, one for the closing balance."""

    def bare(line: str, at: Cell, balance: int) -> tuple[Cell, ...]:
        return (line, at, None, None, None, None, None, None, None, balance)

    rows: list[tuple[Cell, ...]] = [bare("opening", month.since, month.opening)]
    rows += [("entry", *_entry(entry)) for entry in month.entries]
    rows.append(bare("closing", month.until if month.is_over else month.as_of, month.closing))
    return Listing(None, _LINES, [({}, row) for row in rows])


def _entry(entry: Entry) -> tuple[Cell, ...]:
    return (
        entry.created_at,
        entry.name,
        entry.kind,
        entry.reason,
        entry.note,
        entry.ticket,
        _reverses(entry),
        entry.amount,
        entry.balance_after,
    )


def document(month: Month, ledger_name: str, request_id: str) -> Document:
    """To be read and printed. Who granted what is the house's business and not on it."""
    end = "Closing balance" if month.is_over else "Balance so far"
    about = f"{month.since:%B %Y}" + ("" if month.is_over else f", so far: until {moment(month.as_of)}")
    last_day = month.until - timedelta(days=1) if month.is_over else month.as_of
    count = len(month.entries)
    return Document(
        title=f"Statement of {month.user_id}",
        about=about,
        facts=(
            ("Opening balance", month.opening),
            ("Added", f"{month.added:+,}" if month.added else "0"),
            ("Taken", f"{month.taken:+,}" if month.taken else "0"),
            (end, month.closing),
        ),
        caption="No entries" if not count else counted(count, "entry", "entries"),
        columns=_DOCUMENT,
        first=(f"{month.since:%Y-%m-%d}", None, "Opening balance", None, None, month.opening),
        rows=[
            (f"{e.created_at:%Y-%m-%d %H:%M}", e.name, _what(e), e.note, e.amount, e.balance_after)
            for e in month.entries
        ],
        last=(f"{last_day:%Y-%m-%d}", None, end, None, None, month.closing),
        foot=(
            f"Ledger {ledger_name}, read {moment(month.as_of)}, request {request_id}.",
            "All amounts are tokens; all times are in UTC.",
        ),
    )


def _what(entry: Entry) -> str:
    reverses = _reverses(entry)
    undone = f", reverses {reverses}" if reverses else ""
    return (entry.kind if entry.kind == entry.reason else f"{entry.kind}: {entry.reason}") + undone


def _reverses(entry: Entry) -> str | None:
    return None if entry.reverses_seq is None else f"{entry.user_id}:{entry.reverses_seq}"
