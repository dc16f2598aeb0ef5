"""tokenctl as the tests of the command line run it: in this process, as a process, and on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pg import LedgerDB
from tokenctl.__main__ import main

ROOT = Path(__file__).parents[2]
TOKENCTL = (sys.executable, "-m", "tokenctl")
#: A port on which nothing can listen for long: privileged, and assigned to nobody.
NOWHERE = "postgresql://u@127.0.0.1:1/x"
ENOUGH_S = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MANY = (
    "calls|cells|characters|checks|entries|files|findings|holds|images|keys|lines|more users|rows|seals|tokens|users"
)
_ONE_AS_MANY = re.compile(rf"(?<!seal )(?<![\w.,:/=+-])[+-]?1 ({_MANY})\b")


@dataclass(frozen=True)
class Ran:
    """How a run ended and what it printed."""

    code: int
    out: bytes
    err: str

    def __post_init__(self) -> None:
        """Whatever was run, a count of one is told as one."""
        told = self.out.decode("utf-8", "replace") + self.err
        assert (wrong := _ONE_AS_MANY.search(told)) is None, told[max(wrong.start() - 60, 0) : wrong.end()]

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[list[str]]:
        """Standard output as TSV."""
        return [line.split("\t") for line in self.text.splitlines()]

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.text)

    @property
    def problem(self) -> Any:
        """The one JSON document that ends standard error; standard output must be empty."""
        assert self.out == b""
        return json.loads(self.err.splitlines()[-1])


class CommandLine:
    """Runs command lines in this process, in the test's environment."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        self.patch = patch
        self._capture = capture

    def __call__(self, *argv: str, stdin: bytes = b"") -> Ran:
        self._capture.readouterr()
        with self.patch.context() as patch, signals_kept():
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            code = main(argv)
        captured = self._capture.readouterr()
        return Ran(code, captured.out, captured.err.decode())


class Cli(CommandLine):
    """The same on a ledger of the test's own."""

    def __init__(self, db: LedgerDB, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        super().__init__(patch, capture)
        self.db = db
        self.login("support1")

    def login(self, user: str) -> None:
        """Who the next commands are to the database."""
        self.patch.setenv("TOKENCTL_DATABASE_URL", self.db.conninfo(user))

    def grant(self, user: str = "u1", amount: int = 500, *more: str, reason: str = "goodwill") -> Ran:
        """Grant tokens to a user whom the ledger may not know."""
        options = ("--amount", str(amount), "--reason", reason, "--new-user", "--yes")
        return self("grant-bonus", user, *options, *more)

    def balance(self, user: str = "u1") -> int:
        """The balance as the table has it."""
        return int(self.db.rows("SELECT balance FROM tokenctl.token_accounts WHERE user_id = %s", user)[0][0])

    def written(self) -> tuple[int, int, int]:
        """How many accounts, transactions and audit rows there are."""
        tables = ("token_accounts", "token_transactions", "audit_log")
        counts = [int(self.db.rows(f"SELECT count(*) FROM tokenctl.{table}")[0][0]) for table in tables]  # noqa: S608
        return counts[0], counts[1], counts[2]


@contextmanager
def signals_kept() -> Iterator[None]:
    """Put back what `main` does to signals: pytest needs its own Ctrl-C."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(**more: str) -> dict[str, str]:
    """The test's environment for a process of its own, and `more`."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(ROOT), **more}


def run(*argv: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ran:
    """Run tokenctl as a process; a negative code is the signal that it died of."""
    done = subprocess.run(
        [*TOKENCTL, *argv],
        input=stdin,
        capture_output=True,
        env=environment() if env is None else dict(env),
        timeout=ENOUGH_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))


def shell(line: str, **more: str) -> Ran:
    """Run a line of sh in which `tokenctl` is this checkout's."""
    function = f'tokenctl() {{ "{sys.executable}" -m tokenctl "$@"; }}\n'
    done = subprocess.run(
        ["sh", "-c", function + line],
        capture_output=True,
        env=environment(**more),
        timeout=ENOUGH_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))


# The controlling terminal is what turns a typed Ctrl-C into a signal; opening one by
# name makes it so for the leader of a session.
_ON_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A program on a pseudo-terminal, tokenctl unless named; standard output may go elsewhere."""

    def __init__(
        self,
        *argv: str,
        columns: int,
        env: Mapping[str, str] | None,
        stdout: int | None,
        program: tuple[str, ...] = TOKENCTL,
    ) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *program, *argv],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env=environment(TERM="xterm") if env is None else dict(env),
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """Read until `text` was printed, `after` so many characters; answers all that was."""
        deadline = time.monotonic() + ENOUGH_S
        while self.seen.find(text, after) < 0:
            assert self._read(deadline), f"{text!r} never came: {self.seen!r}"
        return self.seen

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> Ran:
        """Wait for the end; what was typed comes back as an echo among the output."""
        deadline = time.monotonic() + ENOUGH_S
        while self._read(deadline):
            pass
        code = self.process.wait(ENOUGH_S)
        return Ran(code, self.seen.replace("\r\n", "\n").encode(), "")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"silent for too long after {self.seen!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode("utf-8", "backslashreplace")
        return bool(data)


@contextmanager
def terminal(
    *argv: str,
    columns: int = 100,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    program: tuple[str, ...] = TOKENCTL,
) -> Iterator[Terminal]:
    opened = Terminal(*argv, columns=columns, env=env, stdout=stdout, program=program)
    try:
        yield opened
    finally:
        opened.close()


def on_terminal(*argv: str, columns: int = 100, env: Mapping[str, str] | None = None) -> Ran:
    """Run to the end on a terminal, without typing."""
    with terminal(*argv, columns=columns, env=env) as opened:
        return opened.end()


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
