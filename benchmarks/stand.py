"""What the benchmarks share: a throw-away ledger, timed child processes, ratios.

Machines are noisy, so a figure counts only beside its yardstick from the same run.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenctl.storage import local
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer, binaries

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Timed:
    """A finished child process: seconds, its CPU's seconds, peak memory in MB, what it printed on stderr."""

    seconds: float
    peak_mb: float
    stderr: str
    cpu_s: float


@dataclass(frozen=True)
class Ledger:
    """A ledger in an embedded server of its own."""

    home: Path
    server: EmbeddedServer

    @property
    def conninfo(self) -> str:
        """How commands reach it."""
        return local.conninfo(self.server)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of commands that work on it."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "TOKENCTL_DATABASE_URL": self.conninfo}

    def psql(self, *commands: str) -> Timed:
        """Run psql, as the superuser."""
        program = str(binaries.programs_dir(None) / "psql")
        words = [word for command in commands for word in ("-c", command)]
        return run([program, "-qXAt", "-v", "ON_ERROR_STOP=1", self.server.conninfo(), *words], self.environ)

    def tokenctl(self, *arguments: str) -> Timed:
        """Run a command, which must succeed."""
        return run([sys.executable, "-m", "tokenctl", *arguments], self.environ)


@contextlib.contextmanager
def ledger() -> Iterator[Ledger]:
    """An empty ledger with the embedded server's own durable settings, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tokenctl-bench-") as folder:
        server = EmbeddedServer(EmbeddedPaths(Path(folder) / "postgres"))
        local.prepare(server)
        try:
            yield Ledger(Path(folder), server)
        finally:
            server.stop("immediate", deadline_s=60)


def run(words: Sequence[str], environ: dict[str, str]) -> Timed:
    """Run a program to its end; raises RuntimeError with its stderr when it fails."""
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        child = subprocess.Popen(words, env=environ, cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {child.returncode}: {text}")
    return Timed(seconds, usage.ru_maxrss / 1024, text, usage.ru_utime + usage.ru_stime)


def grants(path: Path, *, rows: int, users: int, seed: int) -> list[str]:
    """Make a grant file; answers what an import of it expects, as options."""
    words = ["--rows", str(rows), "--users", str(users), "--seed", str(seed), "--out", str(path)]
    made = run([sys.executable, str(HERE / "make_grants.py"), *words], dict(os.environ))
    return made.stderr.split()


def spread(seconds: Sequence[float]) -> str:
    """Median and extremes, in seconds."""
    return f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"
