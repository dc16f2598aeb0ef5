"""Runs every command with a canary in place of the secrets, and searches all that comes out for it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from typer.main import get_command

from tests.cli.running import CommandLine, Ran
from tests.pictures import REAL
from tokenctl.cli.app import assemble
from tokenctl.errors import Bug, ConfigError

CANARY = "S3CRET-canary"
ENCODED = "".join(f"%{byte:02x}" for byte in CANARY.encode())
#: Either half of it, in any spelling of a URI: half a password is a leak too.
LEAK = re.compile(rb"3cret|canary|%33%43%52|%63%61%6e", re.IGNORECASE)
#: What a command must be given, by the name of its parameter; and what some want besides.
VALUES = {
    "user": "u1",
    "users": "u1",
    "amount": "5",
    "reason": "goodwill",
    "file": "grants.csv",
    "transaction": "u1:1",
    "batch": "0123456789ab",
    "key": "env",
    "hold_id": "0123456789ab",
    "month": "2026-11",
    "shell": "bash",
}
MORE = {
    "reverse": ["u1:1"],
    "breaker reset": ["--all"],
    "generate": ["--prompt", CANARY, *(["--image", "photo.png"] * 3), "--quality", "1K", "--dry-run"],
}
UNTOLD = "untold"
#: Usage errors by their nature: the database is not the embedded one.
EMBEDDED_ONLY = {"db start", "db stop"}


def commands(group: Any, *above: str) -> Iterator[tuple[str, list[str]]]:
    """Every command of the program: its name, and a command line for it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield " ".join([*above, name]), [*above, name, *_arguments(" ".join([*above, name]), command)]


def _arguments(name: str, command: Any) -> list[str]:
    line = list(MORE.get(name, []))
    for parameter in command.params:
        if parameter.required:
            option = [parameter.opts[0]] if parameter.param_type_name == "option" else []
            line += [*option, VALUES.get(parameter.name, UNTOLD)]
        if parameter.name == "yes":
            line.append("--yes")
    return line


BUILT = get_command(assemble())
LINES = dict(commands(BUILT))
del LINES["help"]  # it prints what stands in this program and asks nothing
#: Those that show an address, its profile or its breaker, or write something down about it; each twice, so that
#: one is for people and the next for programs.
SHOWING = [
    name
    for pair in ("balance", "grant-bonus", "batch-import", "health", "db url", "db status", "db psql", "breaker list")
    for name in (pair, pair)
] + ["metrics"]


def this_machine_only(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for getaddrinfo: no test asks the network, not even for a host's address."""

    def answer(host: object, *more: Any, **named: Any) -> Any:
        if host not in (None, "127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *more, **named)

    return answer


class Searched:
    """Runs commands and searches all that comes out."""

    def __init__(self, cli: CommandLine, home: Path, outside: Path) -> None:
        self.cli = cli
        self._home = home
        #: A folder that is not searched: what holds the secret on purpose.
        self.outside = outside
        self.log = home / "log"
        #: What was searched already, and how it was then.
        self._clean: dict[Path, tuple[int, ...]] = {}
        Path("photo.png").write_bytes(REAL["png"])
        Path("grants.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,goodwill,k1\n")
        for name, value in (("TOKENCTL_LOG_FILE", str(self.log)), ("TOKENCTL_DEBUG", "1")):
            cli.patch.setenv(name, value)
        for name in ("PGPASSWORD", "GEMINI_API_KEY"):
            cli.patch.setenv(name, f"{CANARY}-{name}")
        text = '[log]\nlevel = "debug"\n[prices]\nversion = "1"\n1K = 1\n'
        self._config(home / "config" / "tokenctl" / "config.toml", text)
        cli.patch.setattr("tokenctl.cli.main.assemble", lambda _argv: BUILT)  # once: it is half of a run's time
        cli.patch.setattr(os, "execve", self._execute)
        cli.patch.setattr(socket, "getaddrinfo", this_machine_only(socket.getaddrinfo))

    def every_command(
        self, *more: str, codes: Sequence[int] = (), verbose: str = "-v", only: Sequence[str] = ()
    ) -> None:
        """Run each command, or `only` some, some for people and some for programs.

        `codes` are those that it may end with; without them every one but that of a bug.
        """
        for number, (name, line) in enumerate((name, LINES[name]) for name in only or LINES):
            # Its own state, or a breaker would soon keep every command from the fault.
            self.cli.patch.setenv("XDG_STATE_HOME", str(self._home / "state" / str(number)))
            got = self.cli(*line, *more, verbose, *(["--json"] if number % 2 else []))
            self.search(name, got)
            assert got.code in codes if codes else got.code != Bug.exit_code, (name, got)

    def search(self, name: str, got: Ran) -> None:
        """Fail when the canary is in what was printed or written."""
        assert not LEAK.search(got.out), (name, got)
        assert not LEAK.search(got.err.encode()), (name, got)
        for path in self._home.rglob("*"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # SQLite removes its own when it closes
                self._search_file(name, path)

    def _search_file(self, name: str, path: Path) -> None:
        """Nothing is read twice as it was: every command leaves files of its own, and each was searched after it."""
        about = path.stat()
        state = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if self._clean.get(path) != state:
            assert not LEAK.search(path.read_bytes()), (name, path)
            self._clean[path] = state

    def address(self, url: str) -> None:
        self.cli.patch.setenv("TOKENCTL_DATABASE_URL", url)

    def config(self, text: str) -> None:
        """Use a configuration file that may hold the secret."""
        self._config(self.outside / "config.toml", text)
        self.cli.patch.setenv("TOKENCTL_CONFIG", str(self.outside / "config.toml"))
        self.cli.patch.delenv("TOKENCTL_DATABASE_URL", raising=False)

    def _config(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _execute(self, program: str, argv: list[str], _environ: dict[str, str]) -> NoReturn:
        assert not LEAK.search(" ".join(argv).encode()), argv
        raise ConfigError(f"{program} is not started by a test")
