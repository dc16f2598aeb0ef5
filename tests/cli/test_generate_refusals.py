"""What `tokenctl generate` refuses before anything is held or sent, and what a dry run shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import gemini_server as fake
from tests.cli.generating import PRICES, PROMPT, Studio, configure, prepared, problem
from tests.cli.running import Cli, environment, shell
from tests.gemini_server import serving
from tests.pictures import REAL, png


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        yield prepared(cli, server, home)


def test_every_mistake_is_told_at_once_and_nothing_is_connected_to(studio: Studio) -> None:
    studio.cli.patch.setenv("TOKENCTL_DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    (studio.home / "text.png").write_text("no image")
    ran = studio.cli(
        "generate", "u1", "--quality", "8K", "--aspect-ratio", "1:7", "--image", str(studio.home / "text.png"),
        "--image", str(studio.home / "missing.png"),
    )  # fmt: skip
    assert ran.code == 2
    assert "6 mistakes; nothing was sent" in ran.err
    for place in (
        "'--prompt-file'",
        "--quality: '8K'",
        "--aspect-ratio: '1:7'",
        "image 1 (",
        "image 2 (",
        "--image: must",
    ):
        assert place in ran.err
    assert "tokenctl generate --help" in ran.err
    assert studio.server.asked == []


def test_mistakes_and_a_look_load_no_library(studio: Studio) -> None:
    words = " ".join(f"'{word}'" for word in studio.words("-n"))
    for line in (f"generate u1 --prompt x --image {studio.home}/a.png --quality 9K", words):
        seen = shell(f"PYTHONPROFILEIMPORTTIME=1 tokenctl {line}", **environment())
        assert "tokenctl.services" in seen.err or seen.code == 2
        assert "google" not in seen.err
        assert "httpx2" not in seen.err


def test_a_look_shows_the_cost_and_holds_nothing(studio: Studio) -> None:
    ran = studio("-n", "--json", quality="2K")
    assert ran.code == 0
    told = ran.json["data"]
    assert (ran.json["schema"], ran.json["meta"]["dry_run"]) == ("tokenctl.generation_plan.v1", True)
    assert (told["cost"], told["available_before"], told["available"], told["price_version"]) == (
        60,
        500,
        440,
        "2026-11",
    )
    assert [image["mime"] for image in told["images"]] == ["image/png", "image/jpeg", "image/webp"]
    size = sum(len(REAL[kind]) for kind in ("png", "jpeg", "webp lossy"))
    assert (told["prompt_characters"], told["bytes"]) == (len(PROMPT), size)
    assert "canary" not in ran.text + ran.err
    studio.nothing_happened()
    assert (studio.holds(), studio.server.asked) == ([], [])


def test_a_look_knows_what_the_key_has_done(studio: Studio) -> None:
    studio.server.script.append(fake.image(png(1024, 1024)))
    made = studio("--json").json["data"]
    told = studio("-n", "--json").json["data"]
    assert (told["already"], told["cost"], told["transaction"]) == (made["id"], 0, "u1:2")
    assert problem(studio("-n", "--json", quality="2K"))["type"].endswith("key-conflict")


def test_too_few_tokens_are_told_by_a_look_and_by_a_run(studio: Studio) -> None:
    configure(studio.home, PRICES.replace("120", "501"))
    for more in (["-n"], []):
        told = problem(studio("--json", *more, quality="4K"))
        assert (told["exit_code"], told["type"], told["missing"]) == (1, "urn:tokenctl:problem:insufficient-tokens", 1)
    assert (studio.server.asked, studio.holds()) == ([], [])


def test_a_limit_of_the_cost_is_kept(studio: Studio) -> None:
    told = problem(studio("--max-cost", "39", "--json"))
    assert (told["exit_code"], told["price"], told["max_cost"]) == (1, 40, 39)
    studio.server.script.append(fake.image(png(1024, 1024)))
    assert studio("--max-cost", "40").code == 0


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ("", "no price is configured"),
        ('[prices]\nversion = "v1"\n2K = 60\n', "prices.1K is missing"),
        ("[prices]\n1K = 40\n", "prices.version is missing"),
    ],
)
def test_without_a_price_nothing_is_sent(studio: Studio, prices: str, told: str) -> None:
    configure(studio.home, prices)
    ran = studio()
    assert (ran.code, told in ran.err, "[prices]" in ran.err) == (78, True, True)
    studio.nothing_happened()


@pytest.mark.parametrize("wrong", ["1K = 0", "1K = -1", '1K = "40"', "version = 1", "8K = 1", 'version = "a b"'])
def test_a_wrong_price_is_told_with_its_line(studio: Studio, wrong: str) -> None:
    configure(studio.home, f"[prices]\n{wrong}\n")
    ran = studio()
    assert (ran.code, "config.toml:2: " in ran.err) == (78, True), ran.err


@pytest.mark.parametrize(
    "address",
    ["http://example.org", "https://user:canary@example.org", "ftp://127.0.0.1", "http://127.0.0.1.evil.org", "x"],
)
def test_keys_are_sent_to_https_or_this_machine_only(studio: Studio, address: str) -> None:
    studio.cli.patch.setenv("TOKENCTL_GEMINI_BASE_URL", address)
    ran = studio()
    assert (ran.code, "TOKENCTL_GEMINI_BASE_URL" in ran.err, "canary" in ran.err) == (78, True, False)
    studio.nothing_happened()


def test_without_a_key_of_gemini_nothing_is_held(studio: Studio) -> None:
    studio.cli.patch.delenv("GEMINI_API_KEY")
    assert [studio(*more).code for more in ((), ("-n",))] == [78, 78]
    assert studio.holds() == []
    studio.cli.patch.setenv("GEMINI_API_KEY", "abc")
    assert studio("-n").code == 78


def test_nobody_to_ask_and_no_yes_is_refused(studio: Studio) -> None:
    ran = studio.cli(*[word for word in studio.words() if word != "--yes"])
    assert (ran.code, "--yes" in ran.err) == (2, True)


def test_a_prompt_comes_from_a_file_too(studio: Studio) -> None:
    file = studio.home / "prompt.txt"
    file.write_text(f"{PROMPT}\n")
    studio.server.script.append(fake.image(png(1024, 1024)))
    words = studio.words("--prompt-file", str(file))
    at = words.index("--prompt")
    assert studio.cli(*words[:at], *words[at + 2 :]).code == 0
    assert studio.server.asked[0].body["contents"][0]["parts"][-1] == {"text": PROMPT}
    assert studio("--json").json["meta"]["replayed"]  # the same text is the same request
    assert studio.cli(*words).code == 2  # both


def test_a_reader_may_not_generate(studio: Studio) -> None:
    studio.cli.login("reader1")
    ran = studio()
    assert ran.code == 77, ran.err
    studio.nothing_happened()


def test_a_folder_that_cannot_be_written_is_told_first(studio: Studio) -> None:
    (studio.home / "file").write_text("")
    ran = studio.cli(*studio.words("--out", str(studio.home / "file" / "x")))
    assert ran.code == 2  # given twice
    for name in ("file", "file/x", "file/x/y"):
        studio.out = studio.home / name
        for more in ((), ("-n",)):
            ran = studio(*more)
            assert (ran.code, f"{studio.out}: images cannot be put there: " in ran.err) == (73, True)
    assert studio.holds() == []


def test_a_look_makes_no_folder(studio: Studio) -> None:
    before = sorted(studio.home.iterdir())
    studio.out = studio.home / "a" / "b"
    assert studio("-n").code == 0
    assert sorted(path for path in studio.home.iterdir() if path in before or path.name == "a") == before


def test_how_often_it_may_be_run_is_limited(studio: Studio) -> None:
    configure(studio.home, PRICES + "[rate_limits.generate]\nlimit = 1\nwindow_s = 60\n")
    studio.server.script.append(fake.image(png(1024, 1024)))
    assert [studio().code, studio(key="k2").code] == [0, 75]
    assert studio.charges() == [40]
