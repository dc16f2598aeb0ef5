"""A state file of words, as its tests use it."""

from __future__ import annotations

from pathlib import Path

from tokenctl.statefile import StateFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS words (name TEXT PRIMARY KEY, word TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_word ON words (word);
"""


def words_file(directory: Path, *, busy_s: float = 60.0) -> StateFile:
    """The file in `directory`/state, which may not exist; patient, as the machine may be busy."""
    return StateFile(directory / "state" / "state.db", SCHEMA, busy_s=busy_s)


def put(file: StateFile, name: str = "a", word: str = "one") -> None:
    with file.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO words VALUES (?, ?)", (name, word))


def words(file: StateFile) -> dict[str, str]:
    with file.transaction(write=False) as connection:
        return dict(connection.execute("SELECT name, word FROM words").fetchall())


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
