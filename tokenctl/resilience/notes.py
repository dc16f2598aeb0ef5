"""Notes that processes leave for each other in the state file: JSON with a checksum and an end.

The checksum covers the name too: a flipped bit in a key would otherwise hand out what was
noted about something else. A note of another boot, or from later than now, counts as none,
because its times mean nothing here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokenctl.statefile import Damaged

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  body TEXT NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID
"""


class Notes:
    """The notes of one kind, inside a transaction of the state file; every read may raise Damaged."""

    def __init__(self, connection: sqlite3.Connection, kind: str, *, clock: Callable[[], float], boot_id: str) -> None:
        """`clock` answers seconds that mean the same to every process of the boot `boot_id`."""
        self._connection = connection
        self._kind = kind
        self._clock = clock
        self._boot_id = boot_id

    def get(self, name: str) -> dict[str, Any] | None:
        """The note of that name, None when there is none or its time is over."""
        query = "SELECT body, crc FROM notes WHERE kind = ? AND name = ?"
        row = self._connection.execute(query, (self._kind, name)).fetchone()
        return None if row is None else self._opened(self._kind, name, *row)

    def all(self) -> dict[str, dict[str, Any]]:
        """Every note that holds, by name."""
        query = "SELECT name, body, crc FROM notes WHERE kind = ? ORDER BY name"
        rows = self._connection.execute(query, (self._kind,)).fetchall()
        found = {name: self._opened(self._kind, name, body, crc) for name, body, crc in rows}
        return {name: note for name, note in found.items() if note is not None}

    def put(self, name: str, note: dict[str, Any], *, expires: float) -> None:
        """Write a note that holds until the clock says `expires`. A new name sweeps out all that hold no more."""
        body = json.dumps({"boot": self._boot_id, "written": self._clock(), "expires": expires, "note": note})
        row = (body, _checksum(self._kind, name, body), self._kind, name)
        if not self._connection.execute("UPDATE notes SET body = ?, crc = ? WHERE kind = ? AND name = ?", row).rowcount:
            self._sweep()
            self._connection.execute("INSERT INTO notes (body, crc, kind, name) VALUES (?, ?, ?, ?)", row)

    def drop(self, name: str) -> None:
        """Remove a note."""
        self._connection.execute("DELETE FROM notes WHERE kind = ? AND name = ?", (self._kind, name))

    def _sweep(self) -> None:
        rows = self._connection.execute("SELECT kind, name, body, crc FROM notes").fetchall()
        over = [(kind, name) for kind, name, body, crc in rows if self._opened(kind, name, body, crc) is None]
        self._connection.executemany("DELETE FROM notes WHERE kind = ? AND name = ?", over)

    def _opened(self, kind: str, name: str, body: Any, crc: Any) -> dict[str, Any] | None:
        if not isinstance(body, str) or crc != _checksum(kind, name, body):
            raise Damaged(f"the note {kind} {name!r} is damaged")
        sheet: dict[str, Any] = json.loads(body)  # as we wrote it, or the checksum would not fit
        if sheet["boot"] != self._boot_id or not sheet["written"] <= self._clock() < sheet["expires"]:
            return None
        note: dict[str, Any] = sheet["note"]
        return note


def _checksum(kind: str, name: str, body: str) -> int:
    return zlib.crc32(f"{kind}\0{name}\0{body}".encode("utf-8", "surrogatepass"))
