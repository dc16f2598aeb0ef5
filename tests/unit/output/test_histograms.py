"""Distributions as people see them."""

from __future__ import annotations

import pytest

from tokenctl.output import Bars
from tokenctl.output.histograms import draw

DURATIONS = Bars(
    "db_query_duration_seconds balance",
    ["1,204 in all", "mean 4.62 ms", "p50 3.8 ms", "p95 14.9 ms", "p99 23.4 ms"],
    [("up to 1 ms", 30), ("up to 2.5 ms", 0), ("up to 5 ms", 1200), ("over 10 s", 1)],
)


def test_the_picture() -> None:
    assert draw([DURATIONS], width=60, color=False, encoding="utf-8") == (
        "\n"
        " db_query_duration_seconds balance\n"
        " 1,204 in all, mean 4.62 ms, p50 3.8 ms, p95 14.9 ms,\n"
        " p99 23.4 ms\n"
        "   up to 1 ms       30  ▉\n"
        "   up to 2.5 ms      0\n"
        "   up to 5 ms    1,200  ████████████████████████████████████\n"
        "   over 10 s         1  ▏\n"
    )


def test_an_ascii_terminal_gets_ascii() -> None:
    drawn = draw([DURATIONS], width=60, color=False, encoding="ascii")
    assert drawn.isascii()
    assert "1,200  " + "#" * 36 + "\n" in drawn
    assert "    1  #\n" in drawn


@pytest.mark.parametrize("width", [40, 60, 100, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = draw([DURATIONS], width=width, color=False, encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= width
    assert max(line.count("█") for line in lines) <= 50


def test_a_terminal_that_is_far_too_narrow_still_shows_every_number() -> None:
    drawn = draw([DURATIONS], width=1, color=False, encoding="utf-8")
    assert all(f"{count:,}" in drawn for _, count in DURATIONS.rows)


def test_the_title_is_bold_where_there_are_colours() -> None:
    assert "\x1b[1mdb_query_duration_seconds balance\x1b[0m\n" in draw(
        [DURATIONS], width=60, color=True, encoding="utf-8"
    )


def test_text_cannot_steer_the_terminal() -> None:
    hostile = Bars("\x1b]52;c;eA==\a", ["\x1b[2J"], [("up to 1", 1)])
    assert "\x1b" not in draw([hostile], width=60, color=False, encoding="utf-8")
