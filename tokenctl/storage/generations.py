"""Paid jobs in the ledger: hold, claim, capture, release; each one statement that may be sent again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from psycopg.rows import class_row

from tokenctl.models import Generation, Hold, Paid
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.queries import query

_OPEN = b"""
SELECT (g).* FROM tokenctl.generation_open_v1(%(user_id)s, %(generation_id)s, %(amount)s, %(hold_s)s, %(key)s,
  %(model)s,
  %(quality)s, %(aspect_ratio)s, %(price_version)s, %(input_sha256)s, %(request_id)s, %(claimed_by)s) AS g
"""
_CLAIM = b"""
SELECT (g).* FROM tokenctl.generation_claim_v1(%(user_id)s, %(generation_id)s, %(lease_s)s, %(hold_s)s,
  %(max_attempts)s, %(lease_by)s) AS g
"""
_CAPTURE = b"""
SELECT (g).* FROM tokenctl.generation_capture_v1(%(user_id)s, %(generation_id)s, %(image_sha256)s, %(image_bytes)s,
  %(width)s, %(height)s, %(response_id)s, %(model_version)s, %(usage)s, %(lease_by)s,
  %(request_id)s, %(claimed_by)s) AS g
"""
_RELEASE = b"""
SELECT (g).* FROM tokenctl.generation_release_v1(%(user_id)s, %(generation_id)s, %(why)s, %(force)s, %(past_only)s,
  %(lease_by)s, %(request_id)s, %(claimed_by)s) AS g
"""
_GET = b"SELECT (g).* FROM tokenctl.generation_v1(%(user_id)s, %(generation_id)s) AS g"


class GenerationStore:
    """The ledger's side of paid jobs, for one command."""

    def __init__(
        self,
        database: Database,
        *,
        request_id: str,
        claimed_by: str,
        wrote: Callable[[str], None] = lambda _user: None,
    ) -> None:
        """Act in the name of `claimed_by` (a claim; the database adds the role) and `request_id`.

        `wrote` hears of the user after each write, also of one whose outcome is unknown.
        """
        self._database = database
        self._wrote = wrote
        #: Names this run and no other: somebody may give two runs one request id.
        self.run_id = uuid.uuid4().hex[:12]
        self._who = {"request_id": request_id, "claimed_by": claimed_by, "lease_by": self.run_id}

    def open(self, asked: dict[str, Any], *, generation_id: str, key: str, hold_s: int) -> Generation:
        """Hold the price; `asked` has user_id, amount, model, quality, aspect_ratio, price_version, input_sha256."""
        return self._write("generation_open", _OPEN, asked, generation_id=generation_id, key=key, hold_s=hold_s)

    def preview(self, asked: dict[str, Any], *, generation_id: str, key: str, hold_s: int) -> Generation:
        """What `open` would answer: the hold itself, undone."""
        sent = {**asked, "generation_id": generation_id, "key": key, "hold_s": hold_s, **self._who}

        def undone(connection: Connection) -> Generation:
            with connection.transaction(force_rollback=True):
                return self._one(connection, _OPEN, sent)

        return self._database.run("preview_generation", undone)

    def claim(self, at: Generation, *, lease_s: int, hold_s: int, max_attempts: int) -> Generation:
        """Ask for the right to call the provider once, for `lease_s` seconds.

        A claim whose answer was lost counts as a call when it is sent again: better one too few.
        """
        return self._write(
            "generation_claim", _CLAIM, _key(at), lease_s=lease_s, hold_s=hold_s, max_attempts=max_attempts
        )

    def capture(self, at: Generation, paid: Paid) -> Generation:
        """Pay for the image. Raises OutcomeUnknown when whether it was paid cannot be told."""
        usage = json.dumps(paid.usage)
        return self._write("generation_capture", _CAPTURE, {**_key(at), **paid.__dict__, "usage": usage})

    def release(self, at: Generation, why: str, *, force: bool = False) -> Generation:
        """Give the tokens back; with `force` whoever holds the lease.

        Outcome already_released, when somebody else did before this run.
        """
        return self._write("generation_release", _RELEASE, _key(at), why=why, force=force, past_only=False)

    def expire(self, hold: Hold) -> Generation:
        """Give the tokens back if the hold is past its deadline as the database finds it now; else outcome not_past."""
        key = {"user_id": hold.user_id, "generation_id": hold.hold_id}
        return self._write("generation_release", _RELEASE, key, why="deadline", force=False, past_only=True)

    def get(self, user_id: str, generation_id: str) -> Generation:
        """How it stands; outcome unknown_generation when there is none."""
        values = {"user_id": user_id, "generation_id": generation_id}
        return self._database.run("generation", lambda c: self._one(c, _GET, values))

    def holds(self, *, user_id: str | None, states: Sequence[str], limit: int) -> list[Hold]:
        """Holds by deadline, the oldest first, at most `limit`; of one user or of all."""
        return self._holds(user_id=user_id, hold_id=None, states=list(states), limit=limit)

    def released(self, at: Generation) -> Hold | None:
        """Its hold, with who released it and why; None when it is not released, or not any more."""
        found = self._holds(user_id=at.user_id, hold_id=at.generation_id, states=["released"], limit=1)
        return found[0] if found else None

    def _holds(self, **values: Any) -> list[Hold]:

        def rows(connection: Connection) -> list[Hold]:
            with connection.cursor(row_factory=class_row(Hold)) as cursor:
                return cursor.execute(query("holds"), values).fetchall()

        return self._database.run("holds", rows)

    def _write(self, operation: str, statement: bytes, values: dict[str, Any], **more: Any) -> Generation:
        sent = {**values, **more, **self._who}
        try:
            return self._database.write(operation, lambda c: self._one(c, statement, sent), key=more.get("key"))
        finally:
            self._wrote(values["user_id"])

    def _one(self, connection: Connection, statement: bytes, values: dict[str, Any]) -> Generation:
        with connection.cursor(row_factory=class_row(Generation)) as cursor:
            row = cursor.execute(statement, values).fetchone()
        assert row is not None  # noqa: S101 — the function returns one row
        return row


def _key(at: Generation) -> dict[str, Any]:
    return {"user_id": at.user_id, "generation_id": at.generation_id}
