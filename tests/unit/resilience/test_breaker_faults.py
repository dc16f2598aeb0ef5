"""What is wrong with the machine's memory never refuses a call: other boots, clocks, damage, unusable files."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.resilience.breaker_world import NAME, World
from tokenctl.errors import BreakerOpen, ConfigError, RateLimited
from tokenctl.resilience.breaker import Breaker, Permit
from tokenctl.resilience.events import BreakerMoved, Trouble
from tokenctl.resilience.ratelimit import RateLimiter
from tokenctl.settings import RateLimit
from tokenctl.statefile import private_dir

ONE = RateLimit(1, 60.0)
METHODS: dict[str, Callable[[Breaker], object]] = {
    "admit": Breaker.admit,
    "succeeded": Breaker.succeeded,
    "failed": lambda breaker: breaker.failed("unavailable"),
    "abandoned": Breaker.abandoned,
    "close": Breaker.close,
    "open_until": lambda breaker: breaker.open_until(5, "quota"),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def limiter(world: World) -> RateLimiter:
    return RateLimiter(world.file, clock=lambda: world.now, boot_id=world.boot, emit=world.events.append)


def allowed(world: World) -> bool:
    try:
        limiter(world).check("reverse", "me@here", ONE)
    except RateLimited:
        return False
    return True


def rewrite(world: World, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Change the breaker's note in the file, with a checksum that fits or without."""
    with world.file.transaction() as connection:
        body, crc = connection.execute("SELECT body, crc FROM notes WHERE name = ?", (NAME,)).fetchone()
        sheet = json.loads(body)
        change(sheet["note"])
        body = json.dumps(sheet)
        crc = zlib.crc32(f"breaker\0{NAME}\0{body}".encode()) if sign else crc
        connection.execute("UPDATE notes SET body = ?, crc = ? WHERE name = ?", (body, crc, NAME))


# --- boots and clocks -------------------------------------------------------------------


def test_another_boot_closes_everything(world: World) -> None:
    breaker = world.opened()
    assert allowed(world)
    assert not allowed(world)
    world.boot = "next-boot"
    assert world.breakers().states() == []
    breaker = world.breaker()
    assert breaker.admit() == Permit()
    assert allowed(world)
    for _ in range(3):
        breaker.failed("unavailable")
    assert world.wait_s(breaker) == 5
    assert len(world.breakers().states()) == 1


@pytest.mark.parametrize("boot", ["this-boot", ""])
def test_a_clock_that_was_set_back_closes_everything(world: World, boot: str) -> None:
    """As after a boot, on a system that has no name for it."""
    world.boot = boot
    breaker = world.opened()
    assert allowed(world)
    world.now -= 900
    assert breaker.admit() == Permit()
    assert allowed(world)
    assert world.breakers().states() == []


def test_a_clock_that_jumped_ahead_only_makes_it_earlier(world: World) -> None:
    breaker = world.opened()
    world.now += 3000
    assert breaker.admit().probe


# --- what the file holds -----------------------------------------------------------------


def test_a_note_with_more_in_it_or_less_is_read(world: World) -> None:
    """As another version of tokenctl may have written it."""
    breaker = world.opened()
    rewrite(world, lambda note: note.update(news={"a": 1}))
    assert world.wait_s(breaker) == 5
    rewrite(world, lambda note: [note.pop(key) for key in ("cause", "window")])
    assert world.wait_s(breaker) == 5


def test_a_note_that_was_changed_is_not_believed(world: World) -> None:
    breaker = world.opened()
    rewrite(world, lambda note: note.update(until=1e300), sign=False)
    assert breaker.admit() == Permit()
    [trouble] = world.hear()
    assert trouble == Trouble("breaker", f"the note breaker '{NAME}' is damaged")
    assert breaker.admit() == Permit()
    assert world.hear() == []
    assert world.breakers().states() == []


def test_the_note_of_another_peer_is_not_believed(world: World) -> None:
    world.opened()
    with world.file.transaction() as connection:
        connection.execute("UPDATE notes SET name = 'gemini'")
    assert world.breaker(name="gemini").admit() == Permit()
    assert [type(event) for event in world.hear()] == [Trouble]


def test_what_is_over_is_swept_out_when_somebody_new_comes(world: World) -> None:
    def kept() -> set[str]:
        with world.file.transaction(write=False) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM notes")}

    for number in range(20):
        limiter(world).check("reverse", f"operator{number}", ONE)
    world.breaker(name="b").failed("unavailable")
    assert len(kept()) == 21
    world.now += 30
    limiter(world).check("reverse", "late", ONE)
    assert len(kept()) == 22
    world.now += 50
    limiter(world).check("reverse", "later", ONE)
    assert kept() == {"reverse late", "reverse later"}


def test_damage_never_makes_a_refusal(world: World) -> None:
    """A breaker that is open stays open or closes, one that is closed stays closed, and nothing else happens."""
    world.opened()
    world.breaker(name="closed").failed("unavailable")
    assert allowed(world)
    content = world.file.path.read_bytes()
    rng = random.Random(20261124)  # noqa: S311 — a repeatable test
    for _ in range(120):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 5))):
            # Most of two pages is empty: where something is, more is hit.
            places = [place for place, byte in enumerate(content) if byte]
            damaged[rng.choice(places)] = rng.randrange(256)
        shutil.rmtree(world.file.path.parent)
        private_dir(world.file.path.parent)
        world.file.path.write_bytes(damaged)
        assert world.wait_s(world.breaker()) in (5, None)
        assert world.breaker(name="closed").admit() == Permit()
        limiter(world).check("reverse", "somebody else", ONE)
        world.breaker(name="closed").failed("unavailable")


# --- the file cannot be used -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("force", [False, True])
def test_without_a_usable_file_every_call_passes(
    world: World, method: Callable[[Breaker], object], force: bool
) -> None:
    world.opened()
    directory = world.file.path.parent
    directory.chmod(0o777)
    breaker = world.breaker(force=force)
    assert method(breaker) in (None, Permit())
    whys = [event.why for event in world.hear() if isinstance(event, Trouble) and event.what == "breaker"]
    assert whys in ([f"{directory} can be written by other users; look what is in it, then chmod 700 {directory}"], [])
    assert bool(whys) != (force and method is Breaker.admit)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_damaged_file_costs_one_trouble(world: World, method: Callable[[Breaker], object]) -> None:
    world.opened()
    world.file.path.write_bytes(b"no database\n" * 100)
    assert method(world.breaker()) in (None, Permit())
    assert [type(event) for event in world.hear()] in ([Trouble], [Trouble, BreakerMoved])
    breaker = world.opened()
    assert world.wait_s(breaker) == 5


def test_a_person_who_asks_is_told_that_the_file_cannot_be_used(world: World) -> None:
    world.opened()
    world.file.path.parent.chmod(0o777)
    for ask in (world.breakers().states, world.breakers().reset_all, lambda: world.breakers().reset([NAME])):
        with pytest.raises(ConfigError, match=r"the state file cannot be used: .* can be written by other users"):
            ask()


def test_a_lease_that_cannot_be_written_lets_the_call_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = world.opened()
    with sqlite3.connect(world.file.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(world.file, "_busy_s", 0.01)
        with pytest.raises(BreakerOpen):
            breaker.admit()  # only a read
        world.now += 5
        assert breaker.admit() == Permit()
        assert [type(event) for event in world.hear()][-1] is Trouble
        other.execute("ROLLBACK")
    other.close()
