"""Ranges as Monitoring Plugins write them: what they call normal, and that they are written as they were read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.cli import forms


@pytest.mark.parametrize(
    ("written", "normal", "alerting"),
    [  # the first five are the examples of the guidelines
        ("10", [0, 10], [-1, 11]),
        ("10:", [10, 10**18], [9.99]),
        ("~:10", [-(10**18), 10], [10.01]),
        ("10:20", [10, 20], [9.9, 20.1]),
        ("@10:20", [9.9, 20.1], [10, 20]),
        ("0", [0], [-0.1, 0.1]),
        (":5", [0, 5], [-1, 6]),
        ("0:", [0, 9], [-1]),
        ("-5:-1", [-5, -1], [0, -6]),
        ("@~:0", [0.1], [0, -5]),
        ("@10", [10.1, -0.1], [0, 10]),
        ("0.25", [0.25], [0.26]),
    ],
)
def test_what_a_range_calls_normal(written: str, normal: list[float], alerting: list[float]) -> None:
    name, read = forms.named_range(f"db_latency={written}")
    assert name == "db_latency"
    assert [value for value in normal if read.alerts(value)] == []
    assert [value for value in alerting if not read.alerts(value)] == []


NUMBERS = st.decimals(0, 10**9, places=3, allow_nan=False).map(lambda number: f"{number:f}")


@given(st.tuples(st.sampled_from(("", "@")), NUMBERS, NUMBERS), st.floats(-10, 2 * 10**9))
def test_a_range_is_written_as_it_was_read(parts: tuple[str, str, str], value: float) -> None:
    inside, *ends = parts
    start, end = sorted(ends, key=float)
    for written in (f"{inside}{start}:{end}", f"{inside}{end}", f"{inside}{start}:", f"{inside}~:{end}"):
        _, read = forms.named_range(f"n={written}")
        _, again = forms.named_range(f"n={read}")
        assert again == read
        assert again.alerts(value) == read.alerts(value)


@pytest.mark.parametrize(
    "text", ["", "10", "=10", "n=", "n=@", "n=x", "n=1e3", "n=10 s", "n=5:1", "n=1:2:3", "n=@@1", "n=inf", "n=٣", "n=~"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"NAME=RANGE|ends before"):
        forms.named_range(text)
