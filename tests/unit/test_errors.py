"""The table of errors: each class has a name, a code and a title of its own."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from tokenctl import errors
from tokenctl.errors import TokenctlError


def classes(root: type[TokenctlError] = TokenctlError) -> list[type[TokenctlError]]:
    """The class and all below it."""
    return [root, *(one for child in root.__subclasses__() for one in classes(child))]


OURS = [one for one in classes() if one.__module__ == errors.__name__]
#: The classes of the command line's table of exit codes, by their codes.
TABLE = {
    1: ["Refused", "NotFound", "NeedsAttention"],
    2: ["UsageError", "Unhealthy"],
    3: ["HealthUnknown"],
    os.EX_DATAERR: ["BadData"],
    os.EX_NOINPUT: ["NoInput"],
    os.EX_NOUSER: ["UserNotFound"],
    os.EX_UNAVAILABLE: ["Unavailable"],
    os.EX_SOFTWARE: ["Bug", "Corrupted"],
    os.EX_CANTCREAT: ["CannotCreate"],
    os.EX_IOERR: ["OutputFailed"],
    os.EX_TEMPFAIL: ["TryLater"],
    os.EX_NOPERM: ["NotAllowed"],
    os.EX_CONFIG: ["ConfigError"],
    141: ["PipeClosed"],
}


def test_the_table_is_whole() -> None:
    direct = Counter(name for names in TABLE.values() for name in names)
    assert direct == Counter(one.__name__ for one in TokenctlError.__subclasses__() if one in OURS)


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.__name__)
def test_a_class_says_what_programs_and_people_need(one: type[TokenctlError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.code)
    assert one().title == (one.__doc__ or "").splitlines()[0]
    assert one().title
    assert not one().title.endswith(".")
    assert one().detail == one().title
    family = set(TABLE.get(one.exit_code, []))
    assert one is TokenctlError or {base.__name__ for base in one.__mro__} & family


def test_codes_are_names_and_so_are_used_once() -> None:
    assert [code for code, times in Counter(one.code for one in OURS).items() if times > 1] == []


def test_only_what_time_heals_is_retryable() -> None:
    assert {one.exit_code for one in OURS if one.retryable} == {os.EX_UNAVAILABLE, os.EX_TEMPFAIL}
    assert all(one.retryable for one in OURS if one.exit_code in (os.EX_UNAVAILABLE, os.EX_TEMPFAIL))


def test_an_error_keeps_what_it_was_told() -> None:
    error = errors.KeyConflict("the key is taken", hint="take another", key="k")
    assert (str(error), error.detail, error.hint, error.context) == (
        "the key is taken",
        "the key is taken",
        "take another",
        {"key": "k"},
    )
