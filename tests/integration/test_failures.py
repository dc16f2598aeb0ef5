"""The classifier, each row of its table on a real server: what fails, what it is called, what cron is told."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.integration.embedded_servers import farm
from tests.pg import Connection, LedgerDB
from tests.proxy import proxied
from tests.waiting import until
from tokenctl.errors import Fault, TokenctlError
from tokenctl.resilience.deadline import Deadline
from tokenctl.resilience.retry import Retry
from tokenctl.storage import failures, local
from tokenctl.storage.database import Database


def database(conninfo: str, seconds: float = 20) -> Database:
    """One that tries nothing twice."""
    deadline = Deadline(seconds)
    once = Retry(deadline)
    once.budget.left = once.budget.capacity = 0
    return Database(conninfo, application_name="test", deadline=deadline, retry=once)


def failure(work: Callable[[], object]) -> tuple[Fault | None, int, str]:
    with pytest.raises(TokenctlError) as raised:
        work()
    return raised.value.fault, raised.value.exit_code, raised.value.code


def connecting(conninfo: str, seconds: float = 20) -> tuple[Fault | None, int, str]:
    return failure(database(conninfo, seconds).connect)


# --- no connection -------------------------------------------------------------


def test_nobody_listens() -> None:
    assert connecting("postgresql://u@127.0.0.1:1/x") == (Fault.CONNECT, 69, "unavailable")


def test_somebody_listens_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        conninfo = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x"
        assert connecting(conninfo) == (Fault.CONNECT, 69, "unavailable")
        assert connecting(conninfo, seconds=0.2) == (Fault.CONNECT, 69, "unavailable")


def test_no_host_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_args: object, **_more: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    assert connecting("postgresql://u@nowhere.invalid/x?sslmode=require") == (Fault.CONFIG, 78, "config")


def test_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def silent(*_args: object, **_more: object) -> list[object]:
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert connecting("postgresql://u@slow.invalid/x?sslmode=require", seconds=0.2) == (
        Fault.CONNECT,
        69,
        "unavailable",
    )
    answered.set()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (r"user=\S+", "user=nobody_at_all", (Fault.CONFIG, 77, "not-allowed")),
        (r"dbname=\S+", "dbname=missing", (Fault.CONFIG, 78, "config")),
        (r"$", " sslmode=nonsense", (Fault.CONFIG, 78, "config")),
        (r"$", " target_session_attrs=standby", (Fault.CONFIG, 78, "config")),
        (r"$", " options='-c no.such.thing=1 -c datestyle=nonsense'", (Fault.CONFIG, 78, "config")),
    ],
    ids=["role", "database", "sslmode", "not a standby", "options"],
)
def test_what_only_a_person_can_mend(each_db: LedgerDB, old: str, new: str, expected: tuple[Fault, int, str]) -> None:
    for seconds in (20, 1.9):  # the second leaves no time to ask whether the server is up
        assert connecting(re.sub(old, new, each_db.conninfo("support1"), count=1), seconds) == expected


def test_a_connection_string_that_cannot_be_read() -> None:
    assert connecting("postgresql://u@127.0.0.1:x/x") == (Fault.CONFIG, 78, "config")
    assert failure(database("what is this").connect)[1:] == (78, "config")


@pytest.mark.parametrize("doing", ["starting up", "shutting down", "in recovery mode", "not yet accepting connections"])
def test_a_server_that_is_ready_again_when_it_is_asked(each_db: LedgerDB, doing: str) -> None:
    refused = psycopg.OperationalError(f"connection failed: FATAL:  the database system is {doing}")
    assert failures.connecting(refused, each_db.conninfo("support1"), "here").fault is Fault.STARTING


@pytest.mark.parametrize(
    ("mode", "protected", "refused"),
    [("", False, True), ("allow", False, True), ("prefer", False, True)]
    + [(mode, protected, protected) for mode in ("disable", "require", "verify-ca") for protected in (False, True)]
    + [("verify-full", True, False)],
)
def test_another_host_is_believed_by_no_accident(
    monkeypatch: pytest.MonkeyPatch, mode: str, protected: bool, refused: bool
) -> None:
    def nothing(*_args: object, **_more: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    conninfo = f"host=nowhere.invalid user=u {f'sslmode={mode}' if mode else ''}"
    opened = Database(conninfo, application_name="test", deadline=Deadline(20), protected=protected)
    with pytest.raises(TokenctlError, match="nobody checks" if refused else "no host of that name") as raised:
        opened.connect()
    assert (raised.value.fault, raised.value.exit_code) == (Fault.CONFIG, 78)
    assert not refused or ("you do without" in (raised.value.hint or "")) is not protected


def test_a_host_that_only_libpq_knows_is_let_go_again(
    each_db: LedgerDB, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A service's host and mode are known when the connection stands; it is closed then, before a word is said."""
    given = dict(re.findall(r"(\w+)=(\S+)", each_db.conninfo("support1")))
    with proxied(Path(given["host"]) / f".s.PGSQL.{given['port']}", b"never") as between:
        # One of this machine that does not look like it.
        lines = {"host": "0x7f.1", "port": str(between.port), "user": "support1", "dbname": given["dbname"]}
        for mode, code in (("", 78), ("disable", 0)):
            entries = [f"{key}={value}" for key, value in (lines | ({"sslmode": mode} if mode else {})).items()]
            (tmp_path / "services").write_text("\n".join(["[prod]", *entries, ""]))
            monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
            for opened in (database("service=prod"), database("")):
                monkeypatch.setenv("PGSERVICE", "prod")
                if code:
                    assert failure(opened.connect) == (Fault.CONFIG, 78, "config")
                else:
                    opened.connect().close()
                monkeypatch.delenv("PGSERVICE")


def test_no_connection_is_free(each_db: LedgerDB) -> None:
    each_db.rows("CREATE ROLE narrow LOGIN CONNECTION LIMIT 0")
    try:
        conninfo = each_db.conninfo("narrow")
        assert connecting(conninfo) == (Fault.CROWDED, 69, "unavailable")
    finally:
        each_db.rows("DROP ROLE narrow")


def test_a_node_that_cannot_be_written(each_db: LedgerDB) -> None:
    conninfo = each_db.conninfo("support1") + " options='-c default_transaction_read_only=on'"
    assert connecting(conninfo + " target_session_attrs=read-write") == (Fault.STARTING, 69, "unavailable")


def test_a_server_that_is_stopping() -> None:
    with farm() as made:
        server = made.server()
        local.prepare(server)
        with psycopg.connect(local.conninfo(server)):  # a smart stop waits for it, and lets nobody else in
            pid = server.status().pid
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
            until(
                lambda: connecting(local.conninfo(server)) == (Fault.STARTING, 69, "unavailable"),
                "new connections are rejected",
            )


# --- in a statement ------------------------------------------------------------


def working(
    db: LedgerDB, work: Callable[[Connection], object], user: str = "postgres"
) -> tuple[Fault | None, int, str]:
    opened = database(db.conninfo(user))
    try:
        return failure(lambda: opened.run("test", work))
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("40001", (Fault.CONFLICT, 75, "try-later")),
        ("40P01", (Fault.CONFLICT, 75, "try-later")),
        ("40003", (Fault.LOST, 69, "unavailable")),
        ("55P03", (Fault.LOCK, 75, "lock-held")),
        ("57014", (Fault.CANCELLED, 75, "timed-out")),
        ("08006", (Fault.LOST, 69, "unavailable")),
        ("25006", (Fault.STARTING, 69, "unavailable")),
        ("08P01", (Fault.CROWDED, 69, "unavailable")),
        ("28000", (Fault.CONFIG, 77, "not-allowed")),
        ("42501", (Fault.CONFIG, 77, "not-allowed")),
        ("42P01", (Fault.CONFIG, 78, "schema-mismatch")),
        ("42883", (Fault.CONFIG, 78, "schema-mismatch")),
        ("53100", (Fault.SICK, 69, "unavailable")),
        ("53200", (Fault.SICK, 69, "unavailable")),
        ("58030", (Fault.SICK, 69, "unavailable")),
        ("XX000", (Fault.SICK, 69, "unavailable")),
        ("XX001", (Fault.CORRUPT, 70, "corrupted")),
        ("XX002", (Fault.CORRUPT, 70, "corrupted")),
        ("23514", (Fault.REFUSED, 1, "refused")),
        ("23505", (Fault.REFUSED, 1, "refused")),
        ("22003", (Fault.REFUSED, 1, "refused")),
        ("42601", (Fault.BUG, 70, "bug")),
        ("22P02", (Fault.BUG, 70, "bug")),
    ],
)
def test_each_sqlstate_has_its_class(ledger_db: LedgerDB, state: str, expected: tuple[Fault, int, str]) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'secret detail' USING ERRCODE = '{state}'; END $$"
    assert working(ledger_db, lambda c: c.execute(raising.encode())) == expected


def test_the_server_s_time_limit_and_locks(each_db: LedgerDB) -> None:
    def too_slow(connection: Connection) -> None:
        connection.execute("SET statement_timeout = '20ms'")
        connection.execute("SELECT pg_sleep(60)")

    def locked(connection: Connection) -> None:
        connection.execute("SET lock_timeout = '20ms'")
        connection.execute("SELECT * FROM tokenctl.import_batches FOR UPDATE")

    holder = each_db.connect()
    holder.execute("BEGIN; LOCK TABLE tokenctl.import_batches")
    assert working(each_db, too_slow) == (Fault.CANCELLED, 75, "timed-out")
    assert working(each_db, locked) == (Fault.LOCK, 75, "lock-held")


def test_a_read_only_transaction(each_db: LedgerDB) -> None:
    def write(connection: Connection) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("CREATE TABLE public.x ()")

    assert working(each_db, write) == (Fault.STARTING, 69, "unavailable")


@pytest.mark.parametrize(
    "setting", ["idle_in_transaction_session_timeout", "idle_session_timeout", "terminated", "killed"]
)
def test_a_connection_that_ends_on_the_way(each_db: LedgerDB, setting: str) -> None:
    def work(connection: Connection) -> None:
        pid = connection.info.backend_pid
        if setting == "terminated":
            each_db.rows("SELECT pg_terminate_backend(%s)", pid)
        elif setting == "killed":
            os.kill(pid, signal.SIGTERM)
        else:
            connection.execute(f"SET {setting} = '1ms'".encode())
            if setting.startswith("idle_in"):
                connection.execute("BEGIN")
        until(lambda: not each_db.rows("SELECT FROM pg_stat_activity WHERE pid = %s", pid), "the backend is gone")
        connection.execute("SELECT 1")

    assert working(each_db, work) == (Fault.LOST, 69, "unavailable")


def test_a_session_that_is_ended_while_it_logs_in(ledger_db: LedgerDB) -> None:
    """The server is well and says so when it is asked: that makes it no mistake of the address."""
    ledger_db.rows(
        "CREATE FUNCTION public.ends() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF session_user = 'support1' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; END $$"
    )
    ledger_db.rows("CREATE EVENT TRIGGER ends ON login EXECUTE FUNCTION public.ends()")
    assert connecting(ledger_db.conninfo("support1")) == (Fault.CONNECT, 69, "unavailable")


@pytest.mark.parametrize("words", [b"", b"R\0\0\0\x08\0\0\0\0"], ids=["at once", "after it let us in"])
def test_somebody_who_hangs_up_in_the_middle_of_a_login(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(words)

        threading.Thread(target=hang_up, daemon=True).start()
        conninfo = f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
        assert connecting(conninfo) == (Fault.CONNECT, 69, "unavailable")
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def hanging_up_once(many: int) -> Iterator[list[socket.socket]]:
    """So many listeners; each hangs up on whom it hears first, and is silent from then on."""

    def hang_up(listener: socket.socket) -> None:
        with listener.accept()[0] as client:
            client.recv(1000)

    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(many)]
        for listener in listeners:
            threading.Thread(target=hang_up, args=[listener], daemon=True).start()
        yield listeners


@pytest.mark.parametrize(("seconds", "pinged"), [(1, 0), (20, 1)])
def test_whether_it_is_up_is_asked_of_one_host_and_only_with_time_for_it(seconds: float, pinged: int) -> None:
    """Nothing ends that question before its two seconds for each address are over."""
    with hanging_up_once(3) as listeners:
        hosts = ",".join(f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
        conninfo = f"postgresql://u@{hosts}/x?sslmode=disable&gssencmode=disable"
        assert connecting(conninfo, seconds) == (Fault.CONNECT, 69, "unavailable")
        assert len(select.select(listeners, [], [], 0)[0]) == pinged


def test_a_bug_of_ours_does_not_look_like_an_outage(each_db: LedgerDB) -> None:
    many = ",".join(["%s"] * 70_000)
    assert working(each_db, lambda c: c.execute(f"SELECT 1 IN ({many})".encode(), [1] * 70_000)) == (
        Fault.BUG,
        70,
        "bug",
    )


def test_rights_and_schema(each_db: LedgerDB) -> None:
    forged = b"INSERT INTO tokenctl.token_accounts (user_id) VALUES ('x')"
    assert working(each_db, lambda c: c.execute(forged), "reader1") == (Fault.CONFIG, 77, "not-allowed")
    assert working(each_db, lambda c: c.execute("SELECT tokenctl.no_such()")) == (Fault.CONFIG, 78, "schema-mismatch")


def test_the_watchdog_ends_what_no_server_setting_ends(each_db: LedgerDB) -> None:
    opened = database(each_db.conninfo("support1"), seconds=1)
    assert failure(lambda: opened.run("test", lambda c: c.execute("SELECT pg_sleep(60)"))) == (None, 75, "timed-out")
