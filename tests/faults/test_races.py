"""Files that are written where somebody else can meddle: no link is ever followed to another file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.grantfile.opened import blocks_of, opened
from tokenctl import newfile
from tokenctl.errors import TokenctlError
from tokenctl.grantfile.check import CheckOptions
from tokenctl.grantfile.rejects import RejectFile
from tokenctl.statefile import StateFile, StateUnusable
from tokenctl.telemetry.logfile import LogFile

TRIES = 150
SECRET = b"what must stay as it is"


@contextmanager
def meddling(target: Path, victim: Path) -> Iterator[None]:
    """Somebody who puts a link to `victim` in the place of `target`, takes it away, and so on, as fast as can be."""
    over = threading.Event()

    def meddle() -> None:
        link = target.with_name("link")
        while not over.is_set():
            with contextlib.suppress(OSError):
                link.symlink_to(victim)
            with contextlib.suppress(OSError):
                link.replace(target)
            with contextlib.suppress(OSError):
                target.unlink()

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _textfile(target: Path) -> None:
    with newfile.replacing(target, mode=0o644) as stream:
        stream.write(b"metrics\n")


def _log(target: Path) -> None:
    log = LogFile(str(target), 1_000, complain=lambda _: None)
    log.append('{"line": 1}')
    log.close()


def _rejects(target: Path) -> None:
    content = b"user_id,amount,reason,idempotency_key\nu1,none,test,k1\n"
    options = CheckOptions()
    with opened("-", spool=target.parent, stdin=content) as source:
        rejects = RejectFile(source, options, "0123456789ab", str(target))
        try:
            for block in blocks_of(content, target.parent):
                for row in block.bad:
                    rejects.add(row)
            rejects.commit()
        finally:
            rejects.discard()


def _state(target: Path) -> None:
    with (
        contextlib.suppress(StateUnusable),
        StateFile(target, "CREATE TABLE IF NOT EXISTS t (x)").transaction() as connection,
    ):
        connection.execute("INSERT INTO t VALUES (1)")


WRITERS: dict[str, Callable[[Path], None]] = {"textfile": _textfile, "log": _log, "rejects": _rejects, "state": _state}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_link_leads_to_another_file(tmp_path: Path, writer: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_bytes(SECRET)
    victim.chmod(0o640)
    before = victim.stat()
    with meddling(folder / "target", victim):
        for _ in range(TRIES):
            with contextlib.suppress(TokenctlError, OSError):
                WRITERS[writer](folder / "target")
    after = victim.stat()
    assert victim.read_bytes() == SECRET
    assert (after.st_mode, after.st_uid, after.st_nlink, after.st_ino) == (
        before.st_mode,
        before.st_uid,
        1,
        before.st_ino,
    )
