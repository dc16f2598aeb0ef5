"""Where keys come from, and what is wrong with a file of them, without a word of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.clients.keyfile import Key, load
from tokenctl.errors import ConfigError
from tokenctl.telemetry import logs, redaction

SECRET = "AIzaSy-canary-of-tests"  # noqa: S105 — it opens nothing
GOOD = f"""
[[key]]
id = "main"
project = "images-eu"
secret = "{SECRET}-1"

[[key]]
id = "spare"
secret = "{SECRET}-2"
"""


@pytest.fixture(autouse=True)
def _forgetting() -> Iterator[None]:
    yield
    logs.close()


def written(folder: Path, content: str | bytes, *, mode: int = 0o600) -> Path:
    path = folder / "keys.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, "the-single-key-of-sixteen")
    told = f"{caught.value} {caught.value.hint} {caught.value.__cause__} {caught.value.__context__}"
    assert "canary" not in told
    return caught.value.detail


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_keys_are_read_in_the_order_of_the_file(tmp_path: Path, mode: int) -> None:
    keys = load(written(tmp_path, GOOD, mode=mode), "the-single-key-of-sixteen")
    assert keys == (Key("main", "images-eu", f"{SECRET}-1"), Key("spare", "spare", f"{SECRET}-2"))


def test_a_key_shows_its_last_four_characters_and_no_more(tmp_path: Path) -> None:
    key, _ = load(written(tmp_path, GOOD), None)
    assert key.last4 == "ts-1"
    assert "canary" not in repr(key)
    assert (len(key.fingerprint), key.fingerprint in key.secret) == (12, False)


def test_no_log_line_holds_a_secret_from_then_on(tmp_path: Path) -> None:
    load(written(tmp_path, GOOD), None)
    assert redaction.filtered(f"with {SECRET}-2!") == "with [hidden]!"


def test_without_a_file_there_is_the_key_of_the_environment() -> None:
    assert load(None, "the-single-key-of-sixteen") == (Key("env", "env", "the-single-key-of-sixteen"),)


def test_without_either_it_says_how_to_name_some() -> None:
    with pytest.raises(ConfigError, match="no Gemini key is configured") as caught:
        load(None, None)
    assert "GEMINI_API_KEYS_FILE" in caught.value.hint


@pytest.mark.parametrize("single", ["too-short", "two words of a canary", "canary-canary-\x7f", "x" * 513])
def test_a_text_that_is_no_key_is_refused_and_not_repeated(single: str) -> None:
    with pytest.raises(ConfigError, match="GEMINI_API_KEY is no key") as caught:
        load(None, single)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    assert f"is open to other users (mode {mode:04o})" in refused(written(tmp_path, GOOD, mode=mode))


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GOOD)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "belongs to another user" in refused(path)


def test_what_a_link_leads_to_is_what_counts(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path, GOOD))
    assert len(load(link, None)) == 2
    written(tmp_path, GOOD, mode=0o644)
    assert "is open to other users" in refused(link)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is no file of keys" in refused(tmp_path / "pipe")
    assert "is no file of keys" in refused(Path("/dev/zero"))
    assert "Is a directory" in refused(tmp_path) or "no file of keys" in refused(tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").endswith("none: No such file or directory")


def test_an_endless_file_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    os.truncate(path, 1_000_001)
    assert "is no file of keys" in refused(path)


ENTRY = '[[key]]\nid = "{0}"\nsecret = "AIzaSy-canary-of-{0}"\n'
WRONG: dict[str, tuple[str | bytes, str]] = {
    "no toml": ('[[key]\nsecret = "canary-canary-canary"', "is not TOML"),
    "a text that does not end": ('[[key]]\nid = "a"\nsecret = "canary-canary\n', "look at line 3"),
    "not utf-8": (b"\xff\xfe", "is not UTF-8"),
    "empty": ("", "there is no [[key]] table"),
    "one table": ('[key]\nid = "a"\nsecret = "canary-canary-canary"', "there is no [[key]] table"),
    "a text": ('key = "canary-canary-canary"', "there is no [[key]] table"),
    "a list of texts": ('key = ["canary-canary-canary"]', "key 1: is not a table"),
    "something beside": (f"canary = 1\n{ENTRY.format('a')}", "nothing beside the [[key]] tables"),
    "a name beside": (ENTRY.format("a") + "canary = 1", "key 1: it has a name beside id, project, secret"),
    "no id": ('[[key]]\nsecret = "canary-canary-canary"', "key 1: id is missing"),
    "no secret": ('[[key]]\nid = "a"', "key 1: secret is missing"),
    "an id of blanks": (ENTRY.format("a canary"), "key 1: id must be 1 to 64"),
    "a secret that is a number": ('[[key]]\nid = "a"\nsecret = 1234567890123456', "key 1: secret must be 16 to 512"),
    "a secret of two lines": (
        '[[key]]\nid = "a"\nsecret = "canary-canary\\r\\nx: canary"',
        "key 1: secret must be 16 to 512",
    ),
    "a short secret": ('[[key]]\nid = "a"\nsecret = "canary"', "key 1: secret must be 16 to 512"),
    "an empty project": (ENTRY.format("a") + 'project = ""', "key 1: project must be 1 to 64"),
    "an id twice": (ENTRY.format("a") + ENTRY.format("b").replace('"b"', '"a"'), "two keys have the same id"),
    "a secret twice": (ENTRY.format("a") + ENTRY.format("a").replace('"a"', '"b"'), "two keys have the same secret"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_without_a_word_of_the_file(tmp_path: Path, name: str) -> None:
    content, why = WRONG[name]
    assert why in refused(written(tmp_path, content))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    told = refused(written(tmp_path, '[[key]]\nid = ""\n[[key]]\nsecret = "short"\nother = 1\n'))
    assert [line.rpartition("keys.toml: ")[2].split(" must")[0] for line in told.splitlines()] == [
        "key 1: secret is missing",
        "key 1: id",
        "key 2: it has a name beside id, project, secret",
        "key 2: id is missing",
        "key 2: secret",
    ]


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f'[[key]]\nid = "a"\nsecret = {text}'.encode()))
def test_any_content_gives_keys_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), content)
    try:
        load(path, None)
    except ConfigError as error:
        assert str(path) in error.detail  # noqa: PT017 — either is right
