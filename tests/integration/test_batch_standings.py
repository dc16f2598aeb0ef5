"""What is said of imports and reversals while they are made, after they died, and later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.batch_driver import Client, Row
from tests.pg import LedgerDB, hold
from tests.waiting import until
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage.batches import Batches
from tokenctl.storage.database import Database

ROWS = [Row(f"u{n}", 10 + n, f"k{n}") for n in range(20)]
FIRST, UNDO, REDO, OTHER = "a" * 12, "b" * 12, "c" * 12, "d" * 12


@pytest.fixture
def batches(each_db: LedgerDB) -> Iterator[Batches]:
    database = Database(each_db.conninfo("reader1"), application_name="test", deadline=Deadline(60))
    yield Batches(database)
    database.close()


def standing(batches: Batches, batch: str = FIRST) -> tuple[str, int, int]:
    found = batches.one(batch)
    assert found is not None
    return found.standing, found.posted, found.staged


def gone(batches: Batches, client: Client, expected: str) -> None:
    """Let the client die, and wait until the server has noticed."""
    client.die()
    until(lambda: standing(batches, client.batch)[0] == expected, f"batch {client.batch} is {expected}")


def undo(db: LedgerDB, batch: str, reverses: str) -> None:
    client = Client(db, batch=batch)
    assert client.open_reversal(reverses) == "open"
    client.seal()
    client.plan()
    client.begin()
    client.apply()
    client.close()
    client.die()


def seen(batches: Batches) -> dict[str, tuple[str, str | None, list[str]]]:
    return {b.batch_id: (b.standing, b.reversed_by, b.ends) for b in batches.newest(rows=9)}


def opened(db: LedgerDB) -> str:
    """What the first batch's import is told when it is run again."""
    client = Client(db)
    answer = client.open()
    client.die()
    return answer


def test_an_import_from_its_begin_to_its_end(each_db: LedgerDB, batches: Batches) -> None:
    assert (batches.one(FIRST), batches.newest(rows=5)) == (None, [])
    client = Client(each_db, slices=2)
    client.stage(ROWS)
    assert standing(batches) == ("checking", 0, 0)
    client.begin()
    assert standing(batches) == ("running", 0, 20)
    first, *rest = client.lanes()
    client.apply([first])
    state, posted, staged = standing(batches)
    assert (state, staged) == ("running", 20)
    assert 0 < posted < 20
    client.apply(rest)
    client.close(len(ROWS))
    assert standing(batches) == ("done", 0, 0)
    found = batches.one(FIRST)
    assert found is not None
    assert (found.applied, found.applied_tokens, found.operator, found.file_name) == (20, 390, "batch1", "f.csv")


def test_one_whose_client_died_is_told_from_one_at_work(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db, slices=2)
    client.stage(ROWS)
    gone(batches, client, "abandoned")
    client = Client(each_db, slices=2)
    client.stage(ROWS)
    client.begin()
    client.apply(client.lanes()[:3])
    gone(batches, client, "unfinished")
    state, posted, staged = standing(batches)
    assert (state, staged) == ("unfinished", 20)
    assert 0 < posted < 20


def test_the_lock_of_another_batch_makes_none_run(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db)
    client.stage(ROWS)
    client.begin()
    gone(batches, client, "unfinished")
    other = Client(each_db, batch=OTHER)
    assert other.lock()
    assert standing(batches)[0] == "unfinished"
    other.die()


def test_a_reversal_that_was_reversed_no_longer_undoes(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db)
    client.run(ROWS)
    client.die()
    undo(each_db, UNDO, FIRST)
    assert [(b.batch_id, b.standing, b.reversed_by) for b in batches.newest(rows=5)] == [
        (UNDO, "done", None), (FIRST, "reversed", UNDO),
    ]  # fmt: skip
    undo(each_db, REDO, UNDO)
    assert [(b.batch_id, b.standing, b.reversed_by) for b in batches.newest(rows=5)] == [
        (REDO, "done", None), (UNDO, "reversed", REDO), (FIRST, "done", None),
    ]  # fmt: skip


def test_of_several_reversals_each_counts_until_it_was_reversed(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db)
    client.run([Row("u1", 10, "k1"), Row("u2", 20, "k2")])
    client.die()
    hold(each_db, "u2", 20)
    undo(each_db, UNDO, FIRST)
    undo(each_db, OTHER, FIRST)
    assert seen(batches)[FIRST] == ("reversed", UNDO, [FIRST])  # the other one found no tokens
    each_db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    undo(each_db, "e" * 12, FIRST)
    assert seen(batches)[FIRST] == ("reversed", "e" * 12, [])
    undo(each_db, REDO, "e" * 12)
    assert seen(batches)[FIRST] == ("reversed", UNDO, [REDO])  # the first one still stands
    assert opened(each_db) == "reversed"
    undo(each_db, "f" * 12, UNDO)
    assert seen(batches)[FIRST] == ("done", None, ["f" * 12, REDO])
    assert opened(each_db) == "done"
    each_db.check()


def test_a_reversal_that_is_only_looked_at_undoes_nothing(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db)
    client.run(ROWS)
    client.die()
    looking = Client(each_db, batch=UNDO)
    assert looking.open_reversal(FIRST) == "open"
    assert standing(batches)[0] == "done"
    looking.seal()
    looking.plan()
    looking.begin()
    assert standing(batches)[0] == "reversed"  # from here on it will be finished


def test_the_newest_come_first_and_one_standing_can_be_asked_for(each_db: LedgerDB, batches: Batches) -> None:
    for n in range(3):
        client = Client(each_db, batch=f"{n}" * 12)
        client.run([Row("u1", 5, f"key{n}")])
        client.die()
    undo(each_db, UNDO, "1" * 12)
    assert [b.batch_id[0] for b in batches.newest(rows=9)] == ["b", "2", "1", "0"]
    assert [b.batch_id[0] for b in batches.newest(rows=2)] == ["b", "2"]
    assert [b.batch_id[0] for b in batches.newest(rows=9, standing="reversed")] == ["1"]
    assert [b.batch_id[0] for b in batches.newest(rows=2, standing="done")] == ["b", "2"]
    assert batches.newest(rows=9, standing="running") == []


def test_rows_that_the_ledger_did_not_take_are_found(each_db: LedgerDB, batches: Batches) -> None:
    client = Client(each_db)
    client.stage([*ROWS, Row("x", 5, "same")])
    client.begin()
    other = Client(each_db, batch=OTHER, login="batch2")
    other.run([Row("x", 6, "same")])  # between the plan and the posting
    client.apply()
    client.close(len(ROWS) + 1)
    [finding] = batches.findings(FIRST)
    assert (finding.line, finding.problem, finding.user_id, finding.other) == (22, "conflict", "x", "1")
    assert batches.findings(OTHER) == []
