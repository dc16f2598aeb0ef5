"""A paid image at every crash point: charged exactly once if and only if the image exists."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pg import LedgerDB, post
from tokenctl.clients.generation import Outcome, Usage
from tokenctl.errors import (
    CannotCreate,
    InsufficientTokens,
    KeyConflict,
    LockHeld,
    NotFound,
    Refused,
    TokenctlError,
    TryLater,
    Unavailable,
    UserNotFound,
)
from tokenctl.resilience.deadline import Deadline
from tokenctl.services.generations import Call, Job, Order, Result, Times
from tokenctl.services.pictures import Place
from tokenctl.storage.database import Database
from tokenctl.storage.generations import GenerationStore
from tokenctl.telemetry.metrics import Metrics

ORDER = Order("u1", 40, "v1", "model-1", "2K", None, "a" * 64)
PNG = b"\x89PNG\r\n\x1a\n not really"
PICTURE = Outcome(PNG, "image/png", 2048, 2048, "r", "m", Usage(total=7))
#: Every step that leaves a trace; a run dies before or after one of them.
STEPS = ["open", "claim", "call", "write", "capture", "name"]
CRASHED = 9


_opened: list[Database] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def job(db: LedgerDB, folder: Path, *, said: list[str] | None = None, wait_s: float | None = 0) -> Job:
    """As a new process has it."""
    database = Database(db.conninfo("support1"), application_name="test", deadline=Deadline(30))
    _opened.append(database)
    store = GenerationStore(database, request_id="r1", claimed_by="me@here")
    told = (said if said is not None else []).append
    return Job(store, folder, told, Metrics(None), Deadline(wait_s), sleep=lambda _s: None)


#: A lease that is over at once: as if the time had passed.
NO_LEASE = Times(0, 600)


def works(claim: Callable[[], None]) -> Outcome:
    claim()
    return PICTURE


def fails_with(error: BaseException) -> Call:
    def call(claim: Callable[[], None]) -> Outcome:
        claim()
        raise error

    return call


def once(db: LedgerDB, folder: Path, call: Call = works, *, key: str | None = "k1", order: Order = ORDER) -> Result:
    one = job(db, folder)
    one.open(order, key=key, limits=NO_LEASE)
    return one.run(call)


def charges(db: LedgerDB) -> int:
    return int(db.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE kind = 'generation'")[0][0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def rich(ledger_db: LedgerDB) -> LedgerDB:
    post(ledger_db.connect("support1"), "u1", 100, key="opening")
    return ledger_db


def test_a_good_run_charges_once_and_names_the_image(rich: LedgerDB, tmp_path: Path) -> None:
    result = once(rich, tmp_path / "new" / "out")
    generation = result.generation
    assert result.path == tmp_path / "new" / "out" / f"{generation.generation_id}.png"
    assert result.path.read_bytes() == PNG
    assert (result.path.stat().st_mode & 0o777, names(tmp_path / "new" / "out")) == (0o600, [result.path.name])
    assert (generation.transaction, generation.balance, result.replayed) == ("u1:2", 60, False)
    again = once(rich, tmp_path / "new" / "out", fails_with(AssertionError("called again")))
    assert (again.path, again.replayed, charges(rich)) == (result.path, True, 1)
    rich.check()


def dying(step: str, when: str) -> None:
    """Make this process die before or after a step, as kill -9 would."""
    places: dict[str, tuple[Any, str]] = {
        "open": (GenerationStore, "open"),
        "claim": (GenerationStore, "claim"),
        "write": (Place, "write"),
        "capture": (GenerationStore, "capture"),
        "name": (Place, "name"),
    }
    if step not in places:
        return
    owner, name = places[step]
    plain = getattr(owner, name)

    def patched(*args: Any, **more: Any) -> Any:
        if when == "before":
            os._exit(CRASHED)
        plain(*args, **more)
        os._exit(CRASHED)

    setattr(owner, name, patched)


def run_and_die(db: LedgerDB, folder: Path, step: str, when: str, calls: Path) -> None:
    """In a process of its own, so that nothing is cleaned up."""
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == CRASHED
        return
    try:
        dying(step, when)
        once(db, folder, counting(calls, die=when if step == "call" else None))
    finally:
        os._exit(1)


def counting(calls: Path, *, die: str | None = None) -> Call:
    def call(claim: Callable[[], None]) -> Outcome:
        claim()
        if die == "before":
            os._exit(CRASHED)
        with calls.open("a") as file:
            file.write("x")
        if die == "after":
            os._exit(CRASHED)
        return PICTURE

    return call


POINTS = [(step, when) for step in STEPS for when in ("before", "after")]


@pytest.mark.parametrize(("step", "when"), POINTS)
def test_a_crash_anywhere_is_finished_by_the_same_key(rich: LedgerDB, tmp_path: Path, step: str, when: str) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    run_and_die(rich, out, step, when, calls)
    assert charges(rich) == (1 if (step, when) in [("capture", "after"), ("name", "before"), ("name", "after")] else 0)
    result = once(rich, out, counting(calls))
    assert result.path is not None
    assert (result.path.read_bytes(), names(out), charges(rich)) == (PNG, [result.path.name], 1)
    assert len(calls.read_text()) <= 2
    assert rich.rows("SELECT balance FROM tokenctl.token_accounts") == [(60,)]
    assert rich.rows("SELECT state FROM tokenctl.token_holds") == [("captured",)]
    rich.check()


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in POINTS for b in POINTS if POINTS.index(a) % 3 == 0])
def test_two_crashes_in_a_row(rich: LedgerDB, tmp_path: Path, first: tuple[str, str], second: tuple[str, str]) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    run_and_die(rich, out, *first, calls)
    paid = charges(rich)
    if not paid:
        run_and_die(rich, out, *second, calls)
    result = once(rich, out, counting(calls))
    assert result.path is not None
    assert (result.path.read_bytes(), names(out), charges(rich)) == (PNG, [result.path.name], 1)
    assert len(calls.read_text()) <= 3
    rich.check()


@pytest.mark.parametrize("step", ["capture", "name"])
def test_resume_names_what_was_paid(rich: LedgerDB, tmp_path: Path, step: str) -> None:
    out = tmp_path / "out"
    run_and_die(rich, out, step, "after" if step == "capture" else "before", tmp_path / "calls")
    generation_id = rich.rows("SELECT generation_id FROM tokenctl.generations")[0][0]
    resumed = job(rich, out).resume("u1", generation_id)
    assert (resumed.path, resumed.replayed) == (out / f"{generation_id}.png", True)
    assert job(rich, out).resume("u1", generation_id).path == resumed.path
    assert job(rich, tmp_path).resume("u1", generation_id).path is None  # paid, and its image is elsewhere
    with pytest.raises(NotFound):
        job(rich, out).resume("u1", "0" * 12)


def test_resume_of_what_is_not_paid_says_how_to_go_on(rich: LedgerDB, tmp_path: Path) -> None:
    run_and_die(rich, tmp_path / "out", "call", "after", tmp_path / "calls")
    generation_id = rich.rows("SELECT generation_id FROM tokenctl.generations")[0][0]
    with pytest.raises(TryLater, match="open, not paid") as raised:
        job(rich, tmp_path / "out").resume("u1", generation_id)
    assert "--idempotency-key k1" in raised.value.hint


@pytest.mark.parametrize(
    "error",
    [Refused("blocked"), Unavailable("down"), LockHeld("a lock"), KeyboardInterrupt(), RuntimeError("a bug"),
     MemoryError()],
)  # fmt: skip
def test_while_it_lives_every_failure_gives_the_tokens_back(
    rich: LedgerDB, tmp_path: Path, error: BaseException
) -> None:
    said: list[str] = []
    one = job(rich, tmp_path, said=said)
    one.open(ORDER, key="k1")
    with pytest.raises(type(error)):
        one.run(fails_with(error))
    assert rich.rows("SELECT state FROM tokenctl.token_holds") == [("released",)]
    told = error.hint.splitlines() if isinstance(error, TokenctlError) else said
    assert told == ["nothing was charged: the hold of 40 tokens was released, u1 has 100 available"]
    assert (charges(rich), names(tmp_path)) == (0, [])
    assert once(rich, tmp_path).generation.outcome == "captured"  # the same key may try again
    rich.check()


def test_a_disk_that_cannot_take_the_image_charges_nothing(
    rich: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    one = job(rich, tmp_path)
    one.open(ORDER, key="k1")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotCreate, match="No space left"):
        one.run(works)
    assert (charges(rich), names(tmp_path)) == (0, [])
    assert rich.rows("SELECT state FROM tokenctl.token_holds") == [("released",)]


def test_a_signal_just_after_the_payment_keeps_the_image(
    rich: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = GenerationStore.capture

    def interrupted(*args: Any) -> Any:
        plain(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(GenerationStore, "capture", interrupted)
    said: list[str] = []
    one = job(rich, tmp_path, said=said)
    at = one.open(ORDER, key="k1")
    with pytest.raises(KeyboardInterrupt):
        one.run(works)
    assert said == [f"generation {at.generation_id} is paid, u1:2; --resume names its image"]
    assert job(rich, tmp_path).resume("u1", at.generation_id).path == tmp_path / f"{at.generation_id}.png"
    assert charges(rich) == 1


def test_a_file_that_has_the_name_stays(rich: LedgerDB, tmp_path: Path) -> None:
    one = job(rich, tmp_path)
    at = one.open(ORDER, key="k1")
    other = tmp_path / f"{at.generation_id}.png"
    other.write_text("somebody's")
    with pytest.raises(CannotCreate, match="is there already and stays"):
        one.run(works)
    assert (other.read_text(), charges(rich)) == ("somebody's", 1)
    other.unlink()
    assert once(rich, tmp_path).path == other
    assert other.read_bytes() == PNG


def test_a_link_in_the_way_is_not_followed(rich: LedgerDB, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    one = job(rich, out)
    at = one.open(ORDER, key="k1")
    (out / f"{at.generation_id}.png").symlink_to(victim)
    (out / f".{at.generation_id}.png.part").symlink_to(victim)
    with pytest.raises(CannotCreate):
        one.run(works)
    assert victim.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_held(rich: LedgerDB, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate):
        job(rich, tmp_path / "file" / "out").open(ORDER, key="k1")
    assert rich.rows("SELECT count(*) FROM tokenctl.token_holds") == [(0,)]


def test_another_run_at_work_is_left_alone(rich: LedgerDB, tmp_path: Path) -> None:
    first = job(rich, tmp_path)
    first.open(ORDER, key="k1")

    def meanwhile(claim: Callable[[], None]) -> Outcome:
        claim()
        second = job(rich, tmp_path)
        second.open(ORDER, key="k1")
        with pytest.raises(LockHeld, match="at work in another run"):
            second.run(works)
        return PICTURE

    assert first.run(meanwhile).generation.outcome == "captured"
    assert charges(rich) == 1


def test_refusals_come_before_anything_is_sent(rich: LedgerDB, tmp_path: Path) -> None:
    with pytest.raises(InsufficientTokens) as raised:
        once(rich, tmp_path, order=Order("u1", 101, "v1", "m", "4K", None, ORDER.input_sha256))
    assert raised.value.context["missing"] == 1
    with pytest.raises(UserNotFound):
        once(rich, tmp_path, order=Order("nobody", 1, "v1", "m", "4K", None, ORDER.input_sha256))
    once(rich, tmp_path)
    with pytest.raises(KeyConflict, match="was used for generation"):
        once(rich, tmp_path, order=replace(ORDER, quality="4K"))
    dearer = once(rich, tmp_path, order=replace(ORDER, price=41, price_version="v2"))
    assert (dearer.replayed, dearer.generation.amount, dearer.generation.price_version) == (True, 40, "v1")
    assert charges(rich) == 1


def test_the_provider_is_called_three_times_at_most(rich: LedgerDB, tmp_path: Path) -> None:
    def again_and_again(claim: Callable[[], None]) -> Outcome:
        for _ in range(4):
            claim()
        return PICTURE

    with pytest.raises(Refused, match="has had its 3 calls"):
        once(rich, tmp_path, again_and_again)
    assert charges(rich) == 0
    rich.check()


def test_a_run_that_was_taken_over_charges_nothing_and_touches_nothing(rich: LedgerDB, tmp_path: Path) -> None:
    """Stopped while its lease ran out, it comes back with an image when another run has made and paid one."""
    stopped = job(rich, tmp_path)
    stopped.open(ORDER, key="k1", limits=NO_LEASE)

    def overtaken(claim: Callable[[], None]) -> Outcome:
        claim()
        once(rich, tmp_path, another)
        return PICTURE

    def another(claim: Callable[[], None]) -> Outcome:
        claim()
        return replace(PICTURE, image=PNG + b"2")

    with pytest.raises(LockHeld, match="another run took generation"):
        stopped.run(overtaken)
    (name,) = names(tmp_path)
    assert ((tmp_path / name).read_bytes(), charges(rich)) == (PNG + b"2", 1)
    rich.check()


def test_a_claim_takes_the_right_to_pay_from_every_run_before(
    rich: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, other = job(rich, tmp_path), job(rich, tmp_path)
    stopped.open(ORDER, key="k1", limits=NO_LEASE)
    other.open(ORDER, key="k1", limits=NO_LEASE)

    def overtaken(claim: Callable[[], None]) -> Outcome:
        claim()
        with pytest.raises(Refused):
            other.run(dies)
        return PICTURE

    def dies(claim: Callable[[], None]) -> Outcome:
        claim()
        raise Refused("as if it had died")

    monkeypatch.setattr(other, "_release", lambda _why: [])
    with pytest.raises(LockHeld):
        stopped.run(overtaken)
    assert (charges(rich), names(tmp_path)) == (0, [])
    assert once(rich, tmp_path).generation.outcome == "captured"
    rich.check()
