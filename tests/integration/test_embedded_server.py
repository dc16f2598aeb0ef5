"""The embedded server's life: first start, races, kills at every moment, stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.embedded_servers import (
    ENOUGH_S,
    PROGRAMS,
    START,
    Farm,
    answers,
    bin_dir,
    farm,
    other,
    postmasters,
)
from tests.waiting import until
from tokenctl.errors import LockHeld, TimedOut, Unavailable
from tokenctl.storage.embedded import EmbeddedServer, locks

# Both majors meet what depends on PostgreSQL; the rest is about our own supervision.
both = pytest.mark.parametrize("programs", PROGRAMS, indirect=True, scope="module")


@pytest.fixture(scope="module", params=["wheel"])
def programs(request: pytest.FixtureRequest) -> Path | None:
    return bin_dir(request.param)


@pytest.fixture(scope="module")
def kept(programs: Path | None) -> Iterator[EmbeddedServer]:
    """One server for the module: making its data takes longer than most tests."""
    with farm(programs) as made:
        server = made.server()
        server.ensure_running(deadline_s=ENOUGH_S)
        yield server


@pytest.fixture
def running(kept: EmbeddedServer) -> EmbeddedServer:
    kept.ensure_running(deadline_s=ENOUGH_S)
    return kept


@pytest.fixture
def server(kept: EmbeddedServer) -> EmbeddedServer:
    """Data, not running."""
    kept.stop(deadline_s=ENOUGH_S)
    return kept


@pytest.fixture
def place(programs: Path | None) -> Iterator[Farm]:
    """Where a test makes a server of its own, because it starts from nothing or breaks things."""
    with farm(programs) as made:
        yield made


def _pid(server: EmbeddedServer) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def _kill(server: EmbeddedServer) -> int:
    """Kill the postmaster and wait until it is gone."""
    pid = _pid(server)
    pinned = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not postmasters(server.status().data_dir), "the postmaster is gone")
    os.close(pinned)
    return pid


def _ask(server: EmbeddedServer, query: str) -> str:
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


@both
def test_the_first_start_makes_everything(place: Farm, programs: Path | None) -> None:
    server = place.server()
    assert not server.is_initialised()
    assert not server.status().running
    conninfo = server.ensure_running(deadline_s=ENOUGH_S)
    assert server.is_initialised()
    assert conninfo == server.conninfo()
    assert answers(server)
    status = server.status()
    assert status.running
    assert postmasters(status.data_dir) == {status.pid}
    assert status.version is not None
    assert status.version.startswith("15." if programs else "18.")
    assert status.started_at is not None
    for directory in (status.data_dir, status.data_dir.parent, status.socket_dir):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert status.log_file.stat().st_mode & 0o777 == 0o600


@both
def test_it_keeps_what_it_confirms_and_opens_no_port(running: EmbeddedServer) -> None:
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "max_locks_per_transaction": "256",
        "autovacuum": "on",
    }
    assert {name: _ask(running, f"SHOW {name}") for name in wanted} == wanted
    assert _ask(running, "SELECT datcollate FROM pg_database WHERE datname = 'tokenctl'") == "C"


def test_a_second_call_finds_the_server(running: EmbeddedServer) -> None:
    before = running.status()
    running.ensure_running(deadline_s=ENOUGH_S)
    assert running.status() == before


def test_the_server_holds_its_lock_and_not_the_starters(running: EmbeddedServer) -> None:
    names = {link.readlink().name for link in Path(f"/proc/{_pid(running)}/fd").iterdir()}
    assert "server.lock" in names
    assert "start.lock" not in names
    assert os.getsid(_pid(running)) == _pid(running)


def test_a_missing_database_is_made_again(running: EmbeddedServer) -> None:
    with psycopg.connect(running.conninfo(dbname="postgres"), autocommit=True) as conn:
        conn.execute("DROP DATABASE tokenctl")
    running.ensure_running(deadline_s=ENOUGH_S)
    assert answers(running)


@both
def test_after_kill_9_there_is_a_live_server_with_the_data(running: EmbeddedServer) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE memory AS SELECT 42 AS answer")
    killed = _kill(running)
    assert (running.status().data_dir / "postmaster.pid").exists()
    assert not running.status().running
    assert running.status().pid is None
    running.ensure_running(deadline_s=ENOUGH_S)
    assert _pid(running) != killed
    assert _ask(running, "SELECT answer FROM memory") == "42"


@both
def test_a_busy_orphan_of_a_killed_server_does_not_block_the_next(running: EmbeddedServer) -> None:
    client = psycopg.connect(running.conninfo(), autocommit=True)
    orphan = client.info.backend_pid
    # Busy, and so deaf to its postmaster's death; bounded, in case this test is killed too.
    client.pgconn.send_query(
        b"DO $$ BEGIN LOOP EXIT WHEN clock_timestamp() > now() + interval '2 minutes'; END LOOP; END $$"
    )
    _kill(running)
    assert Path(f"/proc/{orphan}").exists()
    running.ensure_running(deadline_s=ENOUGH_S)
    assert answers(running)
    until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is gone")
    client.close()


@both
def test_a_pid_that_was_handed_out_again_is_left_alone(server: EmbeddedServer) -> None:
    bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    data = server.status().data_dir
    (data / "postmaster.pid").write_text(f"{bystander.pid}\n{data}\n1700000000\n5432\n\n\n")
    assert server.stop(deadline_s=ENOUGH_S) is False
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    assert server.stop(deadline_s=ENOUGH_S) is True
    assert bystander.poll() is None
    bystander.communicate()


@both
def test_eight_at_once_end_with_one_server(place: Farm, programs: Path | None) -> None:
    server = place.server()
    root = server.status().log_file.parent
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(other(root, programs)) for _ in range(8)]
        for process in others:
            process.tell(START)
        assert {process.heard() for process in others} == {server.conninfo()}
    status = server.status()
    assert postmasters(status.data_dir) == {status.pid}
    assert answers(server)
    assert not list(root.glob("initdb-*"))


FIRST_MOMENTS: dict[str, Callable[[Path], bool]] = {
    "during initdb": lambda root: any(root.glob("initdb-*/base")),
    "when the data is whole": lambda root: (root / "data").exists(),
}
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "when the server is being started": lambda root: locks.is_held(root / "server.lock"),
    "when the server writes its pid": lambda root: (root / "data" / "postmaster.pid").exists(),
    "when the socket is there": lambda root: (root / ".s.PGSQL.5432").exists(),
}


def _kill_starter(server: EmbeddedServer, programs: Path | None, when: Callable[[], bool]) -> None:
    with other(server.status().log_file.parent, programs) as process:
        process.tell(START)
        until(when, "the moment to kill", every_s=0.001)
        process.kill()


@pytest.mark.parametrize("moment", FIRST_MOMENTS)
def test_a_starter_killed_during_the_first_start(place: Farm, programs: Path | None, moment: str) -> None:
    server = place.server()
    root = server.status().log_file.parent
    _kill_starter(server, programs, lambda: FIRST_MOMENTS[moment](root))
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    assert postmasters(server.status().data_dir) == {_pid(server)}
    server.stop(deadline_s=ENOUGH_S)
    server.ensure_running(deadline_s=ENOUGH_S)  # the second look for leftovers: initdb may have been alive
    assert not list(root.glob("initdb-*"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_starter_killed_while_the_server_starts(server: EmbeddedServer, programs: Path | None, moment: str) -> None:
    root = server.status().log_file.parent
    _kill_starter(server, programs, lambda: MOMENTS[moment](root))
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    assert postmasters(server.status().data_dir) == {_pid(server)}


def test_the_server_outlives_its_starter(server: EmbeddedServer, programs: Path | None) -> None:
    with other(server.status().log_file.parent, programs) as process:
        assert process.ask(START) == server.conninfo()
        pid = _pid(server)
        process.kill()
    server.ensure_running(deadline_s=ENOUGH_S)
    assert _pid(server) == pid


@both
def test_stop_says_whether_there_was_something_to_stop(running: EmbeddedServer) -> None:
    data = running.status().data_dir
    assert running.stop(deadline_s=ENOUGH_S) is True
    assert postmasters(data) == set()
    assert not (data / "postmaster.pid").exists()
    assert running.stop(deadline_s=ENOUGH_S) is False
    assert running.status().version in {"15", "18"}


def test_stop_before_the_first_start_makes_nothing(place: Farm) -> None:
    server = place.server()
    assert server.stop(deadline_s=ENOUGH_S) is False
    assert not server.status().log_file.parent.exists()


def test_stop_ends_open_sessions_and_one_that_does_not_end_is_told(running: EmbeddedServer) -> None:
    pid = _pid(running)
    with psycopg.connect(running.conninfo()) as session:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimedOut, match=str(pid)):
            running.stop(deadline_s=0.2)
        os.kill(pid, signal.SIGCONT)
        running.stop(deadline_s=ENOUGH_S)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_without_pidfd_stop_waits_all_the_same(running: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    data = running.status().data_dir
    assert running.stop(deadline_s=ENOUGH_S) is True
    assert postmasters(data) == set()


def test_a_frozen_server_holds_nobody_longer_than_asked(running: EmbeddedServer) -> None:
    pid = _pid(running)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            running.ensure_running(deadline_s=0.2)
        assert running.status().pid == pid
    finally:
        os.kill(pid, signal.SIGCONT)
    running.ensure_running(deadline_s=ENOUGH_S)
    assert _pid(running) == pid


def test_who_holds_the_lock_is_named_and_a_killed_holder_frees_it(server: EmbeddedServer) -> None:
    lock = server.status().log_file.parent / "start.lock"
    with other(lock.parent) as holder:
        hold = f"(held := locks.exclusive(pathlib.Path({str(lock)!r}), deadline=time.monotonic())).__enter__()"
        assert holder.ask(hold) == "None"
        for attempt in (server.ensure_running, server.stop):
            with pytest.raises(LockHeld, match=f"Process {holder.process.pid} "):
                attempt(deadline_s=0.1)
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)


@pytest.mark.parametrize("lost", ["everything", "the data", "the data, for an older copy"])
def test_a_server_whose_data_was_removed_is_replaced(place: Farm, lost: str) -> None:
    server = place.server()
    server.ensure_running(deadline_s=ENOUGH_S)
    data = server.status().data_dir
    older = data.with_name("older")
    if "copy" in lost:
        server.stop(deadline_s=ENOUGH_S)
        shutil.copytree(data, older)
        server.ensure_running(deadline_s=ENOUGH_S)
    before = server.status()
    shutil.rmtree(data.parent if lost == "everything" else data)
    if older.exists():
        older.rename(data)
    assert not server.status().running
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    assert postmasters(data) == {_pid(server)} != {before.pid}


def test_a_lost_socket_is_told_with_the_remedy(running: EmbeddedServer) -> None:
    (running.status().socket_dir / ".s.PGSQL.5432").unlink()
    with pytest.raises(Unavailable) as caught:
        running.ensure_running(deadline_s=0.2)
    assert "tokenctl db stop" in caught.value.hint
    assert running.stop(deadline_s=ENOUGH_S)
    running.ensure_running(deadline_s=ENOUGH_S)
    assert answers(running)


def test_a_server_that_cannot_start_shows_its_log(server: EmbeddedServer) -> None:
    control = server.status().data_dir / "global" / "pg_control"
    sound = control.read_bytes()
    control.write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="pg_control") as caught:
        server.ensure_running(deadline_s=ENOUGH_S)
    assert str(server.status().log_file) in caught.value.hint
    control.write_bytes(sound)


def test_the_log_stays_small_while_the_server_writes_on(running: EmbeddedServer) -> None:
    log = running.status().log_file
    with log.open("ab") as file:
        file.write(b"old line\n" * 600_000)
    running.ensure_running(deadline_s=ENOUGH_S)
    with psycopg.connect(running.conninfo(), autocommit=True) as conn, pytest.raises(psycopg.Error):
        conn.execute("SELECT 1 / 0")
    text = until(log.read_bytes, "the server wrote on")
    assert b"division by zero" in text
    assert b"1 / 0" not in text
    assert len(text) < 10_000
    assert log.with_name("server.log.old").stat().st_size < 1_000_000
