"""Every file of the corpus is refused for the reason it was made for, and no good row is lost or invented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.grantfile.corpus import Case
from tests.unit.grantfile.corpus_rows import CORPUS
from tests.unit.grantfile.opened import messages_of, opened
from tokenctl.errors import TokenctlError
from tokenctl.grantfile.check import CheckOptions, check

RAISING = [case for case in CORPUS if case.error is not None]
WITH_BAD_ROWS = [case for case in CORPUS if case.error is None]


def _name(case: Case) -> str:
    return case.name


def test_corpus_is_large_and_its_names_are_distinct() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 75


@pytest.mark.parametrize("case", RAISING, ids=_name)
def test_file_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(TokenctlError) as caught:
        _check(case, tmp_path)
    assert type(caught.value) is case.error
    assert re.search(case.message, caught.value.detail), caught.value.detail
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("case", WITH_BAD_ROWS, ids=_name)
def test_row_is_refused(case: Case, tmp_path: Path) -> None:
    messages = _check(case, tmp_path)
    name = "-" if case.stdin else str(tmp_path / case.file_name)
    assert re.search(case.message, "\n".join(messages)), messages
    for message in messages:
        assert re.match(re.escape(name) + r":[0-9]+: [a-z_]+: \S", message)
        assert message.isprintable()
        assert len(message) < len(name) + 250


def _check(case: Case, folder: Path) -> list[str]:
    options = CheckOptions(**case.options)
    with opened(case.path(folder), spool=folder, stdin=case.content) as source:
        return messages_of(list(check(source, options)), source.name)
