"""Which keys are not to be used any more, because a person said so or because Gemini did.

Cool-downs end by themselves and are breakers. These marks stay until somebody lifts them or
the secret changes, also when the machine was restarted, so they have a file of their own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokenctl.errors import ConfigError
from tokenctl.resilience.events import Emit, Trouble
from tokenctl.statefile import StateFile, StateUnusable

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
  fingerprint TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  why TEXT NOT NULL,
  at REAL NOT NULL
) WITHOUT ROWID
"""

State = Literal["disabled", "rejected"]


@dataclass(frozen=True)
class Mark:
    """`disabled` by a person or `rejected` by Gemini; `at` in seconds since 1970."""

    state: str
    why: str
    at: float


class KeyMarks:
    """The marks of keys, by their fingerprints."""

    def __init__(self, state: StateFile, *, emit: Emit, clock: Callable[[], float] = time.time) -> None:
        """Open nothing yet; `clock` answers seconds since 1970."""
        self._state = state
        self._emit = emit
        self._clock = clock

    def all(self) -> dict[str, Mark]:
        """Every mark; none when the file cannot be used, which is told."""
        try:
            with self._state.transaction(write=False) as connection:
                rows = connection.execute("SELECT fingerprint, state, why, at FROM marks").fetchall()
        except StateUnusable as error:
            self._emit(Trouble("keys", str(error)))
            return {}
        return {fingerprint: Mark(str(state), str(why), at) for fingerprint, state, why, at in rows}

    def put(self, fingerprint: str, state: State, why: str) -> None:
        """Mark a key; what a person said is not overwritten by what Gemini says. Raises ConfigError."""
        keep = "" if state == "disabled" else " WHERE marks.state <> 'disabled'"
        with self._written() as connection:
            connection.execute(
                "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE SET"  # noqa: S608 — `keep` is ours
                f" state = excluded.state, why = excluded.why, at = excluded.at{keep}",
                (fingerprint, state, why, self._clock()),
            )

    def lift(self, fingerprint: str, *, only: State | None = None) -> bool:
        """Remove a key's mark, or only one of that state; answers whether there was one. Raises ConfigError."""
        with self._written() as connection:
            done = connection.execute(
                "DELETE FROM marks WHERE fingerprint = ? AND state = coalesce(?, state)", (fingerprint, only)
            )
            return done.rowcount > 0

    @contextlib.contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._state.transaction() as connection:
                yield connection
        except StateUnusable as error:
            raise ConfigError(f"which keys are disabled cannot be noted: {error}") from error
