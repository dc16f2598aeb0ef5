"""What the functions of a batch answer of its staged rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """A user of whose entries a reversal leaves some out, and why; amounts in tokens.

    `problem` is refused (less is `available` than is `wanted`), or too_large (the `balance` would be).
    `entries` are left out, which would take and give so much.
    """

    user_id: str
    problem: str
    wanted: int
    available: int
    balance: int
    entries: int
    taken: int
    given: int

    @property
    def missing(self) -> int:
        """Tokens that are spent or held."""
        return self.wanted - self.available


@dataclass(frozen=True)
class Problem:
    """What stood in the way of so many rows."""

    problem: str
    rows: int


@dataclass(frozen=True)
class KindTotal:
    """What a reversal comes to for entries of one kind: tokens that are taken from users and given back."""

    kind: str
    entries: int
    taken: int
    given: int


@dataclass(frozen=True)
class Staged:
    """A staged reversal, or one partition of it: how many entries, and whether any were `chosen` at all.

    Those that count because batch `given_back` undid an earlier reversal of them are not staged.
    """

    staged: int = 0
    chosen: bool = False
    given_back: str | None = None
