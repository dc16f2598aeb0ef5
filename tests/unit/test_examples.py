"""The example and benchmark files are what their generators make, and their totals are as stated."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import make_grants
from examples import make_examples

EXAMPLES = Path(make_examples.__file__).parent


def test_committed_examples_are_generated(tmp_path: Path) -> None:
    make_examples.write(tmp_path)
    make_examples.write_photos(tmp_path)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (EXAMPLES / made.name).read_bytes(), f"{made.name}: run make_examples.py"


def test_november_is_worth_importing(tmp_path: Path) -> None:
    grants = make_examples.write(tmp_path)["november-bonuses.csv"]
    assert len({(grant.user_id, grant.idempotency_key) for grant in grants}) == len(grants)
    assert len({grant.user_id for grant in grants}) < len(grants)
    assert any(not grant.note.isascii() for grant in grants)


@pytest.mark.parametrize("text", ["demo.sh", "README.md"])
def test_stated_totals_are_true(text: str) -> None:
    words = (EXAMPLES / text).read_text(encoding="utf-8").split()
    grants = make_examples.november()
    assert {str(len(grants)), str(sum(grant.amount for grant in grants))} <= set(words)


def test_benchmark_files_differ_by_seed_only() -> None:
    def make(seed: int) -> tuple[str, int]:
        pieces = list(make_grants.grants(make_grants.CHUNK + 10, 50, seed))
        return "".join(text for text, _ in pieces), sum(tokens for _, tokens in pieces)

    text, total = make(1)
    rows = list(csv.reader(text.splitlines()))
    assert make(1) == (text, total)
    assert sum(int(amount) for _, amount, _, _ in rows) == total
    assert len({key for *_, key in rows}) == len(rows) == make_grants.CHUNK + 10
    assert not {key for *_, key in rows} & {line.rpartition(",")[2] for line in make(2)[0].splitlines()}
