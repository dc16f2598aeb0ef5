"""Whatever is said on standard error is cleaned there, whoever says it and whatever it repeats."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tokenctl.errors import BadData
from tokenctl.output import Output

HOSTILE = "a\x1b]52;c;eA==\x07b\x9b31m\u202ec"
CLEAN = r"a\x1b]52;c;eA==\x07b\x9b31m\u202ec"

WAYS: dict[str, Callable[[Output], None]] = {
    "say": lambda output: output.say(HOSTILE),
    "warn": lambda output: output.warn(HOSTILE),
    "error": lambda output: output.error(BadData(HOSTILE, hint=HOSTILE)),
}


@pytest.mark.parametrize("way", WAYS)
def test_talk_steers_nothing(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    WAYS[way](Output())
    said = capsys.readouterr().err
    assert CLEAN in said
    assert all(character.isprintable() for line in said.splitlines() for character in line)


def test_an_error_for_programs_is_ascii_and_comes_back_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output(form="json").error(BadData(HOSTILE))
    said = capsys.readouterr().err
    assert said.isascii()
    assert json.loads(said)["detail"] == HOSTILE
