"""What people may type, in the same form as the ledger's own constraints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl.cli import forms

GOOD: dict[Callable[[str], object], list[str]] = {
    forms.user_id: ["u", "u_42", "a@b.c", ":", ".", "A" * 128, "1-2", "@-"],
    forms.reason: ["a", "goodwill", "a-b_c9", "a" * 32],
    forms.key: ["k", "bonus:x/y", "-", "k" * 128],
    forms.campaign: ["spring", "spring/2026", "c" * 122],
    forms.ticket: ["T-1", "48121", "a/b#3", "t" * 64],
    forms.note: ["x", "söz: 3 hours", "[/] :x:", "n" * 500, "-h"],
    forms.batch: ["0123456789ab"],
    forms.transaction: ["u:1", "a:b:17", "::1", "u-1:999999999999999"],
}
BAD: dict[Callable[[str], object], list[str]] = {
    forms.user_id: ["", "-u", "a b", "ä", "a/b", "A" * 129, "u\n", " u", "u\x00", "\udcff"],
    forms.reason: ["", "A", "1a", "_a", "a b", "a" * 33, "ä", "a\n"],
    forms.key: ["", "a b", "k" * 129, "#", "k\n"],
    forms.campaign: ["", "a b", "c" * 123, "#"],
    forms.ticket: ["", "a b", "t" * 65, "t\n"],
    forms.note: ["", " ", " x", "x ", "a\nb", "a\tb", "\x1b", "\u202e", "\u2028", "\ufeff", "n" * 501],
    forms.batch: ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789a\n"],
    forms.transaction: ["", "u", "u:", ":1", "u:0", "u:01", "u:+1", "u:1\n", "-u:1", "u:1.0", "u:" + "1" * 16],
}


@pytest.mark.parametrize(("judge", "text"), [(judge, text) for judge, texts in GOOD.items() for text in texts])
def test_good_texts_come_back_unchanged(judge: Callable[[str], object], text: str) -> None:
    assert judge(text) == text


@pytest.mark.parametrize(("judge", "text"), [(judge, text) for judge, texts in BAD.items() for text in texts])
def test_bad_texts_are_refused_with_a_sentence(judge: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        judge(text)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 250


@given(st.integers(1, 10**15 - 1))
def test_an_amount_is_what_its_digits_say(number: int) -> None:
    assert forms.amount(str(number)) == number


@given(st.text())
def test_every_other_amount_is_refused(text: str) -> None:
    good = text.isascii() and text.isdigit() and not text.startswith("0") and len(text) <= 15
    if good:
        assert forms.amount(text) == int(text)
    else:
        with pytest.raises(ValueError, match=r"\w"):
            forms.amount(text)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1.0), ("0.5", 0.5), ("0.001", 0.001), ("999999", 999999.0)])
def test_seconds(text: str, seconds: float) -> None:
    assert forms.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "-1", "+1", "1e3", "inf", "nan", ".5", "1.", "1.0001", "1000000", "1 s"]
)
def test_no_seconds(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a number of seconds from 0\.001 to 999999\.999"):
        forms.seconds(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("7", 7), ("9" * 18, 10**18 - 1)])
def test_counts(text: str, number: int) -> None:
    assert forms.count(text) == number


@pytest.mark.parametrize("text", ["", "-1", "01", "1.0", "1_000", "1" * 19, "٣"])
def test_no_counts(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number of 18 digits at most"):
        forms.count(text)


@given(st.from_regex(r"[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,20}", fullmatch=True), st.integers(1, 10**15 - 1))
def test_a_transaction_s_name_splits_back(user: str, seq: int) -> None:
    assert forms.split_transaction(forms.transaction(f"{user}:{seq}")) == (user, seq)
