"""`tokenctl generate`, end to end with the real library: what is charged, what is said, what is on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from tests import gemini_server as fake
from tests.cli.generating import KEY, PROMPT, TOKENS, Studio, prepared
from tests.cli.running import Cli, run
from tests.cli.test_schemas import strict
from tests.gemini_server import Reply, serving
from tests.pictures import jpeg, png
from tokenctl.cli.generation_views import ImageData
from tokenctl.output.schemas import json_schema
from tokenctl.services.pictures import Place
from tokenctl.storage.generations import GenerationStore


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        yield prepared(cli, server, home)


def test_an_image_is_made_and_paid(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    ran = studio("--aspect-ratio", "1:1", "--json")
    assert ran.code == 0, ran.err
    told = ran.json["data"]
    image = studio.out / f"{told['id']}.png"
    assert image.read_bytes() == png(1024, 1024)
    assert image.stat().st_mode & 0o777 == 0o600
    assert {name: told[name] for name in ("charged", "transaction", "balance", "available", "quality", "width")} == {
        "charged": 40, "transaction": "u1:2", "balance": 460, "available": 460, "quality": "1K", "width": 1024,
    }  # fmt: skip
    assert (told["image"], told["full_size"], told["calls"], told["state"]) == (str(image), True, 1, "captured")
    assert (ran.json["schema"], ran.json["meta"]["replayed"]) == ("tokenctl.generation.v1", False)
    assert studio.db.rows(
        "SELECT amount, kind, reason, note, idempotency_key FROM tokenctl.token_transactions WHERE seq = 2"
    ) == [(-40, "generation", "image-1k", f"generation {told['id']}, prices 2026-11", f"generation:{told['id']}")]
    assert studio.db.rows(
        "SELECT model, quality, aspect_ratio, price_version, response_id, model_version, usage ->> 'total', width,"
        " attempts FROM tokenctl.generations"
    ) == [("gemini-3-pro-image", "1K", "1:1", "2026-11", "r-1", "gemini-test-001", "2010", 1024, 1)]
    assert studio.files() == [f"{told['id']}.json", image.name]
    studio.db.check()


def test_what_is_sent_is_what_was_asked_for(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    assert studio("--aspect-ratio", "16:9").code == 0
    (asked,) = studio.server.asked
    assert asked.path == "/v1beta/models/gemini-3-pro-image:generateContent"
    assert asked.key == [KEY]
    config = asked.body["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "16:9", "imageSize": "1K"}
    *images, text = asked.body["contents"][0]["parts"]
    assert [image["inlineData"]["mime_type"] for image in images] == ["image/png", "image/jpeg", "image/webp"]
    assert text == {"text": PROMPT}


def test_the_sidecar_has_the_prompt_only_if_asked(studio: Studio) -> None:
    studio.server.script.extend([fake.image(png(1024, 1024))] * 2)
    told = studio("--json").json["data"]
    beside = json.loads((studio.out / f"{told['id']}.json").read_text())
    Draft202012Validator(strict(json_schema(ImageData))).validate(beside)
    assert (beside["sha256"], beside["charged"], beside["usage"]["total"]) == (told["sha256"], 40, 2010)
    assert beside["prompt"] is None
    assert "canary" not in json.dumps(beside)
    kept = studio("--json", "--save-prompt", key="k2").json["data"]
    assert json.loads((studio.out / f"{kept['id']}.json").read_text())["prompt"] == PROMPT


@pytest.mark.parametrize(
    ("reply", "extension"),
    [
        (fake.image(jpeg(1024, 1024), mime="image/jpeg"), "jpg"),
        (fake.image(jpeg(1024, 1024), mime="image/png"), "jpg"),  # the bytes are believed
        (fake.image(png(1024, 1024), before=[{"text": "Here it is."}]), "png"),
        (fake.image(png(1024, 1024), before=[fake.inline(jpeg(64, 64), thought=True)]), "png"),
    ],
    ids=["a JPEG", "a JPEG that says PNG", "text first", "a draft first"],
)
def test_the_image_is_found_and_named(studio: Studio, reply: Reply, extension: str) -> None:
    studio.server.script.append(reply)
    told = studio("--json").json["data"]
    assert Path(told["image"]).name == f"{told['id']}.{extension}"
    assert (told["width"], studio.charges()) == (1024, [40])


def test_fewer_pixels_than_paid_for_are_told_and_counted(studio: Studio) -> None:
    studio.server.script.extend([fake.image(png(1024, 1024)), fake.image(png(1376, 768))])
    ran = studio("--json", quality="4K")
    assert (ran.code, ran.json["data"]["full_size"]) == (0, False)
    assert ran.json["meta"]["warnings"] == ["the image has 1024 x 1024 pixels; 4K promises about 4096 x 4096"]
    assert studio("--json", key="k2").json["meta"]["warnings"] == []  # another ratio of the same area
    counted = studio.cli("metrics", "--format", "prometheus").text
    assert 'tokenctl_generation_smaller_images_total{quality="4K"} 1' in counted


def test_steps_are_counted_and_logged_without_a_secret(studio: Studio) -> None:
    studio.server.script.extend([fake.image(png(1024, 1024)), fake.blocked()])
    log = studio.home / "log"
    studio.cli.patch.setenv("TOKENCTL_LOG_FILE", str(log))
    assert [studio().code, studio(key="k2").code] == [0, 1]
    counted = studio.cli("metrics", "--format", "prometheus").text
    for line in (
        'tokenctl_generation_tokens_total{step="held"} 80',
        'tokenctl_generation_tokens_total{step="captured"} 40',
        'tokenctl_generation_tokens_total{step="released"} 40',
        'tokenctl_generations_total{outcome="ok",quality="1K"} 1',
        'tokenctl_generations_total{outcome="content-refused",quality="1K"} 1',
        'tokenctl_gemini_request_duration_seconds_count{outcome="success",quality="1K"} 1',
        'tokenctl_gemini_request_duration_seconds_count{outcome="blocked",quality="1K"} 1',
    ):
        assert line in counted, counted
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [(line["step"], line["tokens"], line["user_id"]) for line in lines if line["event"] == "generation"]
    assert steps == [("held", 40, "u1"), ("captured", 40, "u1"), ("held", 40, "u1"), ("released", 40, "u1")]
    assert "canary" not in log.read_text()


def test_holds_and_payments_are_seen_by_the_next_balance(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = GenerationStore.capture
    during: list[tuple[int, int]] = []

    def looking(store: GenerationStore, *args: object) -> object:
        during.append(shown())
        return plain(store, *args)  # type: ignore[arg-type]  # passed on as they come

    def shown() -> tuple[int, int]:
        told = run("balance", "u1", "--json").json["data"]
        return told["balance"], told["available"]

    monkeypatch.setattr(GenerationStore, "capture", looking)
    studio.server.script.extend([fake.image(png(1024, 1024)), fake.blocked()])
    assert shown() == (TOKENS, TOKENS)
    assert studio().code == 0
    assert during == [(TOKENS, TOKENS - 40)]
    assert shown() == (TOKENS - 40, TOKENS - 40)
    assert studio(key="k2").code == 1
    assert shown() == (TOKENS - 40, TOKENS - 40)


def test_what_was_paid_and_not_named_is_resumed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Place, "name", interrupted)
        stopped = studio()
    assert stopped.code == 130
    assert "--idempotency-key k1 finishes it, and pays once" in stopped.err
    assert studio.charges() == [40]
    (hidden,) = studio.files()
    generation = hidden.split(".")[1]
    elsewhere = studio.cli("generate", "u1", "--resume", generation, "--out", str(studio.home))
    assert (elsewhere.code, "is paid, u1:2" in elsewhere.err) == (66, True)
    got = studio.cli("generate", "u1", "--resume", generation, "--out", str(studio.out), "--json")
    assert (got.code, got.json["meta"]["replayed"]) == (0, True)
    assert studio.files() == [f"{generation}.json", f"{generation}.png"]
    assert studio.charges() == [40]
    assert studio.cli("generate", "u1", "--resume", generation, "--quality", "1K").code == 2
    assert studio.cli("generate", "u1", "--resume", "0" * 12).code == 1


def test_a_charge_is_explained_shown_and_reversed(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    generation = studio("--json").json["data"]["id"]
    assert any("image-1k" in line for line in studio.cli("explain", "u1").text.splitlines())
    assert f"generation {generation}" in studio.cli("show", "u1:2").text
    assert studio.cli("history", "u1", "--kind", "generation").lines[0][2] == "-40"
    assert studio.cli("verify").code == 0
    assert studio.cli("reverse", "u1:2", "--reason", "mistake", "--yes").code == 0
    assert studio.cli.balance() == TOKENS
    assert studio.cli("verify").code == 0


def test_what_was_paid_and_taken_back_since_is_not_told_as_paid(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    generation = studio("--json").json["data"]["id"]
    assert studio.cli("reverse", "u1:2", "--reason", "mistake", "--yes").code == 0
    for words in (studio.words(), studio.words("--dry-run"), ["generate", "u1", "--resume", generation]):
        ran = studio.cli(*words)
        assert (ran.code, ran.out) == (1, b""), words
        assert f"generation {generation} was paid as u1:2, and that was reversed since" in ran.err
        assert "charged" not in ran.err
    refused = studio.cli("holds", "release", "u1", generation, "--reason", "stuck", "--yes")
    assert (refused.code, "was paid as u1:2" in refused.err) == (1, True)
    assert "undoes that" not in refused.err
    assert len(studio.server.asked) == 1
    assert studio.cli.balance() == TOKENS
    assert studio.cli("reverse", "u1:3", "--reason", "mistake", "--yes").code == 0
    assert studio("--json").json["data"]["charged"] == 40  # paid again
    studio.db.check()
