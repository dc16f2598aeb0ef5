"""A run of a generation beside others: whose hold it is, what is released, and at which price."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.test_generation_saga import ORDER, PICTURE, charges, names, works
from tests.pg import LedgerDB, post
from tokenctl.clients.generation import Outcome
from tokenctl.errors import KeyConflict, LockHeld, Refused
from tokenctl.models import Generation
from tokenctl.resilience.deadline import Deadline
from tokenctl.services.generations import Job
from tokenctl.storage.database import Database
from tokenctl.storage.generations import GenerationStore
from tokenctl.telemetry.metrics import Metrics


@pytest.fixture
def begun(ledger_db: LedgerDB, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Begin a run that has opened its hold; u1 has 100 tokens."""
    post(ledger_db.connect("support1"), "u1", 100, key="opening")
    with ExitStack() as stack:

        def begin(
            price: int = ORDER.price, version: str = ORDER.price_version, **given: Callable[[float], None]
        ) -> Job:
            database = Database(ledger_db.conninfo("support1"), application_name="test", deadline=Deadline(30))
            stack.callback(database.close)
            store = GenerationStore(database, request_id="r1", claimed_by="me@here")
            job = Job(store, tmp_path, lambda _said: None, Metrics(None), Deadline(None), **given)
            job.open(replace(ORDER, price=price, price_version=version), key="k1")
            return job

        yield begin


@pytest.mark.parametrize("step", ["claim", "capture"])
def test_an_account_that_is_locked_for_too_long_gets_its_tokens_back(
    ledger_db: LedgerDB, begun: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def locked(*_: object, **__: object) -> Generation:
        raise LockHeld("somebody else holds a lock for too long")

    one = begun()
    monkeypatch.setattr(GenerationStore, step, locked)
    with pytest.raises(LockHeld) as raised:
        one.run(works)
    assert "nothing was charged: the hold of 40 tokens was released" in raised.value.hint
    assert (charges(ledger_db), names(tmp_path)) == (0, [])
    assert ledger_db.rows("SELECT state FROM tokenctl.token_holds") == [("released",)]


def test_who_waits_for_another_run_never_gives_its_tokens_back(ledger_db: LedgerDB, begun: Callable[..., Job]) -> None:
    def interrupted(_s: float) -> None:
        ledger_db.rows("UPDATE tokenctl.generations SET lease_until = now() - interval '1 s'")
        raise KeyboardInterrupt

    def meanwhile(claim: Callable[[], None]) -> Outcome:
        claim()
        waiting = begun(sleep=interrupted)
        with pytest.raises(KeyboardInterrupt):
            waiting.run(works)
        return PICTURE

    assert begun().run(meanwhile).generation.outcome == "captured"
    assert charges(ledger_db) == 1
    ledger_db.check()


def test_a_run_whose_hold_an_operator_released_says_that_nothing_was_charged(
    ledger_db: LedgerDB, begun: Callable[..., Job], tmp_path: Path
) -> None:
    def released(claim: Callable[[], None]) -> Outcome:
        claim()
        [(hold,)] = ledger_db.rows("SELECT hold_id FROM tokenctl.token_holds")
        call = "SELECT (tokenctl.generation_release_v1('u1', %s, 'stuck', true, false, 'other', 'r2', 'op')).outcome"
        assert ledger_db.rows(call, hold) == [("released",)]
        return PICTURE

    with pytest.raises(Refused, match="released before the image was there") as raised:
        begun().run(released)
    assert "nothing was charged: the hold of 40 tokens was released, u1 has 100 available" in raised.value.hint
    assert (charges(ledger_db), names(tmp_path)) == (0, [])
    assert ledger_db.rows("SELECT released_why, released_claimed_by FROM tokenctl.generations") == [("stuck", "op")]


@pytest.mark.parametrize("after", ["open", "the first call"])
def test_nobody_pays_another_price_than_was_shown(
    ledger_db: LedgerDB, begun: Callable[..., Job], tmp_path: Path, after: str
) -> None:
    """A run that was stopped until its hold was past, while another one with its key met new prices and died."""

    def stopped() -> None:
        ledger_db.rows("UPDATE tokenctl.token_holds SET expires_at = now()")
        begun(60, "v2")

    def stopping(claim: Callable[[], None]) -> Outcome:
        claim()
        stopped()
        claim()
        return PICTURE

    one = begun()
    if after == "open":
        stopped()
    with pytest.raises(KeyConflict, match="60 tokens") as raised:
        one.run(works if after == "open" else stopping)
    assert "nothing was charged: the hold of 60 tokens was released" in raised.value.hint
    assert (charges(ledger_db), names(tmp_path)) == (0, [])
    ledger_db.check()
