"""One transaction whole: what it was, whether it still counts, and how to undo it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from tokenctl import commandline
from tokenctl.errors import TokenctlError
from tokenctl.models import Balance, Entry, Receipt
from tokenctl.services.balances import not_found
from tokenctl.services.refusals import no_transaction
from tokenctl.storage.history import History
from tokenctl.storage.ledger import Ledger


@dataclass(frozen=True)
class Transaction:
    """An entry and the chain of its reversals: `reversals[0]` reverses it, each next one the one before."""

    entry: Entry
    reversals: tuple[Entry, ...]
    balance: Balance

    @property
    def stands(self) -> bool:
        """Whether it counts today: it was not reversed, or its reversal was."""
        return len(self.reversals) % 2 == 0

    @property
    def undo_of(self) -> Entry | None:
        """What to reverse to undo it: itself, or what made it count again; None when it is undone."""
        return (self.entry, *self.reversals)[-1] if self.stands else None

    @property
    def missing(self) -> int:
        """Tokens that the user lacks for undoing it now."""
        last = self.undo_of
        return 0 if last is None else max(last.amount - self.balance.available, 0)

    @property
    def undo(self) -> str | None:
        """The command that undoes it, or None when it is undone or the tokens are not there."""
        last = self.undo_of
        return None if last is None or self.missing else commandline.undo(last.name)


def show(history: History, ledger: Ledger, user_id: str, seq: int, *, ledger_name: str) -> Transaction:
    """The transaction USER:SEQ; raises UserNotFound or NotFound."""
    chain = history.chain(user_id, seq)
    balance = ledger.balances([user_id]).get(user_id)
    if balance is None:
        raise not_found(ledger, [user_id], ledger_name=ledger_name)
    if not chain:
        raise no_transaction(user_id, seq, ledger_name=ledger_name)
    return Transaction(chain[0], tuple(chain[1:]), balance)


def undo(history: History, receipt: Receipt) -> str | None:
    """The command that undoes what a receipt names, as things stand; None when it is undone, or cannot be told.

    What an earlier run posted may have been reversed and count again: then what brought it back is reversed.
    """
    if not receipt.replayed:
        return commandline.undo(receipt.name)
    chain: list[Entry] = []
    with suppress(TokenctlError):  # the receipt is true without it
        chain = history.chain(receipt.user_id, receipt.seq or 0)
    return commandline.undo(chain[-1].name) if len(chain) % 2 else None


def fingerprint(entry: Entry) -> str:
    """What the entry says, as 64 hex digits: equal for two entries that grant the same.

    sha256 over user, kind, amount, reason, ticket and campaign in this order, in UTF-8, each
    as its length in bytes, a colon and the text, or as - where there is none. The note is
    left out: the same grant with another note is the same grant.
    """
    parts = (entry.user_id, entry.kind, str(entry.amount), entry.reason, entry.ticket, entry.campaign)
    return hashlib.sha256(b"".join(map(_prefixed, parts))).hexdigest()


def _prefixed(part: str | None) -> bytes:
    if part is None:
        return b"-"
    data = part.encode()
    return b"%d:%b" % (len(data), data)
