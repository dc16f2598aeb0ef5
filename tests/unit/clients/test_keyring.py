"""Which key is asked with: sticky, with failover, and known to every process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.resilience.breaker_world import World
from tokenctl.clients.keyfile import Key
from tokenctl.clients.keymarks import SCHEMA, KeyMarks
from tokenctl.clients.keyring import Cooling, Keyring
from tokenctl.clients.outcomes import FOR_EVER, Act, Scope, Verdict
from tokenctl.errors import ConfigError, UsageError
from tokenctl.resilience.events import Trouble
from tokenctl.statefile import StateFile

MODEL = "gemini-3-pro-image"
A = Key("a", "p1", "AIzaSy-secret-of-key-a")
B = Key("b", "p1", "AIzaSy-secret-of-key-b")
C = Key("c", "p2", "AIzaSy-secret-of-key-c")

WELL = Verdict("success", Act.DONE)
QUOTA = Verdict("quota_minute", Act.ROTATE, Scope.PROJECT, 30.0)
REFUSED = Verdict("key_rejected", Act.ROTATE, Scope.KEY, 3600.0)
REJECTED = Verdict("key_rejected", Act.ROTATE, Scope.KEY, FOR_EVER)
OVERLOADED = Verdict("server_error", Act.RETRY, Scope.MODEL)

Make = Callable[..., Keyring]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def make(world: World, tmp_path: Path) -> Make:
    """Makes a keyring as a new process has it."""

    def keyring(*keys: Key, force: bool = False) -> Keyring:
        file = StateFile(tmp_path / "state" / "keys.db", SCHEMA)
        return Keyring(
            keys or (A, B, C),
            breakers=world.breakers(force=force),
            marks=KeyMarks(file, emit=lambda event: world.events.append(event), clock=lambda: 1.8e9),  # noqa: PLW0108
            state=world.file,
            clock=lambda: world.now,
            boot_id=world.boot,
            emit=lambda event: world.events.append(event),  # noqa: PLW0108 — the list changes
        )

    return keyring


def ask(keyring: Keyring, verdict: Verdict, model: str = MODEL) -> Key:
    """Choose a key and report what came of it."""
    key = keyring.choose(model)
    assert isinstance(key, Key)
    keyring.report(key, model, verdict, "429 RESOURCE_EXHAUSTED")
    return key


def states(keyring: Keyring, model: str = MODEL) -> list[str]:
    return [one.state for one in keyring.states(model)]


def test_the_first_key_is_used_until_it_fails(make: Make) -> None:
    assert [ask(make(), WELL) for _ in range(3)] == [A, A, A]


def test_a_full_quota_rotates_to_another_project(make: Make) -> None:
    keyring = make()
    assert ask(keyring, QUOTA) == A
    assert ask(keyring, WELL) == C  # b has the same project


def test_the_last_good_key_is_kept_by_every_process(make: Make, world: World) -> None:
    keyring = make()
    ask(keyring, QUOTA)
    ask(keyring, WELL)
    world.now += 3600
    assert [ask(make(), WELL) for _ in range(2)] == [C, C]
    assert states(make()) == ["ready", "ready", "in use"]


def test_a_rejected_key_leaves_its_project_alone(make: Make) -> None:
    keyring = make()
    assert ask(keyring, REFUSED) == A
    assert ask(make(), WELL) == B


def test_other_processes_leave_a_cooling_project_alone_until_its_time(make: Make, world: World) -> None:
    ask(make(A, B), QUOTA)
    assert make(A, B).choose(MODEL) == Cooling(30.0)
    world.now += 29
    assert make(A, B).choose(MODEL) == Cooling(1.0)
    world.now += 1
    assert ask(make(A, B), WELL) == A


def test_a_quota_is_of_one_model(make: Make) -> None:
    ask(make(A), QUOTA)
    assert make(A).choose("another-model") == A
    assert make(A).choose(MODEL) == Cooling(30.0)


def test_after_its_time_one_process_tries_and_the_others_wait(make: Make, world: World) -> None:
    ask(make(A), QUOTA)
    world.now += 30
    first = make(A)
    assert first.choose(MODEL) == A
    world.become(4711)
    assert isinstance(make(A).choose(MODEL), Cooling)


def test_a_try_that_was_given_up_lets_the_next_one_try(make: Make, world: World) -> None:
    ask(make(A), QUOTA)
    world.now += 30
    first = make(A)
    assert first.choose(MODEL) == A
    first.abandon()
    assert make(A).choose(MODEL) == A


def test_a_failure_that_is_not_the_keys_gives_the_try_back(make: Make, world: World) -> None:
    ask(make(A), QUOTA)
    world.now += 30
    ask(make(A), OVERLOADED)
    assert make(A).choose(MODEL) == A


def test_a_key_whose_try_is_refused_gives_back_that_of_its_project(make: Make, world: World) -> None:
    keyring = make(A, B)
    ask(keyring, QUOTA)  # a's and b's project
    world.now += 30
    ask(make(A, B), REFUSED)  # a, as the project's try: it says nothing of the quota
    assert ask(make(A, B), WELL) == B


def test_a_key_that_was_rejected_for_good_stays_out_until_its_secret_changes(make: Make, world: World) -> None:
    ask(make(A, C), REJECTED)
    world.now += 10**6
    world.boot = "the-next-boot"
    assert ask(make(A, C), WELL) == C
    assert states(make(A, C)) == ["rejected", "in use"]
    renewed = Key("a", "p1", "AIzaSy-a-newer-secret-of-a")
    assert states(make(renewed, C)) == ["ready", "in use"]


def test_when_every_key_is_out_it_says_which_and_why(make: Make) -> None:
    ask(make(A, C), REJECTED)
    make(A, C).disable("c")
    with pytest.raises(ConfigError) as caught:
        make(A, C).choose(MODEL)
    assert caught.value.detail == (
        "no Gemini key can be used: a (rejected: 429 RESOURCE_EXHAUSTED), c (disabled: by tokenctl keys disable)"
    )


def test_a_disabled_key_is_not_used_after_a_restart_either(make: Make, world: World) -> None:
    make().disable("a")
    world.boot = "the-next-boot"
    assert ask(make(), WELL) == B
    make().enable("a", MODEL)
    assert states(make()) == ["ready", "in use", "ready"]


def test_enabling_forgets_cool_downs_and_rejections(make: Make) -> None:
    ask(make(A), QUOTA)
    make(A).enable("a", MODEL)
    assert ask(make(A), REJECTED) == A
    make(A).enable("a", MODEL)
    assert ask(make(A), REFUSED) == A
    make(A).enable("a", MODEL)
    assert ask(make(A), WELL) == A


def test_what_a_person_said_is_not_overwritten_by_a_rejection(make: Make) -> None:
    keyring = make(A, C)
    key = keyring.choose(MODEL)
    assert key == A
    make(A, C).disable("a")  # while the call is on its way
    keyring.report(A, MODEL, REJECTED, "400 API_KEY_INVALID")
    assert states(make(A, C)) == ["disabled", "ready"]


def test_a_test_that_went_well_lifts_what_gemini_said_and_not_what_a_person_said(make: Make) -> None:
    keyring = make(A, C)
    ask(keyring, REJECTED)
    make(A, C).disable("c")
    make(A, C).accepted(A)
    make(A, C).accepted(C)
    assert states(make(A, C)) == ["ready", "disabled"]


def test_an_unknown_id_is_a_usage_error_that_names_the_known_ones(make: Make) -> None:
    keyring = make()
    for act in (keyring.disable, keyring.find, lambda key_id: keyring.enable(key_id, MODEL)):
        with pytest.raises(UsageError, match="no key 'x'") as caught:
            act("x")
        assert caught.value.hint == "known keys: a, b, c"


def test_the_list_says_how_long_and_why(make: Make, world: World) -> None:
    ask(make(), QUOTA)
    world.now += 10
    first, second, third = make().states(MODEL)
    assert (first.state, first.cooldown_s, first.why) == ("cooling", 20.0, "429 RESOURCE_EXHAUSTED")
    assert (second.state, second.cooldown_s) == ("cooling", 20.0)
    assert (third.state, third.cooldown_s, third.why) == ("ready", None, None)


def test_with_the_breaker_ignored_a_run_still_goes_on_to_the_next_key(make: Make) -> None:
    ask(make(), QUOTA)
    keyring = make(force=True)
    assert ask(keyring, QUOTA) == A  # whatever an earlier run found out
    assert ask(keyring, QUOTA) == C
    assert keyring.choose(MODEL) == Cooling(30.0)


def test_without_usable_files_keys_rotate_within_the_run(make: Make, world: World, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in place of the directory")
    keyring = make()
    assert ask(keyring, QUOTA) == A
    assert ask(keyring, REJECTED) == C
    assert keyring.choose(MODEL) == Cooling(30.0)
    assert any(isinstance(event, Trouble) for event in world.events)
    with pytest.raises(ConfigError, match="cannot be noted"):
        keyring.disable("a")


def test_no_file_holds_a_secret(make: Make, tmp_path: Path) -> None:
    keyring = make()
    ask(keyring, QUOTA)
    ask(keyring, REJECTED)
    keyring.disable("a")
    content = b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())
    assert b"RESOURCE_EXHAUSTED" in content
    assert b"AIzaSy" not in content
    assert b"secret-of" not in content


def test_a_healthy_key_costs_no_writing(make: Make, world: World) -> None:
    ask(make(), WELL)
    before = world.file.writes
    ask(make(), WELL)
    assert world.file.writes == before
