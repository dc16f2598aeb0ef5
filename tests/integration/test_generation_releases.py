"""Who releases a hold: the run itself, another one that knows better, or whoever finds it past its deadline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.test_generations import opened, release
from tests.pg import Connection, LedgerDB, post
from tests.waiting import until


@pytest.fixture
def rich(each_db: LedgerDB) -> Connection:
    """support1 on a ledger where u1 has 100 tokens."""
    connection = each_db.connect("support1")
    post(connection, "u1", 100, key="opening")
    return connection


def test_a_release_is_the_run_s_own_or_told_as_another_s(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    assert (release(rich, "r1")["outcome"], release(rich, "r1")["outcome"]) == ("released", "released")
    assert release(rich, "r2", force=True)["outcome"] == "already_released"
    who = "SELECT released_why, released_by, released_claimed_by, released_run FROM tokenctl.generations"
    assert each_db.rows(who) == [("blocked", "support1", "me", "r1")]
    assert each_db.rows("SELECT count(*) FROM tokenctl.audit_log") == [(0,)]
    opened(rich)
    assert each_db.rows(who) == [(None, None, None, None)]
    assert release(rich, "r2", force=True)["outcome"] == "released"


def test_only_what_is_past_is_released_for_its_deadline_s_sake(each_db: LedgerDB, rich: Connection) -> None:
    opened(rich)
    for force, past_only in ((False, True), (True, True), (True, None)):
        assert release(rich, force=force, past_only=past_only)["outcome"] == "not_past"
    assert each_db.rows("SELECT state FROM tokenctl.token_holds") == [("open",)]
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    assert release(rich, past_only=True)["outcome"] == "released"


def test_the_deadline_is_judged_under_the_account_s_lock(each_db: LedgerDB, rich: Connection) -> None:
    """Who waits for a run that makes the hold again judges the new deadline."""
    opened(rich)
    each_db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    maker = each_db.connect("support1")
    maker.execute("BEGIN")
    assert opened(maker)["outcome"] == "held"
    with ThreadPoolExecutor(1) as pool:
        expiring = pool.submit(release, rich, "r2", past_only=True)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        until(lambda: bool(each_db.rows(waiting, rich.info.backend_pid)), "the release waits")
        maker.execute("COMMIT")
        assert expiring.result()["outcome"] == "not_past"
