"""`tokenctl generate` with every end that a call can have, and with keys whose quotas are full."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import gemini_server as fake
from tests.cli.generating import Studio, impatient, keys, prepared, problem
from tests.cli.running import Cli
from tests.cli.test_cached_balance import lossy_address
from tests.gemini_server import GeminiServer, Reply, serving
from tests.pictures import png
from tests.proxy import WITHIN_REPLY
from tokenctl.models import Generation, Paid
from tokenctl.storage.generations import GenerationStore


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        yield prepared(cli, server, home)


Case = tuple[Callable[[GeminiServer], Reply], int, int, str]
#: What Gemini does, the exit code, how many calls it is worth, and the error's code.
ENDS: dict[str, Case] = {
    "the key is invalid": (lambda _: fake.rejected(), 78, 1, "config"),
    "401": (lambda _: fake.error(401, "UNAUTHENTICATED"), 75, 1, "rate-limited"),
    "403 of the key": (lambda _: fake.error(403, "PERMISSION_DENIED", "IP blocked"), 75, 1, "rate-limited"),
    "403, leaked": (lambda _: fake.error(403, "PERMISSION_DENIED", "API key reported as leaked"), 78, 1, "config"),
    "403 of the project": (
        lambda _: fake.error(403, "PERMISSION_DENIED", "off", {"reason": "SERVICE_DISABLED"}), 75, 1, "rate-limited",
    ),
    "404": (lambda _: fake.error(404, "NOT_FOUND"), 78, 1, "config"),
    "408": (lambda _: fake.error(408), 69, 3, "gemini-unavailable"),
    "413": (lambda _: fake.error(413), 65, 1, "bad-data"),
    "429 of a minute": (lambda _: fake.exhausted(90), 75, 1, "rate-limited"),
    "429 with Retry-After": (lambda _: fake.error(429, "", "slow", retry_after="120"), 75, 1, "rate-limited"),
    "429 of a day": (lambda _: fake.exhausted(1, period="Day"), 75, 1, "rate-limited"),
    "500": (lambda _: fake.error(500, "INTERNAL"), 69, 3, "gemini-unavailable"),
    "503": (lambda _: fake.error(503, "UNAVAILABLE"), 69, 3, "gemini-unavailable"),
    "504": (lambda _: fake.error(504, "DEADLINE_EXCEEDED"), 69, 3, "gemini-unavailable"),
    "a proxy's page": (lambda _: fake.html(), 69, 3, "gemini-unavailable"),
    "invalid JSON": (lambda _: fake.body(b'{"candidates": [{'), 69, 2, "gemini-unavailable"),
    "an empty 200": (lambda _: fake.body(b""), 69, 2, "gemini-unavailable"),
    "an object without anything": (lambda _: fake.body(b"{}"), 69, 2, "gemini-unavailable"),
    "a blocked prompt": (lambda _: fake.blocked(), 1, 1, "content-refused"),
    "IMAGE_SAFETY": (lambda _: fake.finished("IMAGE_SAFETY"), 1, 1, "content-refused"),
    "NO_IMAGE": (lambda _: fake.finished("NO_IMAGE"), 1, 2, "no-image"),
    "text only": (lambda _: fake.parts({"text": "I cannot draw."}), 1, 2, "no-image"),
    "drafts only": (lambda _: fake.parts(fake.inline(png(9, 9), thought=True)), 1, 2, "no-image"),
    "bytes that are no image": (lambda _: fake.image(b"GIF89a, not really"), 69, 2, "gemini-unavailable"),
    "a redirect": (lambda server: fake.redirect(server.url + "/elsewhere", 307), 69, 2, "gemini-unavailable"),
    "a wrong request": (lambda _: fake.error(400, "INVALID_ARGUMENT", "no"), 65, 1, "bad-data"),
    "a wrong country": (lambda _: fake.error(400, "FAILED_PRECONDITION", "no"), 78, 1, "config"),
    "closed without an answer": (lambda _: fake.closed(), 75, 2, "timed-out"),
    "reset": (lambda _: fake.reset(), 75, 2, "timed-out"),
    "half an answer": (lambda _: fake.truncated(), 75, 2, "timed-out"),
    "silence": (lambda _: fake.silent(), 75, 2, "timed-out"),
    "one byte after the other": (lambda _: fake.dripping(), 75, 2, "timed-out"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_every_failure_charges_nothing_and_gives_the_tokens_back(studio: Studio, case: str) -> None:
    reply, code, calls, error = ENDS[case]
    impatient(studio.cli.patch, 0.5 if case in ("silence", "one byte after the other") else 60.0)
    studio.server.script.extend([reply(studio.server)] * calls)
    studio.server.script.append(fake.image(png(1024, 1024)))
    told = problem(studio("--json"))
    assert (told["exit_code"], told["type"].rpartition(":")[2]) == (code, error), told
    assert len(studio.server.asked) == calls
    assert (told["hold"], told["idempotency_key"]) == ("released", "k1")
    assert "the hold of 40 tokens was released, u1 has 500 available" in told["hint"]
    assert studio.holds() == ["released"]
    studio.nothing_happened()


def test_nobody_listening_charges_nothing(studio: Studio) -> None:
    impatient(studio.cli.patch)
    studio.cli.patch.setenv("TOKENCTL_GEMINI_BASE_URL", "http://127.0.0.1:1")
    told = problem(studio("--json"))
    assert (told["exit_code"], told["hold"]) == (69, "released")
    studio.nothing_happened()


def test_a_redirect_takes_the_key_nowhere(studio: Studio) -> None:
    impatient(studio.cli.patch)
    with serving() as elsewhere:
        studio.server.script.extend([fake.redirect(elsewhere.url)] * 2)
        assert studio().code == 69
        assert elsewhere.asked == []
    studio.nothing_happened()


def test_after_a_failure_the_same_key_begins_anew(studio: Studio) -> None:
    impatient(studio.cli.patch)
    studio.server.script.extend([fake.error(503)] * 3)
    assert studio().code == 69
    assert studio.cli("breaker", "reset", "--all").code == 0
    studio.server.script.append(fake.image(png(1024, 1024)))
    assert studio().code == 0
    assert (studio.charges(), studio.holds()) == ([40], ["captured"])
    assert studio.db.rows("SELECT attempts FROM tokenctl.generations") == [(1,)]


def test_without_a_key_each_run_is_another_image(studio: Studio) -> None:
    studio.server.script.extend([fake.image(png(1024, 1024))] * 2)
    assert [studio(key=None).code for _ in range(2)] == [0, 0]
    assert studio.charges() == [40, 40]


def test_the_same_key_answers_with_the_first_receipt(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    first, second = studio("--json").json, studio("--json").json
    assert first["data"] == second["data"]
    assert (first["meta"]["replayed"], second["meta"]["replayed"]) == (False, True)
    assert (len(studio.server.asked), studio.charges()) == (1, [40])
    assert problem(studio("--json", prompt="another"))["type"].endswith("key-conflict")


# --- keys ----------------------------------------------------------------------


def test_no_call_is_refused_while_another_project_has_quota(studio: Studio) -> None:
    """Two calls a minute for each project: five runs find what six may have, and ask nobody in vain twice."""
    secrets = keys(studio.home, "p0", "p1", "p2")
    studio.cli.patch.setenv("GEMINI_API_KEYS_FILE", str(studio.home / "keys.toml"))
    used = dict.fromkeys(secrets, 0)

    def quota(secret: str) -> Reply:
        def reply(handler: fake.Handler) -> None:
            used[secret] += 1
            (fake.image(png(1024, 1024)) if used[secret] <= 2 else fake.exhausted(50))(handler)

        return reply

    studio.server.by_key = {secret: quota(secret) for secret in secrets}
    assert [studio(key=f"k{run}").code for run in range(6)] == [0] * 6
    assert used == {secrets[0]: 3, secrets[1]: 3, secrets[2]: 2}
    assert studio.charges() == [40] * 6
    assert problem(studio("--json", "--timeout", "20", key="k6"))["type"].endswith("rate-limited")
    assert used == dict.fromkeys(secrets, 3)
    assert studio.charges() == [40] * 6


def test_a_full_quota_uses_up_none_of_the_ledger(studio: Studio) -> None:
    secrets = keys(studio.home, "p0", "p1")
    studio.cli.patch.setenv("GEMINI_API_KEYS_FILE", str(studio.home / "keys.toml"))
    studio.server.by_key = {secrets[0]: fake.exhausted(50), secrets[1]: fake.image(png(1024, 1024))}
    told = studio("--json").json["data"]
    assert (told["calls"], studio.server.keys, studio.charges()) == (2, secrets, [40])


def counted(studio: Studio) -> dict[str, int]:
    """Tokens by step."""
    text = studio.cli("metrics", "--format", "prometheus").text
    return {step: int(n) for step, n in re.findall(r'generation_tokens_total\{step="(\w+)"\} (\d+)', text)}


@pytest.mark.parametrize("lost", ["generation_open_v1", "generation_capture_v1"])
def test_tokens_are_counted_once_where_an_answer_was_lost(studio: Studio, lost: str) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    with lossy_address(studio.cli) as between:
        between.trigger, between.faults = lost.encode(), [WITHIN_REPLY]
        assert (studio().code, between.befallen) == (0, 1)
    assert counted(studio) == {"held": 40, "captured": 40}


@pytest.mark.parametrize("by_hand", [False, True])
def test_tokens_of_an_image_that_could_not_be_paid_are_counted_as_released_once(studio: Studio, by_hand: bool) -> None:
    """Spent elsewhere past the deadline, which the payment finds; or released by somebody who has counted them."""

    def capture(self: GenerationStore, at: Generation, paid: Paid) -> Generation:
        if by_hand:
            assert studio.cli("holds", "release", "u1", at.generation_id, "--reason", "stuck", "--yes").code == 0
        else:
            studio.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
            assert studio.cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0
        return real(self, at, paid)

    real = GenerationStore.capture
    studio.server.script.append(fake.image(png(1024, 1024)))
    with studio.cli.patch.context() as patch:
        patch.setattr(GenerationStore, "capture", capture)
        assert studio().code == 1
    assert studio.holds() == ["released"]
    assert counted(studio) == {"held": 40, "released": 40}
