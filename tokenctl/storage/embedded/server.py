"""The embedded server: started when needed, found again by every later command, stopped on request.

It is started directly and asked by connecting. pg_ctl looks only every 100 ms, and
postmaster.pid says "ready" for a server that was killed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from psycopg.conninfo import make_conninfo

from tokenctl import commandline
from tokenctl.errors import ConfigError, TimedOut, Unavailable
from tokenctl.storage.embedded import binaries, cluster, locks, log, places, probe, processes
from tokenctl.storage.embedded.cluster import SUPERUSER
from tokenctl.storage.embedded.options import PORT, server_arguments
from tokenctl.storage.embedded.site import Land, Site

if TYPE_CHECKING:
    import subprocess

DATABASE = "tokenctl"
_SYSTEM_ROOT = Path("/var/lib/tokenctl")
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_STATUS_S = 2.0
_FIRST_POLL_S = 0.003
_LAST_POLL_S = 0.05  # in a long recovery every question costs the server a process
_ASK = (
    f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}'), "  # noqa: S608 (a constant)
    "current_setting('server_version'), extract(epoch FROM pg_postmaster_start_time())"
)


@dataclass(frozen=True)
class EmbeddedPaths:
    """`root` is the private directory of one embedded database; `bin_dir` replaces the wheel's programs."""

    root: Path
    bin_dir: Path | None = None


@dataclass(frozen=True)
class EmbeddedStatus:
    """What can be told without changing anything.

    `running` means that it answers. A pid without `running` is a server that starts,
    recovers or hangs. `version` is the server's, or the data's major version when it
    does not run; None before the first start.
    """

    running: bool
    pid: int | None
    data_dir: Path
    socket_dir: Path
    log_file: Path
    version: str | None
    started_at: dt.datetime | None
    port: int = PORT


class EmbeddedServer:
    """The PostgreSQL server of one directory, shared by all processes of its owner."""

    def __init__(self, paths: EmbeddedPaths, *, system_root: Path = _SYSTEM_ROOT, namespaces: bool = True) -> None:
        """`system_root` holds root's data when it drops to another user; `namespaces=False` forces that."""
        self._root = places.resolved(paths.root)
        self._bin_dir = paths.bin_dir
        self._land = Land(self._root, system_root, namespaces)
        self._start_lock = self._root / "start.lock"
        self._server_lock = self._root / "server.lock"
        self._log = self._root / "server.log"

    def conninfo(self, *, user: str = SUPERUSER, dbname: str = DATABASE) -> str:
        """A libpq connection string, whether the server runs or not.

        Connect with it first and call `ensure_running` only when that fails. Raises
        NotAllowed when somebody else could be listening there.
        """
        site = self._land.site()
        site.judge()
        return _conninfo(site, user, dbname)

    def is_initialised(self) -> bool:
        """Whether there is data."""
        return cluster.is_whole(self._land.site().data_dir)

    def ensure_running(self, *, deadline_s: float) -> str:
        """Return `conninfo()` of a server that answers and has the database; make and start what is missing.

        Raises ConfigError (no programs, other major version, no way to run), NotAllowed
        or CannotCreate (the directory), LockHeld or TimedOut (out of time), Unavailable
        (the server does not start or does not answer).
        """
        deadline = time.monotonic() + deadline_s
        site = self._land.site()
        site.judge()
        log.bound(self._log)
        if not self._is_ready(site, deadline):
            places.make_private(self._root)
            with places.creating(self._root), locks.exclusive(self._start_lock, deadline=deadline):
                site = self._start(deadline)
        return _conninfo(site, SUPERUSER, DATABASE)

    def stop(self, mode: Literal["fast", "immediate"] = "fast", *, deadline_s: float) -> bool:
        """Stop the server and wait until it is gone; False when it was not running.

        "fast" ends the sessions and writes everything out, "immediate" leaves that to
        the next start. Raises LockHeld, or TimedOut when it still lives at the deadline.
        """
        deadline = time.monotonic() + deadline_s
        data_dir = self._land.site().data_dir
        if not (self._root.exists() or cluster.is_whole(data_dir)):
            return False
        was_alive = False
        places.make_private(self._root)
        with places.creating(self._root), locks.exclusive(self._start_lock, deadline=deadline):
            while self._is_alive(data_dir):
                was_alive = True
                pid = processes.postmaster(data_dir)
                if pid is None:
                    processes.end_orphans(data_dir)
                elif processes.end(pid, data_dir, _SIGNALS[mode], deadline=deadline):
                    continue
                if time.monotonic() >= deadline:
                    raise _does_not_end(data_dir, pid)
                time.sleep(_FIRST_POLL_S)
        return was_alive

    def status(self) -> EmbeddedStatus:
        """What runs, asked of the server itself for at most two seconds; changes nothing."""
        site = self._land.site()
        site.judge()
        log.bound(self._log)
        version: str | None = None
        started_at: dt.datetime | None = None
        if cluster.is_whole(site.data_dir):
            version = (site.data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
        with contextlib.suppress(probe.NoAnswer):
            answer = _ask(site, time.monotonic() + _STATUS_S)
            if self._is_ours(site, answer):
                _, version, epoch = answer.row
                started_at = dt.datetime.fromtimestamp(float(epoch), tz=dt.UTC)
        return EmbeddedStatus(
            running=started_at is not None,
            pid=processes.postmaster(site.data_dir),
            data_dir=site.data_dir,
            socket_dir=site.socket_dir,
            log_file=self._log,
            version=version,
            started_at=started_at,
        )

    def _is_ready(self, site: Site, deadline: float) -> bool:
        try:
            answer = _ask(site, deadline)
        except probe.NoAnswer:
            return False
        return self._is_ours(site, answer) and _has_database(answer)

    def _is_alive(self, data_dir: Path) -> bool:
        """Whether any process of the server lives, one started by hand included."""
        return locks.is_held(self._server_lock) or processes.postmaster(data_dir) is not None

    def _is_ours(self, site: Site, answer: probe.Answer) -> bool:
        """Whether who answers serves this data, and not data that was removed or replaced since.

        The kernel says who listens; postmaster.pid, which lies in the data, says who
        should. From another container the pid says nothing: then the lock must do.
        """
        recorded = processes.recorded_pid(site.data_dir)
        if recorded is None:
            return False
        return recorded == answer.peer_pid or locks.is_held(self._server_lock)

    def _start(self, deadline: float) -> Site:
        """Everything up to the first answer; the start lock is held."""
        programs = binaries.programs_dir(self._bin_dir)
        site, major = self._land.settle(programs)
        data_dir, identity = site.data_dir, site.identity
        places.make_socket_dir(site.socket_dir, site.base, identity.uid, identity.gid)
        _end_strays(data_dir, deadline)
        if cluster.is_whole(data_dir):
            cluster.require_major(
                data_dir, major, programs=programs, socket_dir=site.socket_dir, prefix=identity.shell_prefix
            )
            cluster.remove_unfinished(site.base)
        else:
            cluster.initialise(data_dir, programs, identity, deadline=deadline)
        answer = self._wait(site, programs, deadline)
        if not _has_database(answer):
            _create_database(site, deadline)
        return site

    def _wait(self, site: Site, programs: Path, deadline: float) -> probe.Answer:
        """Ask until the server answers; start it as soon as nothing of an older one lives."""
        child: subprocess.Popen[bytes] | None = None
        written = log.size(self._log)
        pause = _FIRST_POLL_S
        try:
            while True:
                try:
                    answer = _ask(site, deadline)
                    if self._is_ours(site, answer):
                        return answer
                    raise _stranger(site, answer.peer_pid)
                except probe.NoAnswer as no:
                    why = str(no)
                if child is None:
                    child = self._spawn_if_alone(site, programs)
                elif child.poll() is not None:
                    raise self._died(written)
                if time.monotonic() >= deadline:
                    raise self._silent(site, why)
                time.sleep(pause)
                pause = min(pause * 1.25, _LAST_POLL_S)
        finally:
            if child is not None and child.returncode is None:
                child.returncode = 0  # it outlives us: nobody is to wait for it or to complain that it runs

    def _spawn_if_alone(self, site: Site, programs: Path) -> subprocess.Popen[bytes] | None:
        """Start the server, unless one lives already; it takes the server lock along."""
        if processes.postmaster(site.data_dir) is not None:
            return None
        lock = locks.try_hold(self._server_lock)
        if lock is None:
            processes.end_orphans(site.data_dir)
            return None
        processes.forget_recycled(site.data_dir / "postmaster.pid", site.data_dir)
        processes.forget_recycled(site.socket_dir / f".s.PGSQL.{PORT}.lock", site.data_dir)
        output = log.open_log(self._log)
        try:
            command = [programs / "postgres", *server_arguments(site.data_dir, site.socket_dir)]
            return site.identity.start(command, directory=site.base, output=output, pass_fds=(lock,))
        finally:
            os.close(output)
            os.close(lock)

    def _silent(self, site: Site, why: str) -> Unavailable:
        reachable = (site.socket_dir / f".s.PGSQL.{PORT}").exists()
        return Unavailable(
            f"The embedded server of {site.data_dir} did not answer in time: {why}",
            hint=f"It may still be recovering; try again. Its log is {self._log}"
            if reachable
            else f"It runs without its socket in {site.socket_dir}. Stop it with: {commandline.line('db', 'stop')}",
        )

    def _died(self, written: int) -> Unavailable:
        return Unavailable(
            f"The embedded server ended at once: {log.last_lines(self._log, since=written)}",
            hint=f"Its log is {self._log}",
        )


def _conninfo(site: Site, user: str, dbname: str) -> str:
    return make_conninfo(host=str(site.socket_dir), port=PORT, user=user, dbname=dbname)


def _ask(site: Site, deadline: float) -> probe.Answer:
    return probe.ask(_conninfo(site, SUPERUSER, SUPERUSER), _ASK, deadline=deadline)


def _end_strays(data_dir: Path, deadline: float) -> None:
    """End servers whose data was removed or moved away from under them.

    They hold on to the path: at the next checkpoint they would write into the new
    data's control file, and in the end remove the new server's socket. Hence not
    "fast", which begins with a checkpoint.
    """
    if processes.postmaster(data_dir) is not None:
        return
    for stray in processes.postmasters(data_dir):
        if not processes.end(stray, data_dir, signal.SIGQUIT, deadline=deadline):
            raise _does_not_end(data_dir, stray)


def _has_database(answer: probe.Answer) -> bool:
    return answer.row[0] == "t"


def _create_database(site: Site, deadline: float) -> None:
    """CREATE DATABASE, which another process may do at the same moment."""
    try:
        probe.ask(_conninfo(site, SUPERUSER, SUPERUSER), f"CREATE DATABASE {DATABASE}", deadline=deadline)
    except probe.NoAnswer as no:
        if no.sqlstate not in {"42P04", "23505"}:  # it exists; it is being made
            raise Unavailable(f"The database {DATABASE} cannot be made in {site.data_dir}: {no}") from no


def _stranger(site: Site, pid: int) -> ConfigError:
    return ConfigError(
        f"Another server (process {pid or 'unknown'}) answers in {site.socket_dir}.",
        hint="Stop it; that directory belongs to tokenctl's embedded database.",
    )


def _does_not_end(data_dir: Path, pid: int | None) -> TimedOut:
    who = f"process {pid}" if pid else "a process that cannot be seen from here, perhaps in another container"
    return TimedOut(
        f"The embedded server of {data_dir} did not end in time: {who}.",
        hint="Try again with more time, or stop it with mode immediate.",
    )
