"""A data directory: making it whole or not at all, and judging its version."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from tokenctl import commandline
from tokenctl.errors import CannotCreate, ConfigError, TimedOut
from tokenctl.storage.embedded import places

if TYPE_CHECKING:
    from tokenctl.storage.embedded.rootless import Identity

SUPERUSER = "postgres"
_UNFINISHED = "initdb-"
_INITDB = (
    f"--username={SUPERUSER}",
    # Whoever reaches the socket is trusted: the directory it lies in is private. Nobody comes by TCP.
    "--auth-local=trust",
    "--auth-host=reject",
    "--data-checksums",  # the default of 18, not of 15
    "--encoding=UTF8",
    # The same on 15 and 18, and independent of the system's libc, whose next version
    # would sort differently and break indexes. Keys are COLLATE "C" anyway.
    "--locale=C",
    "--no-instructions",
)


def is_whole(data_dir: Path) -> bool:
    """Whether a database cluster is there. It is renamed into place, so there is no half."""
    return (data_dir / "PG_VERSION").exists()


def initialise(data_dir: Path, programs: Path, identity: Identity, *, deadline: float) -> None:
    """Run initdb beside `data_dir` and rename the result into place. The caller holds the start lock.

    Raises CannotCreate with initdb's own words, or TimedOut at `deadline`.
    """
    base = data_dir.parent
    remove_unfinished(base)
    with places.creating(base):
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=base))
        if identity.uid != os.geteuid():
            os.chown(unfinished, identity.uid, identity.gid, follow_symlinks=False)
    try:
        _initdb(programs / "initdb", unfinished, identity, deadline)
        with places.creating(data_dir):
            unfinished.rename(data_dir)
            _sync(base)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(base: Path) -> None:
    """Remove what killed runs of initdb left in `base`.

    One that is still at work without its parent fails when its files vanish; what it
    leaves is removed by the next run.
    """
    for leftover in base.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def require_major(data_dir: Path, major: int, *, programs: Path, socket_dir: Path, prefix: str) -> None:
    """ConfigError that says how to carry the data over, when another major version wrote it."""
    made_by = (data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by == str(major):
        return
    raise ConfigError(
        f"{data_dir} was made by PostgreSQL {made_by}, and the installed programs are PostgreSQL {major}.",
        hint="Nothing was changed. Carry the data over with dump and restore:\n"
        + "\n".join(_dump_and_restore(data_dir, made_by, programs, socket_dir, prefix)),
    )


def _dump_and_restore(data_dir: Path, old: str, programs: Path, socket: Path, prefix: str) -> list[str]:
    data, kept, psql = (quote(str(path)) for path in (data_dir, f"{data_dir}-{old}", programs / "psql"))
    options = quote(f"-h '' -k {quote(str(socket))}")
    connection = f"-h {quote(str(socket))} -U {SUPERUSER}"
    dump = f"tokenctl-{old}.sql"
    return [
        f"  OLD=/usr/lib/postgresql/{old}/bin  # where the programs of PostgreSQL {old} are",
        f'  {prefix}"$OLD/pg_ctl" -D {data} -w -l /dev/null -o {options} start',
        f'  "$OLD/pg_dumpall" {connection} --roles-only > {dump}',
        f'  "$OLD/pg_dump" {connection} --create --clean --if-exists tokenctl >> {dump}',
        f'  {prefix}"$OLD/pg_ctl" -D {data} -w -m fast stop',
        f"  mv {data} {kept}",
        f"  {commandline.line('db', 'start')}",
        f"  {psql} {connection} -d {SUPERUSER} -q -f {dump}",
    ]


def _initdb(initdb: Path, target: Path, identity: Identity, deadline: float) -> None:
    command = [initdb, *_INITDB, f"--pgdata={target}"]
    child = identity.start(command, directory=target.parent, output=subprocess.PIPE)
    try:
        output = child.communicate(timeout=max(0.0, deadline - time.monotonic()))[0]
    except subprocess.TimeoutExpired as error:
        raise TimedOut(
            f"initdb did not finish in time in {target.parent}.",
            hint="Nothing is left half-made; try again with more time.",
        ) from error
    finally:
        if child.returncode is None:  # out of time or interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode != 0:
        raise CannotCreate(
            f"initdb failed in {target.parent}: {_complaints(output.decode(errors='replace'))}.",
            hint="Look at the space and the permissions there, or choose another place with XDG_DATA_HOME.",
        )


def _complaints(output: str) -> str:
    """The lines of initdb's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    bad = [line for line in lines if "error" in line.lower() or "FATAL" in line or "PANIC" in line]
    return " | ".join((bad or lines)[-3:]).rstrip(".") or "it says nothing"


def _sync(directory: Path) -> None:
    """Make a rename in `directory` outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
