"""`tokenctl generate` dies at any step, alone and in pairs: charged exactly once if and only if the image exists.

All pairs are run with TOKENCTL_TEST_CRASH_PAIRS=all; some of them always.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from typer.main import get_command

from tests import gemini_server as fake
from tests.cli import crashing
from tests.cli.crashing import DIED, digests
from tests.cli.generating import KEY, TOKENS, Studio, prepared
from tests.cli.running import Cli
from tests.gemini_server import serving
from tests.pg import post
from tests.pictures import png
from tokenctl.cli.app import assemble
from tokenctl.settings import RATE_LIMITS, RateLimit

IMAGE = png(1024, 1024)
ALL_PAIRS = os.environ.get("TOKENCTL_TEST_CRASH_PAIRS") == "all"
_numbers = itertools.count(1)


@pytest.fixture
def studio(cli: Cli, home: Path) -> Iterator[Studio]:
    with serving() as server:
        made = prepared(cli, server, home)
        server.by_key = {KEY: fake.image(IMAGE)}
        # What every forked run would do again is done once.
        context = httpx2.create_ssl_context()
        cli.patch.setattr(httpx2, "create_ssl_context", lambda **_: context)
        built = get_command(assemble())
        cli.patch.setattr("tokenctl.cli.main.assemble", lambda _argv: built)
        cli.patch.setitem(RATE_LIMITS, "generate", RateLimit(0, 60.0))  # all pairs are more than that
        assert made().code == 0
        yield made


@dataclass
class Case:
    """One user, one key, one folder; what they are like after a run."""

    studio: Studio
    user: str
    folder: Path
    asked_before: int

    def run(self, at: int | None = None, *, everywhere: bool = False) -> tuple[int, list[str]]:
        words = self.studio.words("--json", key=self.user)
        words[1] = self.user
        words[words.index("--out") + 1] = str(self.folder / "out")
        return crashing.run(words, self.folder, at=at, below=None if everywhere else str(self.folder))

    def row(self) -> tuple[Any, ...]:
        """Charges, the digest that was paid, the hold's state, and what is available."""
        return self.studio.db.rows(
            "SELECT (SELECT count(*) FROM tokenctl.token_transactions t"
            " WHERE t.user_id = a.user_id AND kind = 'generation'), g.image_sha256, h.state,"
            " a.balance - tokenctl.held_tokens(a.user_id)"
            " FROM tokenctl.token_accounts a LEFT JOIN tokenctl.token_holds h USING (user_id)"
            " LEFT JOIN tokenctl.generations g USING (user_id) WHERE a.user_id = %s",
            self.user,
        )[0]

    def later(self, column: str) -> None:
        """The time of a lease or a deadline has passed."""
        table = "generations" if column == "lease_until" else "token_holds"
        condition = "lease_until IS NOT NULL" if column == "lease_until" else "state = 'open'"
        self.studio.db.rows(
            f"UPDATE tokenctl.{table} SET {column} = now() - interval '1 s' WHERE {condition} AND user_id = %s",  # noqa: S608
            self.user,
        )

    def violations(self, *, finished: bool) -> list[str]:
        """What may never be, after a crash or when the last run has finished it."""
        charges, paid, state, available = self.row()
        files = digests(self.folder / "out")
        named = {name for name in files if not name.startswith(".")}
        calls = len(self.studio.server.asked) - self.asked_before
        found = {
            "charged twice": charges > 1,
            "paid, and the image is lost": charges == 1 and paid not in files.values(),
            "an image that nobody paid": bool(named) and charges == 0,
            "charged without a captured hold": (charges == 1) != (state == "captured"),
            "more than three calls": calls > 3,
        }
        if finished:
            found |= {
                "not finished": charges != 1 or len(named) != 1 or available != TOKENS - 40,
                "something is left over": set(files) != named
                or {path.name.rpartition(".")[2] for path in (self.folder / "out").glob("*")} != {"png", "json"},
            }
        return [what for what, is_so in found.items() if is_so]

    def released_by_time(self) -> list[str]:
        """With nobody coming back the deadline alone gives the tokens back."""
        charges, *_ = self.row()
        self.later("lease_until")  # which a deadline always outlives
        self.later("expires_at")
        available = self.row()[3]
        return [] if available == TOKENS - 40 * charges else ["held after its deadline"]


def case(studio: Studio, tmp_path: Path) -> Case:
    user = f"c{next(_numbers)}"
    folder = tmp_path / user
    folder.mkdir()
    with psycopg.connect(studio.db.conninfo("support1"), autocommit=True) as connection:
        post(connection, user, TOKENS, key="opening")
    return Case(studio, user, folder, len(studio.server.asked))


def crashed(made: Case, *points: int, everywhere: bool = False) -> list[str]:
    """Die at each of these points in turn, then finish; what went wrong."""
    wrong: list[str] = []
    for at in points:
        code, steps = made.run(at, everywhere=everywhere)
        if code != DIED:  # an earlier run had come so far that there are fewer steps
            wrong += [f"ended with {code} instead"] if code else []
        wrong += made.violations(finished=code != DIED)
        wrong += [] if len(steps) < at else ["went on"]
        made.later("lease_until")
    code, _ = made.run()
    wrong += made.violations(finished=True) + ([f"the last run ended with {code}"] if code else [])
    return [f"{points}: {what}" for what in wrong]


def test_a_crash_before_every_step_is_finished_by_the_same_key(studio: Studio, tmp_path: Path) -> None:
    code, steps = case(studio, tmp_path).run(everywhere=True)
    assert code == 0
    assert {step.split()[0] for step in steps} >= {
        "open",
        "unlink",
        "fsync",
        "link",
        "replace",
        "execute",
        "ask",
        "print",
    }
    cases = [crashed(case(studio, tmp_path), at, everywhere=True) for at in range(1, len(steps) + 1)]
    print(f"\n{len(cases)} single crashes, {sum(map(len, cases))} violations")  # noqa: T201
    assert [what for found in cases for what in found] == []
    studio.db.check()


def test_two_crashes_in_a_row_are_finished_too(studio: Studio, tmp_path: Path) -> None:
    code, steps = case(studio, tmp_path).run()
    assert code == 0
    points = range(1, len(steps) + 1)
    pairs = [(a, b) for a in points for b in points if ALL_PAIRS or (7 * a + b) % 13 == 0]
    cases = [crashed(case(studio, tmp_path), a, b) for a, b in pairs]
    print(f"\n{len(steps)} steps, {len(cases)} pairs of crashes, {sum(map(len, cases))} violations")  # noqa: T201
    assert [what for found in cases for what in found] == []
    studio.db.check()


def test_a_crash_that_nobody_comes_back_to_ends_by_its_deadline(studio: Studio, tmp_path: Path) -> None:
    _, steps = case(studio, tmp_path).run()
    wrong: list[str] = []
    for at in range(1, len(steps) + 1):
        made = case(studio, tmp_path)
        made.run(at)
        wrong += [f"{at} {steps[at - 1]}: {what}" for what in made.violations(finished=False) + made.released_by_time()]
    assert wrong == []
    done = studio.cli("holds", "reconcile")
    assert done.code == 0
    assert studio.db.rows("SELECT count(*) FROM tokenctl.token_holds WHERE state = 'open' AND user_id <> 'u1'") == [
        (0,)
    ]
    assert studio.cli("verify").code == 0


def test_a_key_whose_runs_die_has_three_calls_and_no_more(studio: Studio, tmp_path: Path) -> None:
    made = case(studio, tmp_path)
    _, steps = case(studio, tmp_path).run()
    made.asked_before = len(studio.server.asked)
    after_the_call = steps.index("ask") + 2
    for _ in range(3):
        assert made.run(after_the_call)[0] == DIED
        made.later("lease_until")
    assert [made.run()[0], made.run()[0]] == [1, 1]
    assert len(studio.server.asked) - made.asked_before == 3
    assert made.row() == (0, None, "released", TOKENS)
