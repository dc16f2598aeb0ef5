"""What every command runs inside: request id, operator, rate limit, metrics, one log line, error context."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Cli, CommandLine
from tests.pg import post
from tokenctl.statefile import StateFile
from tokenctl.telemetry.metrics import SCHEMA, Metrics

GRANT = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes")


def measured() -> dict[tuple[str, ...], float]:
    """Every series that is stored: its name without prefix and its labels, and its value (a histogram's count)."""
    state = StateFile(Path(os.environ["XDG_STATE_HOME"]) / "tokenctl" / "metrics.db", SCHEMA)
    return {
        (one.metric.name.removeprefix("tokenctl_"), *one.labels): one.count if one.counts else one.value
        for one in Metrics(state).stored()
    }


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def log(cli: Cli, home: Path) -> Path:
    cli.patch.setenv("TOKENCTL_LOG_FILE", str(home / "log"))
    return home / "log"


def test_one_request_id_is_everywhere(cli: Cli, log: Path) -> None:
    cli.grant("u1", 10)
    got = cli(*GRANT, "--request-id", "cron-7", "--json")
    assert got.json["meta"]["request_id"] == "cron-7"
    assert cli.db.rows("SELECT request_id FROM tokenctl.token_transactions WHERE seq = 2") == [("cron-7",)]
    assert {line["request_id"] for line in lines(log)[1:]} == {"cron-7"}
    cli.patch.setenv("TOKENCTL_REQUEST_ID", "from-env")
    failed = cli("balance", "nobody", "--json").problem
    assert failed["instance"] == "urn:tokenctl:request:from-env"
    assert lines(log)[-1]["request_id"] == "from-env"


def test_the_database_sees_command_and_request(cli: Cli) -> None:
    cli.db.rows(
        "CREATE FUNCTION tokenctl.note_application() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.note := current_setting('application_name'); RETURN NEW; END $$"
    )
    for part in range(4):
        cli.db.rows(
            f"CREATE TRIGGER seen BEFORE INSERT ON tokenctl.token_transactions_{part}"
            " FOR EACH ROW EXECUTE FUNCTION tokenctl.note_application()"
        )
    assert cli.grant("u1", 10, "--request-id", "r9").code == 0
    assert cli.db.rows("SELECT note FROM tokenctl.token_transactions") == [("tokenctl/grant-bonus/r9",)]


def test_a_failure_is_told_with_its_operation_user_and_cause(offline: CommandLine, home: Path) -> None:
    offline.patch.setenv("TOKENCTL_LOG_FILE", str(home / "log"))
    problem = offline(*GRANT, "--json").problem
    assert (problem["operation"], problem["user_id"], problem["cause"]) == ("grant-bonus", "u1", "OperationalError")
    assert (problem["type"], problem["exit_code"], problem["retryable"]) == (
        "urn:tokenctl:problem:unavailable",
        69,
        True,
    )
    last = lines(home / "log")[-1]
    assert (last["event"], last["level"], last["outcome"], last["exit_code"]) == ("done", "warning", "unavailable", 69)
    assert last["operation"] == "grant-bonus"


def test_each_command_ends_with_one_line_and_is_counted(cli: Cli, log: Path) -> None:
    cli.grant("u1", 10)
    cli("balance", "u1", "--fresh")
    cli("balance", "nobody")
    cli("db", "status")
    done = [(line["operation"], line["outcome"]) for line in lines(log) if line["event"] == "done"]
    assert done == [
        ("grant-bonus", "ok"),
        ("balance", "ok"),
        ("balance", "user-not-found"),
        ("db status", "ok"),
    ]
    counted = measured()
    for operation, outcome in done:
        assert counted["operations_total", operation, outcome] == 1
    assert counted["operation_duration_seconds", "balance"] == 2
    assert counted["db_queries_total", "balances", "ok"] == 2
    assert counted["db_query_duration_seconds", "balances"] == 2


def test_an_unexpected_failure_is_logged_with_its_place_only(cli: Cli, log: Path) -> None:
    cli.patch.setenv("TOKENCTL_TEST_RAISE", "1")
    assert cli("balance", "u1").code == 70
    found = lines(log)
    assert [line["event"] for line in found] == ["exception", "done"]
    assert "RuntimeError" in json.dumps(found[0])
    assert (found[1]["level"], found[1]["outcome"]) == ("error", "bug")


def test_a_mistyped_user_is_no_bug_and_stands_in_no_log(offline: CommandLine, home: Path) -> None:
    offline.patch.setenv("TOKENCTL_LOG_FILE", str(home / "log"))
    got = offline("balance", "u1", "Jane Doe")
    assert (got.code, got.out) == (2, b"")
    told = "tokenctl: USER: 'Jane Doe' has a blank at character 5"
    assert got.err.startswith(told)
    assert got.err.endswith("tokenctl balance --help\n")
    [done] = lines(home / "log")
    assert (done["event"], done["level"], done["outcome"], done["exit_code"]) == ("done", "info", "usage", 2)
    assert "Jane" not in json.dumps(done)
    assert measured()["operations_total", "balance", "usage"] == 1


def test_claims_of_bonuses_are_counted_by_listed_reasons(cli: Cli, home: Path) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('reasons = ["goodwill", "test"]\n')
    post(cli.db.connect("support1"), "u1", 10)
    cli(*GRANT)
    cli(*GRANT)  # a replay claims nothing
    cli(*GRANT, "--ticket", "1", "-n")
    cli("grant-bonus", "nobody", "--amount", "5", "--reason", "goodwill", "--yes")
    config.unlink()
    cli("grant-bonus", "u1", "--amount", "7", "--reason", "anything", "--yes")
    counted = measured()
    assert counted["bonus_grants_total", "goodwill"] == 1
    assert counted["bonus_granted_tokens_total", "goodwill"] == 5
    assert (counted["bonus_grants_total", "other"], counted["bonus_granted_tokens_total", "other"]) == (1, 7)
    assert counted["bonus_grant_failures_total", "user-not-found"] == 1


def test_an_import_tells_of_its_last_run_and_success(cli: Cli, home: Path) -> None:
    good = home / "good.csv"
    good.write_text("user_id,amount,reason,idempotency_key\nu1,5,test,a\nu2,6,test,b\nu2,6,test,b\n")
    bad = home / "bad.csv"
    bad.write_text("user_id,amount,reason,idempotency_key\nu1,5,test,c\nu2,x,test,d\n")
    cli.login("batch1")
    assert cli("batch-import", str(good), "-n").code == 0
    assert ("batch_last_run_timestamp_seconds", "batch-import") not in measured()
    assert cli("batch-import", str(bad), "-n").code == 65
    assert not [name for name, *_ in measured() if name.startswith("batch_")]
    assert cli("batch-import", str(good), "--yes").code == 0
    first = measured()
    assert first["batch_rows", "batch-import", "applied"] == 2
    assert first["batch_rows", "batch-import", "duplicate"] == 1
    assert first["batch_last_success_timestamp_seconds", "batch-import"] > 1.7e9
    assert cli("batch-import", str(bad), "--yes").code == 65
    second = measured()
    job = "batch-import"
    assert second["batch_last_success_timestamp_seconds", job] == first["batch_last_success_timestamp_seconds", job]
    assert second["batch_last_run_timestamp_seconds", job] > first["batch_last_run_timestamp_seconds", job]
    results = ("applied", "replayed", "conflicting", "refused", "rejected", "duplicate")
    assert [second["batch_rows", job, result] for result in results] == [0, 0, 0, 0, 1, 0]
    assert cli("batch-import", str(bad), "--yes", "--partial").code == 65
    third = measured()
    assert (third["batch_rows", job, "applied"], third["batch_rows", job, "rejected"]) == (1, 1)
    assert third["batch_last_success_timestamp_seconds", job] == first["batch_last_success_timestamp_seconds", job]


def test_a_file_that_was_imported_before_is_no_new_success(cli: Cli, home: Path) -> None:
    success = ("batch_last_success_timestamp_seconds", "batch-import")
    cli.login("batch1")
    for name in ("old", "new"):
        (home / name).write_text(f"user_id,amount,reason,idempotency_key\nu1,5,test,{name}\n")
        assert cli("batch-import", name, "--yes").code == 0
    newest = measured()[success]
    [(finished,)] = cli.db.rows("SELECT extract(epoch FROM max(finished_at))::float FROM tokenctl.import_batches")
    assert newest == pytest.approx(finished, abs=1e-5)
    for name in ("new", "old"):
        assert cli("batch-import", name, "--yes").code == 0
        assert measured()[success] == newest
    assert measured()["batch_rows", "batch-import", "applied"] == 1
    (Path(os.environ["XDG_STATE_HOME"]) / "tokenctl" / "metrics.db").unlink()  # a new machine
    assert cli("batch-import", "old", "--yes", "-n").code == 0
    assert success not in measured()
    assert cli("batch-import", "old", "--yes").code == 0
    assert 1.7e9 < measured()[success] < newest
    assert cli("batch-import", "new", "--yes", "--expect-rows", "2").code == 2
    assert 1.7e9 < measured()[success] < newest
    assert measured()["batch_rows", "batch-import", "applied"] == 0


def test_every_call_to_the_database_is_counted(cli: Cli, home: Path) -> None:
    """Those too that have a connection of their own, and so do not go through what tries again."""
    (home / "a.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,test,a\n")
    (home / "b.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,test,b\n")
    cli.login("batch1")
    assert cli("batch-import", "a.csv", "--yes").code == 0
    assert cli("batch-import", "b.csv", "--yes", "--atomic").code == 0
    cli.login("admin1")
    assert cli("verify", "--seal").code == 0
    assert cli("export").code == 0
    counted = {key[1]: times for key, times in measured().items() if key[0] == "db_queries_total"}
    once = ("import_apply", "import_apply_atomic", "seal_lock", "seal", "seal_commit", "verify_parts")
    assert {name: counted.get(name) for name in once} == dict.fromkeys(once, 1)
    assert (counted["import_copy"], counted["import_lock"]) == (2, 2)
    assert counted["export_entries"] == 2  # the second block is empty
    assert counted["snapshot"] >= 3  # of verify, of one of its workers at least, and of export


def test_a_rate_limit_says_when_to_come_back(cli: Cli, home: Path) -> None:
    config = home / "config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[rate_limits.grant-bonus]\nlimit = 3\nwindow_s = 3600\n")
    post(cli.db.connect("support1"), "u1", 1)
    codes = [cli(*GRANT, "--ticket", f"{n}").code for n in range(4)]
    assert codes == [0, 0, 0, 75]
    refused = cli(*GRANT, "--ticket", "5", "--json").problem
    assert refused["type"] == "urn:tokenctl:problem:rate-limited"
    assert 0 < refused["retry_after_s"] <= 3660  # up to a slot of a sixtieth longer
    assert cli.balance() == 16
    counted = measured()
    assert counted["rate_limit_checks_total", "grant-bonus", "allowed"] == 3
    assert counted["rate_limit_checks_total", "grant-bonus", "refused"] == 2
    assert cli("balance", "u1").code == 0
    config.write_text("[rate_limits.grant-bonus]\nlimit = 0\n[rate_limits.balance]\nlimit = 1\nwindow_s = 3600\n")
    assert cli(*GRANT, "--ticket", "6").code == 0
    assert (cli("balance", "u1").code, cli("balance", "u1").code) == (0, 75)


def test_a_state_directory_that_cannot_be_used_stops_nothing(cli: Cli, home: Path, log: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "tokenctl").write_text("not a directory")
    cli.grant("u1", 10)
    assert cli("balance", "u1").code == 0
    assert any(line["event"] == "trouble" for line in lines(log))
