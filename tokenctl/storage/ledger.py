"""The ledger's reads and single-user writes: named queries and versioned functions."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from tokenctl.models import Balance, Change, Grant, Receipt, Reversal
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.locks import Waits
from tokenctl.storage.queries import query

_GRANT = b"""
SELECT (r).* FROM tokenctl.post_v1(%(user_id)s, 'bonus', %(amount)s, %(reason)s, %(note)s, %(ticket)s, %(campaign)s,
  %(key)s, %(request_id)s, %(claimed_by)s, %(new_user)s) AS r
"""
_REVERSE = b"""
SELECT (r).* FROM tokenctl.reverse_v1(%(user_id)s, %(seq)s, %(reason)s, %(note)s, %(ticket)s, %(key)s,
  %(request_id)s, %(claimed_by)s) AS r
"""
_ALPHABET = string.ascii_letters + string.digits + "._:@-"


class Ledger:
    """Reads and writes of the ledger, for one command."""

    def __init__(
        self,
        database: Database,
        *,
        request_id: str,
        claimed_by: str,
        wrote: Callable[[str], None] = lambda _user: None,
    ) -> None:
        """Write in the name of `claimed_by` (a claim; the database adds the role) and `request_id`.

        `wrote` hears of the user after each write, also of one whose outcome is unknown.
        """
        self._database = database
        self._wrote = wrote
        self._who = {"request_id": request_id, "claimed_by": claimed_by}
        #: User and key of what a look of this run did not find.
        self._absent: set[tuple[str, str | None]] = set()

    def balances(self, users: Sequence[str], at: datetime | None = None) -> dict[str, Balance]:
        """Balances by user id, in one query, now or `at` an earlier moment; unknown users are missing."""
        name = "balances" if at is None else "balances_at"
        values = {"users": list(users), "at": at}
        rows = self._database.run(name, lambda c: c.execute(query(name), values).fetchall())
        return {
            user: Balance(user, balance, held, available, None if at is None else Change(at, amount, reason))
            for user, balance, held, available, at, amount, reason in rows
        }

    def nearest(self, user_id: str) -> list[str]:
        """Up to three known ids that a wrong one may have meant: one edit away, or beginning like it."""
        prefix = user_id[: max(4, len(user_id) - 2)]
        names = {"edits": sorted(_edits(user_id)), "prefix": prefix, "upper": prefix + "\x7f"}
        rows = self._database.run("nearest_users", lambda c: c.execute(query("nearest_users"), names).fetchall())
        return [row[0] for row in rows]

    def operator(self) -> str:
        """The role that the database will write down."""
        row = self._database.run("operator", lambda c: c.execute("SELECT session_user").fetchone())
        return str(row[0]) if row else "?"

    def preview_grant(self, grant: Grant, *, record: bool) -> Receipt:
        """What the grant would answer: the write itself, undone. Names the derived key; `record` keeps a refusal."""
        return self._preview("preview_grant", _GRANT, asdict(grant), record=record)

    def grant(self, grant: Grant) -> Receipt:
        """Post the grant; `grant.key` must be set. Raises OutcomeUnknown when that cannot be told."""
        return self._write("grant", _GRANT, asdict(grant))

    def preview_reversal(self, reversal: Reversal, *, record: bool) -> Receipt:
        """What the reversal would answer: the write itself, undone; `record` keeps a refusal."""
        return self._preview("preview_reversal", _REVERSE, asdict(reversal), record=record)

    def reverse(self, reversal: Reversal) -> Receipt:
        """Post the reversal. Raises OutcomeUnknown when whether it was posted cannot be told."""
        return self._write("reverse", _REVERSE, asdict(reversal))

    def _preview(self, operation: str, statement: bytes, values: dict[str, Any], *, record: bool) -> Receipt:
        """Undo what was posted. Of a refusal there is the audit row alone, which is told and kept, or neither.

        To refuse first and to write that down by a second statement would post unasked what has become possible
        in between.
        """
        waits = Waits()

        def undone(connection: Connection) -> Receipt:
            with waits.noting(connection, account=values["user_id"]), connection.transaction() as transaction:
                receipt = self._post(connection, statement, values)
                # Not the exception Rollback: it comes out again where the connection breaks just then.
                transaction.force_rollback = receipt.done or not record
            return receipt

        with waits.telling():
            receipt = self._database.run(operation, undone)
        if receipt.outcome == "applied":
            self._absent.add((receipt.user_id, receipt.idempotency_key))
        return receipt

    def _write(self, operation: str, statement: bytes, values: dict[str, Any]) -> Receipt:
        """One statement, one transaction. Its key makes it safe to send again after a lost answer."""
        waits = Waits()

        def post(connection: Connection) -> Receipt:
            with waits.noting(connection, account=values["user_id"]):
                return self._post(connection, statement, values)

        try:
            with waits.telling():
                return self._database.write(operation, post, key=values["key"], settled=self._own)
        finally:
            self._wrote(values["user_id"])

    def _own(self, receipt: Receipt) -> Receipt:
        """The receipt of a write whose answer was lost: this run's own entry is no replay.

        Its request id alone would not tell, because somebody may give two runs the same one.
        """
        own = receipt.replayed and receipt.request_id == self._who["request_id"]
        absent = (receipt.user_id, receipt.idempotency_key) in self._absent
        return replace(receipt, outcome="applied") if own and absent else receipt

    def _post(self, connection: Connection, statement: bytes, values: dict[str, Any]) -> Receipt:
        with connection.cursor(row_factory=class_row(Receipt)) as cursor:
            receipt = cursor.execute(statement, values | self._who).fetchone()
        assert receipt is not None  # noqa: S101 — the function returns one row
        return receipt


def _edits(word: str) -> set[str]:
    """All texts at edit distance one (and transpositions): some ten thousand for a usual id."""
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    deletes = {a + b[1:] for a, b in splits if b}
    swaps = {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    replaces = {a + c + b[1:] for a, b in splits if b for c in _ALPHABET}
    inserts = {a + c + b for a, b in splits for c in _ALPHABET}
    return (deletes | swaps | replaces | inserts) - {word, ""}
