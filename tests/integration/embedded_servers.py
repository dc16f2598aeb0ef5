"""Real embedded servers for tests: made in short private places, counted, and all stopped at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests import require
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer

DEBIAN = Path("/usr/lib/postgresql/15/bin")
PROGRAMS = ("wheel", "debian15")
ENOUGH_S = 60.0
ROOT = Path(__file__).parents[2]
UNNAMED_UID = 54321
NOBODY_UID = 65534


def bin_dir(name: str) -> Path | None:
    """The programs that `name` (one of PROGRAMS) stands for; None means the wheel's."""
    if name == "wheel":
        return None
    if not (DEBIAN / "postgres").exists():
        require.missing(f"there is no {DEBIAN}/postgres; on Debian 12: apt install postgresql-15")
    return DEBIAN


class Farm:
    """Makes embedded servers and remembers them."""

    def __init__(self, programs: Path | None = None) -> None:
        """Servers run `programs`; None means the wheel's."""
        self.programs = programs
        self._folders: list[Path] = []
        self._servers: list[EmbeddedServer] = []

    def folder(self) -> Path:
        """An empty folder that every user can pass through: pytest's own are closed, and long."""
        folder = Path(tempfile.mkdtemp(prefix="tk-", dir="/tmp")).resolve()  # noqa: S108 (short, like a socket's path)
        folder.chmod(0o711)
        self._folders.append(folder)
        return folder

    def server(self, root: Path | None = None, *, namespaces: bool = True) -> EmbeddedServer:
        """A server whose data will be in `root`, not started."""
        root = root or self.folder() / "pg"
        paths = EmbeddedPaths(root, self.programs)
        server = EmbeddedServer(paths, system_root=root.parent / "system", namespaces=namespaces)
        self._servers.append(server)
        return server

    def copy_of(self, seed: EmbeddedServer) -> EmbeddedServer:
        """A server with a copy of the data of `seed`, which is stopped; saves the time of an initdb."""
        server = self.server()
        data = server.status().data_dir
        data.parent.mkdir(mode=0o700)
        shutil.copytree(seed.status().data_dir, data, symlinks=True)
        return server

    def close(self) -> None:
        """Stop everything and remove it."""
        for server in self._servers:
            server.stop("immediate", deadline_s=ENOUGH_S)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def farm(programs: Path | None = None) -> Iterator[Farm]:
    made = Farm(programs)
    try:
        yield made
    finally:
        made.close()


def postmasters(data_dir: Path) -> set[int]:
    """The pids of all live servers of `data_dir`, by the machine's list of processes and no file of theirs."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"/postgres") and words[1:3] == [b"-D", os.fsencode(data_dir)]:
            found.add(int(entry.name))
    return found


def answers(server: EmbeddedServer) -> bool:
    """Whether an ordinary connection to the database `tokenctl` works and can write."""
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS seen (at timestamptz)")
        return conn.execute("SELECT current_database()").fetchone() == ("tokenctl",)


def starter(server_root: Path, programs: Path | None = None, *, uid: int | None = None) -> subprocess.Popen[str]:
    """A process that says `imported`, waits for a line, runs ensure_running and says what became of it.

    Without HOME or any other variable. With `uid` it becomes that user after its imports.
    """
    source = f"""
import os, pathlib, sys
from tokenctl.errors import TokenctlError
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer
if {uid!r}:
    os.setgroups([]), os.setgid({uid!r}), os.setuid({uid!r})
programs = {str(programs) if programs else None!r}
server = EmbeddedServer(EmbeddedPaths(pathlib.Path({str(server_root)!r}), programs and pathlib.Path(programs)))
print("imported", flush=True)
for command in sys.stdin:
    try:
        print(eval(command), flush=True)
    except TokenctlError as error:
        print(error.exit_code, error.detail, flush=True)
"""
    return subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        cwd="/",
    )


START = f"server.ensure_running(deadline_s={ENOUGH_S})\n"


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
