"""What to do next with a batch: the command must be the one that finishes it."""

from __future__ import annotations

import shlex
from typing import Any, cast

import pytest

from tests.entries import NOW
from tokenctl.errors import NotFound
from tokenctl.models import BatchStanding, Finding
from tokenctl.services import batches
from tokenctl.services.batches import BatchReport
from tokenctl.storage.batches import Batches

ID = "0123456789ab"


def batch(**given: Any) -> BatchStanding:
    values = {
        "batch_id": ID, "kind": "import", "state": "done", "file_name": "in/nov.csv", "file_sha256": "f" * 64,
        "file_size": 9, "options": {}, "slices": 1, "reverses_batch": None, "reason": None, "operator": "batch1",
        "claimed_by": "me", "request_id": "r", "rows_read": 9, "rejected": 0, "duplicate": 0, "applied": 9,
        "applied_tokens": 90, "replayed": 0, "replayed_tokens": 0, "conflicting": 0, "refused": 0, "started_at": NOW,
        "finished_at": NOW, "standing": "done", "reversed_by": None, "taken_back_by": None, "ends": [ID], "staged": 0,
        "posted": 0, "opened_as": None, "reverses_operator": None, "reverses_since": None, "reverses_until": None,
    }  # fmt: skip
    return BatchStanding(**{**values, **given})


class Store:
    """Knows one batch, or none, and what reversed it."""

    def __init__(self, found: BatchStanding | None, undoing: BatchStanding | None = None) -> None:
        self.found = found
        self.undoing = undoing
        self.asked = False

    def one(self, batch_id: str) -> BatchStanding | None:
        return self.found if batch_id == ID else self.undoing

    def newest(self, *, rows: int, standing: str | None) -> list[BatchStanding]:
        assert standing is None
        return [batch(batch_id=f"{n:012x}") for n in range(5)][:rows]

    def findings(self, _batch_id: str) -> list[Finding]:
        self.asked = True
        return [Finding(7, "conflict", "u1")]


def report(**given: Any) -> BatchReport:
    return batches.show(cast(Batches, Store(batch(**given))), ID, ledger_name="env")


UNDO = f"tokenctl reverse --batch {ID} --reason mistake"
AGAIN = f"tokenctl reverse --batch {'b' * 12} --reason wrong"
BACK = f"tokenctl reverse --batch {'c' * 12} --reason mistake"
FINISH = f"tokenctl reverse --batch {ID} --reason wrong"
ASKED = {"asked": {"reject-file": "mine, too.csv"}}
REVERSAL = {"kind": "reversal", "file_name": None, "file_sha256": None, "reverses_batch": "b" * 12, "reason": "wrong"}


@pytest.mark.parametrize(
    ("given", "words", "command", "undo"),
    [
        ({"standing": "checking"}, "nothing is posted yet", None, None),
        ({"standing": "running"}, "at this moment", None, None),
        ({"standing": "abandoned"}, "nothing was posted", "tokenctl batch-import in/nov.csv", None),
        ({"standing": "unfinished"}, "the same command", "tokenctl batch-import in/nov.csv", None),
        ({"standing": "unfinished", "file_name": "-"}, "the same command", None, None),
        ({}, "nothing is left to do", None, UNDO),
        ({"applied": 0}, "nothing is left to do", None, None),
        ({"rejected": 2}, "mend", f"tokenctl batch-import in/nov.{ID}.rejected.csv", UNDO),
        ({"rejected": 2, "file_name": "-"}, "--reject-file", None, UNDO),
        ({"rejected": 2, "options": ASKED}, "mend", "tokenctl batch-import 'mine, too.csv'", UNDO),
        ({"rejected": 2, "options": ASKED, "file_name": "-"}, "mend", "tokenctl batch-import 'mine, too.csv'", UNDO),
        ({"options": ASKED}, "nothing is left to do", None, UNDO),
        ({"conflicting": 1}, "put the row named below into a new file, mended, and import that", None, UNDO),
        ({"refused": 2}, "put the rows named below into a new file, mended, and import that", None, UNDO),
        (
            {"refused": 1, "rejected": 2},
            f"import that; mend the rejected rows in in/nov.{ID}.rejected.csv and import that, too",
            f"tokenctl batch-import in/nov.{ID}.rejected.csv",
            UNDO,
        ),
        ({"refused": 1, "rejected": 2, "file_name": "-"}, "in the file that --reject-file named", None, UNDO),
        (REVERSAL, "nothing is left to do", None, UNDO),
        (REVERSAL | {"conflicting": 1}, "reverse the entry named below one by one", None, UNDO),
        ({"ends": ["c" * 12]}, "nothing is left to do", None, f"tokenctl reverse --batch {'c' * 12} --reason mistake"),
        (REVERSAL | {"refused": 1}, "takes back the rest", AGAIN, UNDO),
        (REVERSAL | {"standing": "unfinished"}, "the same command", AGAIN, None),
    ],
)
def test_the_way_on(given: dict[str, Any], words: str, command: str | None, undo: str | None) -> None:
    found = report(**given)
    assert words in found.next
    assert (found.command, found.undo) == (command, undo)


@pytest.mark.parametrize("kind", [{}, REVERSAL])
@pytest.mark.parametrize(
    ("given", "words", "command"),
    [
        ({}, "batch cccccccccccc reversed it; reversing that brings it back", BACK),
        ({"ends": ["d" * 12]}, "reversing that brings it back", BACK.replace("c" * 12, "d" * 12)),
        ({"refused": 2}, "reversed it but for 2 entries", FINISH),
        ({"standing": "unfinished", "state": "applying"}, "the same command finishes that", FINISH),
        ({"standing": "running", "state": "applying"}, "reverses it at this moment", None),
    ],
)
def test_the_way_back_from_a_reversal(
    kind: dict[str, Any], given: dict[str, Any], words: str, command: str | None
) -> None:
    undoing = batch(**REVERSAL | {"batch_id": "c" * 12, "reverses_batch": ID, "ends": ["c" * 12]} | given)
    store = Store(batch(**kind | {"standing": "reversed", "reversed_by": "c" * 12}), undoing)
    found = batches.show(cast(Batches, store), ID, ledger_name="env")
    assert words in found.next
    assert (found.command, found.undo) == (command, None)


def test_the_command_has_the_options_that_make_the_batch_what_it_is() -> None:
    found = report(standing="unfinished", file_name="my file.csv", options={"reason": "promo", "campaign": "spring"})
    assert shlex.split(str(found.command)) == [
        "tokenctl", "batch-import", "my file.csv", "--reason", "promo", "--campaign", "spring",
    ]  # fmt: skip
    found = report(**REVERSAL, standing="unfinished", options={"note": "it's $x", "ticket": "T1"})
    assert shlex.split(str(found.command))[-4:] == ["--note", "it's $x", "--ticket", "T1"]


@pytest.mark.parametrize("name", ["/", ".", "..", "", None, "-", "in/"])
def test_a_file_name_that_is_none_breaks_nothing(name: str | None) -> None:
    assert report(rejected=1, file_name=name).next


def test_findings_are_asked_for_where_there_are_some() -> None:
    assert report().findings == ()
    assert [finding.line for finding in report(conflicting=1).findings] == [7]
    assert [finding.line for finding in report(refused=1).findings] == [7]


def test_an_unknown_batch_is_not_found() -> None:
    with pytest.raises(NotFound, match=f"no batch {ID} in ledger env"):
        batches.show(cast(Batches, Store(None)), ID, ledger_name="env")


def test_a_list_says_whether_there_are_more() -> None:
    store = cast(Batches, Store(None))
    found, more = batches.newest(store, limit=4, standing=None)
    assert (len(found), more) == (4, True)
    found, more = batches.newest(store, limit=5, standing=None)
    assert (len(found), more) == (5, False)
