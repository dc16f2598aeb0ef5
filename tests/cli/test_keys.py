"""`tokenctl keys`, end to end, with Gemini on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import gemini_server as fake
from tests.cli.running import CommandLine, Ran, on_terminal
from tests.gemini_server import GeminiServer, serving

MAIN = "AIzaSy-canary-of-main-k0a1"
SPARE = "AIzaSy-canary-of-spare-k0a2"
KEYS = f"""
[[key]]
id = "main"
project = "images-eu"
secret = "{MAIN}"

[[key]]
id = "spare"
project = "images-us"
secret = "{SPARE}"
"""


@pytest.fixture
def server(home: Path, offline: CommandLine) -> Iterator[GeminiServer]:
    """Gemini, which the configuration names; with two keys."""
    file = home / "keys.toml"
    file.write_text(KEYS)
    file.chmod(0o600)
    offline.patch.delenv("GEMINI_API_KEYS_FILE", raising=False)
    offline.patch.delenv("GEMINI_API_KEY", raising=False)
    with serving() as running:
        config = home / "config" / "tokenctl" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'[gemini]\nkeys_file = "{file}"\nbase_url = "{running.url}"\n[generate]\nmodel = "gemini-test"\n'
        )
        yield running


def states(ran: Ran) -> dict[str, str]:
    assert ran.code == 0, ran.err
    assert ran.json["schema"] == "tokenctl.keys.v1"
    return {one["id"]: one["state"] for one in ran.json["data"]}


def test_the_list_shows_ends_and_no_secret(server: GeminiServer, offline: CommandLine) -> None:
    ran = offline("keys", "list")
    assert ran.lines == [
        ["main", "images-eu", "k0a1", "ready", "", ""],
        ["spare", "images-us", "k0a2", "ready", "", ""],
    ]
    assert offline("keys", "list", "--json").json["data"][0] == {
        "id": "main", "project": "images-eu", "last4": "k0a1", "state": "ready", "why": None, "cooldown_s": None,
    }  # fmt: skip
    assert offline("keys", "list", "--format", "value").text == "main\nspare\n"
    assert server.asked == []


def test_a_test_asks_with_each_key_what_the_model_is(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {MAIN: fake.model(), SPARE: fake.model()}
    ran = offline("keys", "test", "--request-id", "req-7")
    assert (ran.code, ran.lines[0]) == (0, ["main", "images-eu", "k0a1", "accepted", ""])
    assert [(one.path, one.key, one.headers["x-request-id"]) for one in server.asked] == [
        ("/v1beta/models/gemini-test", [MAIN], ["req-7"]),
        ("/v1beta/models/gemini-test", [SPARE], ["req-7"]),
    ]


def test_a_rejected_key_ends_with_1_and_stays_out(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {MAIN: fake.rejected(), SPARE: fake.model()}
    ran = offline("keys", "test", "--json")
    assert ran.code == 1
    first, second = (ran.json["data"]) if ran.out else ({}, {})
    assert (first["accepted"], first["outcome"], first["said"]) == (False, "key_rejected", "400 API_KEY_INVALID")
    assert (second["accepted"], second["outcome"], second["said"]) == (True, "success", None)
    assert "not accepted: main" in ran.err
    assert states(offline("keys", "list", "--json")) == {"main": "rejected", "spare": "ready"}
    assert states(offline("keys", "enable", "main", "--json")) == {"main": "ready", "spare": "ready"}


def test_a_server_that_does_not_answer_ends_with_69(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {MAIN: fake.closed(), SPARE: fake.error(503, "UNAVAILABLE")}
    ran = offline("keys", "test")
    assert ran.code == 69
    assert [line[3:] for line in ran.lines] == [
        ["no answer", "no whole answer in time"],
        ["no answer", "503 UNAVAILABLE"],
    ]
    assert "no answer for 2 of 2 keys" in ran.err


def test_only_the_named_keys_are_tested(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {SPARE: fake.model()}
    assert [line[0] for line in offline("keys", "test", "spare", "spare").lines] == ["spare"]
    assert server.keys == [SPARE]
    ran = offline("keys", "test", "other")
    assert (ran.code, ran.out) == (2, b"")
    assert "known keys: main, spare" in ran.err
    assert server.keys == [SPARE]


def test_a_disabled_key_stays_so_until_it_is_enabled(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {MAIN: fake.model(), SPARE: fake.model()}
    assert states(offline("keys", "disable", "main", "--json")) == {"main": "disabled", "spare": "ready"}
    assert offline("keys", "test").code == 0
    assert states(offline("keys", "list", "--json")) == {"main": "disabled", "spare": "ready"}
    assert states(offline("keys", "enable", "main", "--json")) == {"main": "ready", "spare": "ready"}
    assert offline("keys", "disable", "nobody").code == 2


def test_the_time_limit_holds_for_all_keys_together(server: GeminiServer, offline: CommandLine) -> None:
    server.by_key = {MAIN: fake.silent(), SPARE: fake.silent()}
    ran = offline("keys", "test", "--timeout", "0.3")
    assert ran.code == 75
    assert "no time was left to test every key" in ran.err


def test_the_environment_may_name_another_file_or_a_key(server: GeminiServer, offline: CommandLine, home: Path) -> None:
    other = home / "other.toml"
    other.write_text(KEYS.replace("main", "first"))
    other.chmod(0o600)
    offline.patch.setenv("GEMINI_API_KEY", "the-single-key-of-the-environment")
    offline.patch.setenv("GEMINI_API_KEYS_FILE", str(other))
    assert [line[0] for line in offline("keys", "list").lines] == ["first", "spare"]
    offline.patch.delenv("GEMINI_API_KEYS_FILE")
    (home / "config" / "tokenctl" / "config.toml").write_text(f'[gemini]\nbase_url = "{server.url}"\n')
    assert offline("keys", "list").lines == [["env", "env", "ment", "ready", "", ""]]


def test_a_file_for_everybody_is_78_and_so_is_a_test_of_no_key(
    server: GeminiServer, offline: CommandLine, home: Path
) -> None:
    (home / "keys.toml").chmod(0o644)
    ran = offline("keys", "list")
    assert (ran.code, ran.out) == (78, b"")
    assert f"chmod 600 {home / 'keys.toml'}" in ran.err
    (home / "config" / "tokenctl" / "config.toml").unlink()
    ran = offline("keys", "list")
    assert (ran.code, ran.out) == (0, b"")  # an empty list is no failure
    assert "no key is configured" in ran.err
    assert offline("keys", "list", "--json").json["data"] == []
    ran = offline("keys", "test")
    assert (ran.code, "no Gemini key is configured" in ran.err) == (78, True)
    assert server.asked == []


@pytest.mark.parametrize("act", [("list",), ("test",), ("disable", "main"), ("enable", "main")])
def test_nothing_that_is_printed_logged_or_kept_holds_a_secret(
    server: GeminiServer, offline: CommandLine, home: Path, act: tuple[str, ...]
) -> None:
    offline.patch.setenv("TOKENCTL_LOG_FILE", str(home / "log.jsonl"))
    offline.patch.setenv("TOKENCTL_DEBUG", "1")
    server.script.extend([fake.error(403, f"NO {MAIN}", f"the key {MAIN} is not allowed")] * 2)
    ran = offline("keys", *act, "-v")
    kept = [file for file in home.rglob("*") if file.is_file() and file.name != "keys.toml"]
    for content in (ran.out, ran.err.encode(), *(file.read_bytes() for file in kept)):
        assert b"canary" not in content


def test_a_terminal_sees_a_table(server: GeminiServer) -> None:
    shown = on_terminal("keys", "list").text
    assert "ENDS IN" in shown
    assert "k0a2" in shown
    assert server.asked == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('base_url = "http://gemini.example"', "is not an https address"),
        ('base_url = "https://user:password@gemini.example"', "is not an https address"),
        ('base_url = "https://gemini.example?key=1"', "is not an https address"),
        ('base_url = "http://localhost.example"', "is not an https address"),
        ('base_url = "http://127.0.0.1@gemini.example"', "is not an https address"),
        ('api_version = "../v1"', "is not a version"),
        ("keys_file = 1", "is not a text"),
    ],
)
def test_an_address_that_could_leak_a_key_is_refused(offline: CommandLine, home: Path, line: str, why: str) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[gemini]\n{line}\n")
    ran = offline("keys", "list")
    assert ran.code == 78
    assert f"{config}:2:" in ran.err
    assert why in ran.err


def test_a_models_name_is_no_path(offline: CommandLine, home: Path) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[generate]\nmodel = "../models/x?key=1"\n')
    assert "is not a model's name" in offline("keys", "list").err
