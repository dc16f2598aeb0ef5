"""kill -9 before and after every input and output of a command, then the same command again.

A point is a step of the driver (a connection, a statement, a piece of COPY; before and after
it) or of the file system (a file opened for writing, renamed, linked, removed, made). The
command runs in a forked process that kills itself at the n-th point, and at another one when
it is run again; the last run is left alone. The end must be that of a run without an accident.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.running import Cli
from tests.pg import post
from tests.processes import exit_code, fork, forked
from tests.scale import SCALE, chosen_seed, scaled
from tokenctl.__main__ import main

#: What the interpreter reports of files that change something.
_FILE_EVENTS = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.link", "os.chmod", "os.truncate", "sqlite3.connect"}
)
_NEVER = 10**9

_cases = itertools.count()


@dataclass
class Points:
    """Counts the points of this process, and kills it at one of them."""

    fatal: int
    reached: Any
    passed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self) -> None:
        with self.lock:
            self.passed += 1
            self.reached.value = self.passed
            if self.passed == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Have every step of the driver and of the file system counted from now on."""
        for name in ("wait", "wait_conn"):
            setattr(psycopg.waiting, name, self._around(getattr(psycopg.waiting, name)))
        sys.addaudithook(self._audit)

    def _around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self.reach()
            result = step(*args, **more)
            self.reach()
            return result

        return counted

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _FILE_EVENTS or (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            self.reach()


def run(argv: list[str], fatal: int = _NEVER) -> tuple[int | None, int]:
    """Run a command line in a process of its own; its end, and how many points it passed."""
    reached = fork.Value("i", 0)

    def work() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        Points(fatal, reached).watch()
        os._exit(main(argv))

    end = exit_code(forked(work))
    return end, reached.value


class Stage:
    """A ledger on which one command after the other is killed, each with users of its own."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        cli.patch.setattr("tokenctl.storage.imports.SLICE_ROWS", 1)
        cli.login("batch1")
        # All these runs are within a minute, and of one person.
        limits = "".join(f"[rate_limits.{name}]\nlimit = 0\n" for name in ("grant-bonus", "reverse", "batch-import"))
        Path("config.toml").write_text(limits)
        cli.patch.setenv("TOKENCTL_CONFIG", str(Path("config.toml").resolve()))

    def users(self, case: str) -> list[tuple[Any, ...]]:
        """All that stands of a case's users, but for names, times and who asked."""
        accounts = self.cli.db.rows(
            "SELECT substr(user_id, length(%s) + 1), balance, last_seq FROM tokenctl.token_accounts"
            " WHERE starts_with(user_id, %s) ORDER BY 1",
            case, case,
        )  # fmt: skip
        entries = self.cli.db.rows(
            "SELECT substr(user_id, length(%s) + 1), seq, amount, balance_after, reverses_seq, kind, reason,"
            " idempotency_key, batch_id IS NULL FROM tokenctl.token_transactions"
            " WHERE starts_with(user_id, %s) ORDER BY 1, 2",
            case, case,
        )  # fmt: skip
        return accounts + entries

    def batches(self, name: str) -> list[tuple[Any, ...]]:
        return self.cli.db.rows(
            "SELECT kind, state, rows_read, rejected, duplicate, applied, applied_tokens, replayed, conflicting,"
            " refused FROM tokenctl.import_batches WHERE file_name = %s OR reverses_batch ="
            " (SELECT batch_id FROM tokenctl.import_batches WHERE file_name = %s) ORDER BY 1",
            name,
            name,
        )


@dataclass
class Command:
    """A command on users of one case: how it is prepared, and what there is to see afterwards.

    At the usual scale every `step`-th of its points is tried.
    """

    prepare: Callable[[Stage, str], list[str]]
    see: Callable[[Stage, str], object]
    step: int


def _file(case: str) -> str:
    """Rows of four users: good ones, one that stands twice, one that is wrong."""
    rows = [f"{case}{n % 4},{n + 1},promo,k{n}" for n in range(6)]
    rows += [rows[0], f"{case}1,none,promo,k9"]
    Path(f"{case}.csv").write_text("user_id,amount,reason,idempotency_key\n" + "\n".join(rows) + "\n")
    return f"{case}.csv"


def _opened(stage: Stage, case: str) -> None:
    """A user with 100 tokens."""
    with psycopg.connect(stage.cli.db.conninfo("support1"), autocommit=True) as connection:
        post(connection, f"{case}u", 100, key="opening")


def _grant(stage: Stage, case: str) -> list[str]:
    _opened(stage, case)
    return ["grant-bonus", f"{case}u", "--amount", "5", "--reason", "goodwill", "--idempotency-key", "k", "--yes"]


def _reverse(stage: Stage, case: str) -> list[str]:
    _opened(stage, case)
    return ["reverse", f"{case}u:1", "--reason", "mistake", "--idempotency-key", "undo", "--yes"]


def _import(_stage: Stage, case: str) -> list[str]:
    return ["batch-import", _file(case), "--partial", "--reject-file", f"{case}.rejected", "--yes"]


def _reverse_batch(stage: Stage, case: str) -> list[str]:
    assert run(_import(stage, case))[0] == 65
    (name,) = stage.cli.db.rows("SELECT batch_id FROM tokenctl.import_batches WHERE file_name = %s", f"{case}.csv")[0]
    return ["reverse", "--batch", str(name), "--reason", "mistake", "--yes"]


def _posted(stage: Stage, case: str) -> object:
    return stage.users(case)


def _imported(stage: Stage, case: str) -> object:
    rejected = Path(f"{case}.rejected").read_text().replace(case, "")
    return stage.users(case), stage.batches(f"{case}.csv"), rejected


COMMANDS = {
    "grant-bonus": Command(_grant, _posted, 1),
    "reverse": Command(_reverse, _posted, 1),
    "batch-import": Command(_import, _imported, 5),
    "reverse --batch": Command(_reverse_batch, _imported, 10),
}


@dataclass
class Trial:
    """One command on a stage, killed here and there."""

    stage: Stage
    command: Command
    end: int | None = None
    expected: object = None
    points: int = 0
    cases: int = 0

    def uninterrupted(self) -> None:
        # Once in this process, so that the forked ones need not load all of it again.
        self.stage.cli(*self.command.prepare(self.stage, self._name()))
        case = self._name()
        self.end, self.points = run(self.command.prepare(self.stage, case))
        self.expected = self._see(case)

    def killed_at(self, *points: int) -> bool:
        """Kill it at each of these points in turn, then let it finish; whether it lived to the first of them."""
        case = self._name()
        argv = self.command.prepare(self.stage, case)
        ends = [run(argv, point)[0] for point in points]
        last, _ = run(argv)
        about = f"killed at {points} of {self.points}: {ends}, then {last}"
        # A grant that was posted is a replay; a reversal of a batch that is done has nothing left to do.
        assert last in {self.end, 0} | ({1} if argv[:2] == ["reverse", "--batch"] else set()), about
        assert self._see(case) == self.expected, about
        self.cases += 1
        return ends[0] == -signal.SIGKILL

    def _name(self) -> str:
        return f"c{next(_cases)}."

    def _see(self, case: str) -> object:
        return self.command.see(self.stage, case)


@pytest.fixture(params=COMMANDS)
def trial(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Trial]:
    made = Trial(Stage(cli), COMMANDS[request.param])
    made.uninterrupted()
    assert made.points > 10
    yield made
    request.node.add_report_section("call", "killed", f"{made.cases} cases, {made.points} points")
    cli.db.check()


def test_killed_at_each_point(trial: Trial) -> None:
    """Of the commands with many points every so many-th, from another one in each run."""
    step = max(1, int(trial.command.step / SCALE))
    first = 1 + random.Random(chosen_seed()).randrange(step)  # noqa: S311
    for point in range(first, _NEVER, step):
        if not trial.killed_at(point):
            break
    assert trial.cases > trial.points // (2 * step)


def test_killed_at_two_points(trial: Trial) -> None:
    rng = random.Random(chosen_seed())  # noqa: S311
    for _ in range(scaled(3)):
        trial.killed_at(rng.randint(1, trial.points), rng.randint(1, trial.points))
