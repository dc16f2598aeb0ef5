"""Adversarial files over few users, against a ledger that is kept row by row in Python.

The model is naive on purpose: a dictionary, one row after the other. What it and the
database say of every row, key and balance has to be the same. Hypothesis makes the files from
a fixed seed; a failure prints the smallest files that show it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.batch_driver import Client, Row
from tests.pg import LedgerDB

SEED = 20261123
BIGGEST = 2**53 - 1
USERS = ["u1", "u2", "U2", "b.ob", "ann@x", "z:1"]

OUTCOMES = ("duplicate", "applied", "replayed", "refused")

Content = tuple[str, int, str, str | None]

rows = st.builds(
    Row,
    user=st.sampled_from(USERS),
    # Few values, so that keys meet again with the same content and with other; some that overflow.
    amount=st.sampled_from([1, 1, 2, 7, BIGGEST - 5, BIGGEST]),
    key=st.sampled_from(["a", "b", "c", "d", "A", "grant:1"]),
    reason=st.sampled_from(["promo", "promo", "outage"]),
    kind=st.sampled_from(["bonus", "bonus", "purchase"]),
    note=st.sampled_from([None, "n"]),
    ticket=st.sampled_from([None, None, "T-1"]),
)


@dataclass(frozen=True)
class File:
    """A file and how it is imported: cut off after so many lanes, with keys granted before its apply."""

    rows: list[Row]
    slices: int
    cut: int | None
    between: list[Row]


files = st.builds(
    File,
    rows=st.lists(rows, max_size=14),
    slices=st.sampled_from([1, 2, 11]),
    cut=st.none() | st.integers(0, 4),
    between=st.lists(rows, max_size=2),
)


def content(row: Row) -> Content:
    return row.kind, row.amount, row.reason, row.ticket


@dataclass
class Model:
    """What a ledger is: entries by user, in order."""

    entries: dict[str, list[tuple[Row, int]]] = field(default_factory=dict)

    def known(self, row: Row) -> Row | None:
        return next((had for had, _ in self.entries.get(row.user, []) if had.key == row.key), None)

    def balance(self, user: str) -> int:
        return self.entries[user][-1][1] if self.entries.get(user) else 0

    def post(self, row: Row) -> None:
        self.entries.setdefault(row.user, []).append((row, self.balance(row.user) + row.amount))

    def grant(self, row: Row) -> None:
        """One grant by hand, whatever becomes of it."""
        if self.known(row) is None and self.balance(row.user) + row.amount <= BIGGEST:
            self.post(row)

    def plan(self, file: list[Row]) -> tuple[list[Row], Counter[str]]:
        """The rows that are staged in the end, and what became of the others."""
        contents: dict[tuple[str, str], set[Content]] = {}
        for row in file:
            contents.setdefault((row.user, row.key), set()).add(content(row))
        staged: list[Row] = []
        counts: Counter[str] = Counter()
        seen: set[tuple[str, str]] = set()
        for row in file:
            had = self.known(row)
            if len(contents[row.user, row.key]) > 1:
                counts["left out"] += 1
            elif (row.user, row.key) in seen:
                counts["duplicate"] += 1
            elif had is not None and content(had) != content(row):
                counts["left out"] += 1
            else:
                staged.append(row)
            seen.add((row.user, row.key))
        return staged, counts

    def apply(self, staged: list[Row]) -> Counter[str]:
        """Post what can be posted; a user whose sum does not fit is left out whole."""
        counts: Counter[str] = Counter()
        fresh: dict[str, list[Row]] = {}
        for row in staged:
            had = self.known(row)
            if had is None:
                fresh.setdefault(row.user, []).append(row)
            else:
                counts["replayed" if content(had) == content(row) else "left out"] += 1
        for user, wanted in fresh.items():
            fits = self.balance(user) + sum(row.amount for row in wanted) <= BIGGEST
            counts["applied" if fits else "refused"] += len(wanted)
            for row in wanted if fits else ():
                self.post(row)
        return counts


def _grant(client: Client, row: Row) -> None:
    client.connection.execute(
        "SELECT tokenctl.post_v1(%s, %s, %s, %s, %s, %s, NULL, %s, 'r', 'me', true)",
        (row.user, row.kind, row.amount, row.reason, row.note, row.ticket, row.key),
    )


def _import(db: LedgerDB, number: int, file: File) -> Counter[str]:
    """Import as tokenctl does, --partial, perhaps cut off and run again; the counts of its receipt."""
    batch = f"{number:012x}"
    client, duplicate, rejected = _stage(db, batch, file)
    for row in file.between:
        _grant(client, row)
    client.begin()
    if file.cut is not None:
        client.apply(client.lanes()[: file.cut])
        client.die()
        client, duplicate, rejected = _stage(db, batch, file)
        client.begin()
    client.apply()
    done = client.close(len(file.rows), rejected, duplicate)
    client.die()
    assert sum(done[name] for name in (*OUTCOMES, "rejected", "conflicting")) == len(file.rows)
    # Whether a conflict is met by a plan or by an apply depends on when the first run was cut.
    left_out = {"left out": done["rejected"] + done["conflicting"]}
    return +Counter({**{name: done[name] for name in OUTCOMES}, **left_out})


def _stage(db: LedgerDB, batch: str, file: File) -> tuple[Client, int, int]:
    """Up to the plan without bad rows but those that the posting judges; the client, duplicates, bad rows."""
    client = Client(db, batch=batch, slices=file.slices)
    duplicate = client.stage(file.rows)["duplicate"]
    rejected = {line for line, problem in client.findings() if problem != "refused"}
    if rejected:
        client.plan(drop=list(rejected))
    return client, duplicate, len(rejected)


def test_files_are_posted_as_a_naive_ledger_would(ledger_db: LedgerDB) -> None:
    numbers = iter(range(10**6))

    @seed(SEED)
    @settings(
        max_examples=40, deadline=None, database=None, print_blob=False,
        phases=[Phase.generate],  # a smaller example would take minutes to find; the first one is printed
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip
    @given(st.lists(files, min_size=1, max_size=3))
    def compare(given_files: list[File]) -> None:
        # Users of this example alone, so that one database serves them all.
        mark = f"e{next(numbers)}."
        mine = [
            replace(
                file,
                rows=[replace(row, user=mark + row.user) for row in file.rows],
                between=[replace(row, user=mark + row.user) for row in file.between],
            )
            for file in given_files
        ]
        model = Model()
        for file in mine:
            staged, expected = model.plan(file.rows)
            for row in file.between:
                model.grant(row)
            expected += model.apply(staged)
            assert _import(ledger_db, next(numbers), file) == +expected
        stored = ledger_db.rows(
            "SELECT user_id, seq, amount, balance_after, idempotency_key, kind, reason, ticket"
            " FROM tokenctl.token_transactions WHERE starts_with(user_id, %s) ORDER BY user_id, seq",
            mark,
        )
        assert stored == [
            (user, seq, row.amount, after, row.key, row.kind, row.reason, row.ticket)
            for user in sorted(model.entries)
            for seq, (row, after) in enumerate(model.entries[user], start=1)
        ]

    compare()
    ledger_db.check()
