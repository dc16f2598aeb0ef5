"""Who holds a lock that was waited for in vain, as far as this role may see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import psycopg

from tokenctl.errors import LockHeld, TimedOut
from tokenctl.storage.database import Connection
from tokenctl.storage.queries import query


class Waits:
    """Looks for the holder when a statement has waited for too long, and names it in the error that comes of it."""

    def __init__(self) -> None:
        """Nobody was waited for yet."""
        self._holder: str | None = None

    @contextlib.contextmanager
    def noting(self, connection: Connection, *, account: str | None = None, part: int | None = None) -> Iterator[None]:
        """Do one statement outside of a transaction; when it times out over a lock, ask at once who has that."""
        try:
            yield
        except psycopg.errors.LockNotAvailable:
            with contextlib.suppress(psycopg.Error):  # the time-out itself is what has to be told
                self._holder = holder(connection, account=account, part=part)
            raise

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Add the holder to the error, also where the command's own time was over before the next attempt's."""
        try:
            yield
        except (LockHeld, TimedOut) as error:
            if self._holder is not None:
                error.detail = f"{error.detail}; the lock is held by {self._holder}"
                error.context["holder"] = self._holder
            raise


def holder(
    connection: Connection, *, account: str | None = None, part: int | None = None, batches: Sequence[str] = ()
) -> str | None:
    """Login and program of who locks an account, a partition or a batch; None when that is over, or not to be seen."""
    values = {"account": account, "part": part, "batches": list(batches)}
    rows = connection.execute(query("lock_holders"), values).fetchall()
    return "; ".join(f"{login} ({program})" if program else str(login) for login, program in rows) or None
