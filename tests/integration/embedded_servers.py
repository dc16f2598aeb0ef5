"""Real embedded servers for tests: made in short private places, counted, and all stopped at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg

from tests import require
from tests.waiting import until
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
    """Makes embedded servers and leaves none behind."""

    def __init__(self, programs: Path | None = None) -> None:
        """Servers run `programs`; None means the wheel's."""
        self.programs = programs
        self._folders: list[Path] = []

    def folder(self) -> Path:
        """An empty folder that every user can pass through: pytest's own are closed, and long."""
        folder = Path(tempfile.mkdtemp(prefix="tk-", dir="/tmp")).resolve()
        folder.chmod(0o711)
        self._folders.append(folder)
        return folder

    def server(self, root: Path | None = None, *, namespaces: bool = True) -> EmbeddedServer:
        """A server whose data will be in `root`, not started."""
        root = root or self.folder() / "pg"
        paths = EmbeddedPaths(root, self.programs)
        return EmbeddedServer(paths, system_root=root.parent / "system", namespaces=namespaces)

    def close(self) -> None:
        """End every server whose data lies in one of our folders, whoever started it, and remove them."""
        for folder in self._folders:
            until(partial(_none_left, folder), f"the servers of {folder} are gone")
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
    return {pid for pid, served in _servers() if served == data_dir}


def _none_left(folder: Path) -> bool:
    """Tell every server below `folder` to end; whether there was none."""
    pids = [pid for pid, served in _servers() if served.is_relative_to(folder)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    return not pids


def _servers() -> Iterator[tuple[int, Path]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"/postgres") and words[1:2] == [b"-D"]:
            yield int(entry.name), Path(os.fsdecode(words[2]))


def answers(server: EmbeddedServer) -> bool:
    """Whether an ordinary connection to the database `tokenctl` works and can write."""
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS seen (at timestamptz)")
        return conn.execute("SELECT current_database()").fetchone() == ("tokenctl",)


class Other:
    """Another process with a server object for `root`, which calls what it is told."""

    def __init__(
        self, root: Path, programs: Path | None = None, *, uid: int | None = None, uids_inside: int = 0
    ) -> None:
        """It knows no HOME nor any other variable; with `uid` it becomes that user after its imports.

        With `uids_inside` it is root of a container of so many users, in which no
        user namespace can be made.
        """
        self.process = subprocess.Popen(
            [
                *(_CONTAINER if uids_inside else ()),
                *(sys.executable, "-c", _OTHER, str(root), str(programs or "")),
                "" if uid is None else str(uid),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            cwd="/",
        )
        if uids_inside:
            self._map(uids_inside)

    def _map(self, uids_inside: int) -> None:
        """Give the container its users, as the first of which its root is born."""
        proc = Path(f"/proc/{self.process.pid}")
        ours = Path("/proc/self/ns/user").readlink()
        until(lambda: (proc / "ns" / "user").readlink() != ours, "the namespace is entered")
        for name in ("uid_map", "gid_map"):
            (proc / name).write_text(f"0 0 {uids_inside}")
        self.tell("go")

    def tell(self, expression: str) -> None:
        """Have `expression` evaluated and don't wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        """The next result, as text; of a failure the exit code and the detail."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, expression: str) -> str:
        self.tell(expression)
        return self.heard()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def other(root: Path, programs: Path | None = None, *, uid: int | None = None, uids_inside: int = 0) -> Iterator[Other]:
    process = Other(root, programs, uid=uid, uids_inside=uids_inside)
    try:
        assert process.heard() == "ready"
        yield process
    finally:
        process.kill()


START = f"server.ensure_running(deadline_s={ENOUGH_S})"
STOP = f"server.stop(deadline_s={ENOUGH_S})"
# A program started before the uids are mapped has no powers; the one after has root's.
_FORBID = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
_CONTAINER = ("unshare", "--user", "sh", "-c", 'read go; exec "$@"', "sh", "sh", "-euc", _FORBID, "sh")
_OTHER = """
import os, pathlib, sys, time
from tokenctl.errors import TokenctlError
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer, locks
_, root, programs, uid = sys.argv
if uid:
    os.setgroups([]), os.setgid(int(uid)), os.setuid(int(uid))
paths = EmbeddedPaths(pathlib.Path(root), pathlib.Path(programs) if programs else None)
server = EmbeddedServer(paths, system_root=paths.root.parent / "system")
print("ready", flush=True)
for expression in sys.stdin:
    try:
        print(eval(expression), flush=True)
    except TokenctlError as error:
        print(error.exit_code, error.detail, flush=True)
"""
