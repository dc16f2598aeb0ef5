"""A primary and its standby: which of them is written to, what a failover costs, what a missing standby does."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import CommandLine
from tests.faults.servers import Own, free_port
from tests.integration.embedded_servers import farm
from tests.waiting import until
from tokenctl.errors import TimedOut, Unavailable
from tokenctl.models import Grant
from tokenctl.operation import UNREPLICATED
from tokenctl.resilience.deadline import Deadline
from tokenctl.storage.database import Database
from tokenctl.storage.ledger import Ledger

GRANT = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--new-user", "--yes")


@dataclass
class Pair:
    """A primary, and a standby that has all of it."""

    primary: Own
    standby: Own

    def address(self, *ports: int, user: str = "support1", **more: str) -> str:
        """Several hosts, in this order; without ports the standby and then the primary."""
        named = ports or (self.standby.port, self.primary.port)
        hosts = ",".join(["127.0.0.1"] * len(named))
        parts = {"host": hosts, "port": ",".join(map(str, named)), "user": user, "dbname": "tokenctl", **more}
        return " ".join(f"{name}={value}" for name, value in parts.items())

    def caught_up(self) -> None:
        (wanted,) = self.primary.rows("SELECT pg_current_wal_lsn()::text")[0]
        until(
            lambda: self.standby.rows("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", wanted) == [(True,)],
            "it has all",
        )


@pytest.fixture
def pair(home: Path) -> Iterator[Pair]:
    assert home.is_dir()
    with farm() as made:
        primary = Own(made.server(), {"max_connections": "30"})
        primary.start()
        primary.make_ledger()
        primary.admit("host all all 127.0.0.1/32 trust")
        standby = primary.standby(made, max_connections="30")
        standby.start()
        yield Pair(primary, standby)


@contextmanager
def ledger(address: str, seconds: float = 20) -> Iterator[Ledger]:
    database = Database(address, application_name="test", deadline=Deadline(seconds))
    try:
        yield Ledger(database, request_id="r", claimed_by="me@here")
    finally:
        database.close()


def of_several_hosts_the_primary_is_written_to(pair: Pair, line: CommandLine) -> None:
    """Nobody said target_session_attrs: the first that answers may be a standby, refuse, or be silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        orders = {
            "a standby": (pair.standby.port, pair.primary.port),
            "nobody": (free_port(), pair.primary.port),
            "silence": (int(silent.getsockname()[1]), pair.primary.port),
        }
        for number, (first, ports) in enumerate(orders.items()):
            line.patch.setenv("TOKENCTL_DATABASE_URL", pair.address(*ports))
            got = line(*GRANT, "--ticket", f"first-{number}")
            assert got.code == 0, (first, got)
            assert line("balance", "u1", "--fresh").code == 0, first


def a_standby_alone_is_read_and_not_written(pair: Pair, line: CommandLine) -> None:
    line.patch.setenv("TOKENCTL_DATABASE_URL", pair.address())
    assert line(*GRANT).code == 0
    pair.caught_up()
    line.patch.setenv("TOKENCTL_DATABASE_URL", pair.address(pair.standby.port))
    assert line("balance", "u1", "--fresh").code == 0
    assert line("verify").code == 0
    got = line(*GRANT, "--ticket", "T1")
    assert (got.code, "read-only" in got.err) == (69, True)
    assert line("breaker", "list", "--json").json["data"] == []  # it answers: nothing is down


def a_commit_that_waits_for_a_missing_standby_is_unknown_and_the_same_command_settles_it(
    pair: Pair, line: CommandLine
) -> None:
    """statement_timeout does not end that wait; the command's own deadline does."""
    line.patch.setenv("TOKENCTL_DATABASE_URL", pair.address())
    assert line(*GRANT, "--ticket", "before").code == 0
    count = "SELECT count(*) FROM tokenctl.token_transactions WHERE ticket = 'waiting'"
    pair.primary.set("synchronous_standby_names", "nobody")
    try:
        until(lambda: pair.primary.rows("SHOW synchronous_standby_names") == [("nobody",)], "it is set")
        got = line(*GRANT, "--ticket", "waiting", "--timeout", "1")
        assert got.code == 75, got
        again = next(told for told in got.err.splitlines() if "tokenctl grant-bonus u1" in told).strip()
        # The first is still waiting, and holds the account.
        assert line(*shlex.split(again)[1:], "--timeout", "1").code == 75
    finally:
        pair.primary.set("synchronous_standby_names", "")
    until(lambda: pair.primary.rows(count) == [(1,)], "the commit is through")
    assert line(*shlex.split(again)[1:]).code == 0
    assert pair.primary.rows(count) == [(1,)]
    pair.primary.check()


def a_session_ended_while_its_commit_waits_for_a_standby_is_settled_by_its_key(pair: Pair) -> None:
    """The client is told that the connection is lost, and the row is there; who asks again waits as well."""
    pair.primary.set("synchronous_standby_names", "nobody")
    with ThreadPoolExecutor(1) as pool, ledger(pair.primary.address()) as writes:
        ending = pool.submit(end_the_first_and_let_the_next_go_on, pair.primary)
        try:
            assert writes.grant(Grant("u2", 5, "test", key="k1", new_user=True)).outcome == "replayed"
        finally:
            ending.result()
    assert pair.primary.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE user_id = 'u2'") == [(1,)]
    pair.primary.check()


def a_commit_whose_wait_for_a_standby_is_cancelled_says_so(pair: Pair, line: CommandLine) -> None:
    """It is a success, and a crash of the primary may take it all the same."""
    line.patch.setenv("TOKENCTL_DATABASE_URL", pair.primary.address())
    pair.primary.set("synchronous_standby_names", "nobody")
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    try:
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(until, lambda: pair.primary.rows(cancel), "a commit waits for a standby")
            got = line(*GRANT, "--ticket", "cancelled", "-q")
            ending.result()
        assert (got.code, UNREPLICATED in got.err) == (0, True), got
    finally:
        pair.primary.set("synchronous_standby_names", "")
    assert UNREPLICATED not in line(*GRANT, "--ticket", "cancelled").err
    pair.primary.check()


def end_the_first_and_let_the_next_go_on(server: Own) -> None:
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    try:
        (first,) = until(lambda: server.rows(waiting), "a commit waits for a standby")[0]
        server.rows("SELECT pg_terminate_backend(%s)", first)
        until(lambda: server.rows(f"{waiting} AND pid <> {first}"), "the next one waits")
    finally:
        server.set("synchronous_standby_names", "")


def a_failover_under_grants_loses_none_that_the_standby_had(pair: Pair) -> None:
    """The last: afterwards the standby is the primary, and the primary is gone."""
    for key in ("a", "b"):
        with ledger(pair.address()) as writes:
            assert writes.grant(Grant("u3", 5, "test", key=key, new_user=True)).outcome == "applied"
    pair.caught_up()
    pair.primary.stop()
    with ledger(pair.address()) as writes, psycopg.connect(pair.standby.conninfo(), autocommit=True) as other:
        with ledger(pair.address(), seconds=0.7) as hasty, pytest.raises((Unavailable, TimedOut)):
            hasty.grant(Grant("u3", 5, "test", key="c", new_user=True))
        other.execute("SELECT pg_promote(wait => false)")
        assert writes.grant(Grant("u3", 5, "test", key="c", new_user=True)).outcome == "applied"
        assert writes.grant(Grant("u3", 5, "test", key="a", new_user=True)).outcome == "replayed"
    assert pair.standby.rows("SELECT balance, last_seq FROM tokenctl.token_accounts WHERE user_id = 'u3'") == [(15, 3)]
    pair.standby.check()


def test_a_pair_of_servers(pair: Pair, line: CommandLine, subtests: pytest.Subtests) -> None:
    """In this order, and in one test: to make the pair takes longer than all that is done with it."""
    for step in (
        of_several_hosts_the_primary_is_written_to,
        a_standby_alone_is_read_and_not_written,
        a_commit_that_waits_for_a_missing_standby_is_unknown_and_the_same_command_settles_it,
        a_commit_whose_wait_for_a_standby_is_cancelled_says_so,
    ):
        with subtests.test(step.__name__):
            step(pair, line)
    for last in (
        a_session_ended_while_its_commit_waits_for_a_standby_is_settled_by_its_key,
        a_failover_under_grants_loses_none_that_the_standby_had,
    ):
        with subtests.test(last.__name__):
            last(pair)
