"""A guard of the ledger or the program, with the edit that turns it off and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One guard turned off: in `file`, `old` becomes `new`; one of `tests` (pytest's names) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
