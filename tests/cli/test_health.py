"""`health` end to end: every format, every exit code, dead and silent servers, and waiting for a start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import (
    ENOUGH_S,
    NOWHERE,
    ROOT,
    TOKENCTL,
    Cli,
    CommandLine,
    environment,
    on_terminal,
    run,
    shell,
    without_escapes,
)
from tests.integration.embedded_servers import farm
from tests.unit.cli.test_health_views import LINE
from tokenctl.errors import BreakerOpen
from tokenctl.operation import begin
from tokenctl.resilience.breaker import BreakerPolicy, Breakers
from tokenctl.runtime import Runtime
from tokenctl.settings import Flags, load

BASIC = ["database", "schema", "breakers", "cache", "state", "keys", "jobs"]
DEEP = ["durability", "triggers", "functions", "privileges"]
CANARY = "S3CRET-canary-of-health"


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:{CANARY}@127.0.0.1:{server.getsockname()[1]}/x"


def test_all_is_ok(cli: Cli) -> None:
    got = cli("health")
    assert got.code == 0
    assert [line[:2] for line in got.lines] == [[name, "ok"] for name in BASIC]
    assert re.fullmatch(r"PostgreSQL 18\.[0-9]+, [0-9]+ ms, [0-9]+ of 50 connections", got.lines[0][2])
    assert got.err == "✓ 7 checks ok\n"


def test_the_document(cli: Cli) -> None:
    got = cli("health", "--deep", "--json")
    assert (got.code, got.err) == (0, "")
    assert got.json["schema"] == "tokenctl.health.v1"
    data = got.json["data"]
    assert data["state"] == "ok"
    assert [check["name"] for check in data["checks"]] == BASIC + DEEP
    for check in data["checks"]:
        assert sorted(check) == ["asked", "detail", "hint", "metrics", "name", "state", "took_ms", "values"]
        assert (check["state"], check["asked"]) == ("ok", True)
        assert check["took_ms"] >= 0
    assert data["checks"][0]["values"]["max_connections"] == 50
    assert data["checks"][-1]["values"]["login"] == "support1"


def test_the_plugins_line(cli: Cli) -> None:
    for argv in (("health", "--format", "nagios"), ("health", "--format=nagios", "--deep")):
        got = cli(*argv)
        assert (got.code, got.err) == (0, "")
        assert LINE.fullmatch(got.text)
        assert got.text.startswith(f"TOKENCTL OK - {7 if argv[-1] == 'nagios' else 11} checks ok | db_connect=0.0")
    cli.patch.setenv("TOKENCTL_FORMAT", "nagios")
    assert cli("health").text.startswith("TOKENCTL OK - ")
    assert cli("health", "--check", "keys", "--format", "nagios").text.startswith("TOKENCTL OK - 1 check ok | keys=0")


def test_other_formats(cli: Cli) -> None:
    assert cli("health", "--format", "value").out == b"ok\n"
    assert cli("health", "--format", "jsonl").json["schema"] == "tokenctl.health.v1"
    for form in ("text", "table"):
        assert cli("health", "--format", form).text.startswith(" CHECK      STATE   DETAIL\n")
    assert cli("health", "-q").out == b""
    assert cli("health", "-q").err == ""
    assert cli("health", "-q", "--format", "value").out == b"ok\n"
    assert cli("balance", "u1", "--format", "nagios").code == 2


@pytest.mark.usefixtures("cli")
def test_on_a_terminal() -> None:
    wide, narrow = on_terminal("health", "--deep", columns=100), on_terminal("health", "--deep", columns=60)
    lines = without_escapes(wide.text).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].startswith(" database     ok      PostgreSQL 18.")
    assert " CHECK   database\n" in without_escapes(narrow.text)  # what does not fit is not cut
    usual = without_escapes(on_terminal("health", "--deep", columns=80).text)
    assert re.search(
        r"^ durability +ok +fsync, full_page_writes, checksums, synchronous_commit on$", usual, re.MULTILINE
    )


def test_what_was_measured(cli: Cli) -> None:
    rows = {line[0]: line[1:] for line in cli("health", "--metrics").lines}
    assert list(rows)[:2] == ["database", "db_connect"]
    assert rows["db_connections"][1].endswith(" (warning above 40, critical above 47.5)")
    assert "db_connect" not in {line[0] for line in cli("health").lines}
    assert "\n   db_connect " in cli("health", "--metrics", "--format", "table").text


def test_only_some_checks(cli: Cli) -> None:
    assert [line[0] for line in cli("health", "--check", "keys,database").lines] == ["database", "keys"]
    assert [line[0] for line in cli("health", "--check", "triggers").lines] == ["triggers"]
    assert [line[0] for line in cli("health", "--check", "keys", "--deep").lines] == ["keys", *DEEP]


def test_a_dead_database_is_critical(offline: CommandLine) -> None:
    got = offline("health")
    assert got.code == 2
    assert [line[1] for line in got.lines] == ["critical", "unknown", "ok", "ok", "ok", "ok", "unknown"]
    assert got.lines[0][2] == "the database at x@127.0.0.1:1 does not answer"
    assert "tokenctl: CRITICAL: 1 of 7 checks needs attention (database)" in got.err
    assert "database: is the address right" in got.err
    plugin = offline("health", "--format", "nagios")
    assert (plugin.code, plugin.err) == (2, "")
    assert LINE.fullmatch(plugin.text)
    assert plugin.text.startswith("TOKENCTL CRITICAL - database: the database at x@127.0.0.1:1 does not answer | ")
    document = offline("health", "--json")
    assert (document.code, document.err, document.json["data"]["state"]) == (2, "", "critical")
    assert offline("health", "-q").lines == offline("health").lines
    assert offline("health", "--check", "cache,keys").code == 0


def test_a_wrong_database_is_critical(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_DATABASE_URL", cli.db.server.conninfo("support1", "no_such_ledger"))
    got = cli("health", "--check", "database")
    assert (got.code, got.lines[0][1]) == (2, "critical")
    cli.patch.setenv("TOKENCTL_DATABASE_URL", f"host=x pasword={CANARY}")
    got = cli("health", "--check", "database", "--json")
    assert (got.code, got.json["data"]["checks"][0]["detail"]) == (2, "the database's connection string is wrong")
    assert CANARY not in got.text + got.err


def test_a_database_without_a_ledger_is_critical(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_DATABASE_URL", cli.db.server.conninfo("postgres", "postgres"))
    got = cli("health")
    assert got.code == 2
    assert [line[1] for line in got.lines[:2]] == ["ok", "critical"]
    assert "schema: tokenctl db migrate" in got.err


def test_a_silent_server_is_critical_by_the_checks_own_time(offline: CommandLine) -> None:
    """The test runs for ever if nothing bounds the check."""
    with silent() as url:
        offline.patch.setenv("TOKENCTL_DATABASE_URL", url)
        got = offline("health", "--check", "database", "--json")
    assert (got.code, got.json["data"]["checks"][0]["state"]) == (2, "critical")
    assert CANARY not in got.text + got.err


def test_a_silent_server_is_unknown_by_the_whole_commands_time(offline: CommandLine) -> None:
    with silent() as url:
        offline.patch.setenv("TOKENCTL_DATABASE_URL", url)
        got = offline("health", "--timeout", "0.3", "--json")
        assert got.code == 3
        checks = {check["name"]: check for check in got.json["data"]["checks"]}
        assert checks["database"]["detail"] == "no answer before the command was out of time (0.3 s)"
        assert checks["cache"]["state"] == "ok"
        assert run("health", "--timeout", "0.3").code == 3  # as a process, which ends although a thread still waits


@pytest.mark.parametrize(
    "argv",
    [
        ("--nope",),
        ("--check", "databse"),
        ("--check", ""),
        ("--wait", "soon"),
        ("--timeout", "0"),
        ("--format", "xml"),
        ("--json", "--format", "nagios"),
        ("--deep", "--deep"),
        ("extra",),
    ],
)
def test_a_usage_error_is_unknown(offline: CommandLine, argv: tuple[str, ...]) -> None:
    got = offline("health", *argv)
    assert (got.code, got.out if "nagios" not in argv else b"") == (3, b"")
    if "nagios" not in argv:
        assert got.err.startswith("tokenctl: ")
        plugin = offline("health", "--format", "nagios", *(a for a in argv if a not in ("--format", "xml")))
        assert plugin.code in (2, 3)  # without the wrong format it is the dead database
        assert LINE.fullmatch(plugin.text)


def test_a_usage_error_for_programs(offline: CommandLine) -> None:
    got = offline("health", "--nope", "--json")
    assert got.code == 3
    problem = got.problem
    assert (problem["type"], problem["exit_code"]) == ("urn:tokenctl:problem:usage", 3)


def test_a_wrong_configuration_is_unknown(offline: CommandLine, home: Path) -> None:
    (home / "c.toml").write_text("[health]\nimport_max_age = 5\n")
    got = offline("health", "--config", "c.toml")
    assert got.code == 3
    assert "c.toml:2: unknown key 'health.import_max_age'; did you mean 'health.import_max_age_s'?" in got.err
    plugin = offline("health", "--config", "c.toml", "--format", "nagios")
    assert (plugin.code, plugin.err) == (3, "")
    assert plugin.text.startswith("TOKENCTL UNKNOWN - c.toml:2: unknown key")
    assert offline("balance", "u1", "--config", "c.toml").code == 78  # other commands keep theirs


def test_a_bug_is_unknown(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_TEST_RAISE", "1")
    assert offline("health").code == 3
    assert offline("balance", "u1").code == 70


def test_output_that_cannot_be_written_is_unknown() -> None:
    for form in ("tsv", "json", "nagios"):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*TOKENCTL, "health", "--check", "keys", "--format", form],
                stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=ENOUGH_S, check=False,
            )  # fmt: skip
        assert done.returncode == 3, form
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "raised", "outcome"),
    [
        ((), "", "health-critical"),
        (("--warn", "nope=1"), "", "usage"),
        ((), "1", "bug"),
    ],
)
def test_the_log_has_the_code_that_it_ends_with(
    offline: CommandLine, home: Path, argv: tuple[str, ...], raised: str, outcome: str
) -> None:
    offline.patch.setenv("TOKENCTL_LOG_FILE", str(home / "log"))
    offline.patch.setenv("TOKENCTL_TEST_RAISE", raised)
    got = offline("health", *argv)
    done = json.loads((home / "log").read_text().splitlines()[-1])
    assert (done["event"], done["outcome"], done["exit_code"]) == ("done", outcome, got.code)


def test_the_log_has_the_code_of_a_closed_pipe(home: Path) -> None:
    assert shell("tokenctl health | true", TOKENCTL_LOG_FILE=str(home / "log"), TOKENCTL_DATABASE_URL=NOWHERE).code == 0
    done = json.loads((home / "log").read_text().splitlines()[-1])
    assert (done["outcome"], done["exit_code"]) == ("pipe-closed", 141)


def test_health_as_a_word_is_no_command(offline: CommandLine) -> None:
    assert offline("balance", "health", "--nope").code == 2
    assert offline("--json", "health").code == 2


def test_keys_and_jobs_warn_only_when_configured(cli: Cli, home: Path) -> None:
    (home / "keys.toml").write_text(f'[[key]]\nid = "a"\nsecret = "{CANARY}"\n')
    (home / "keys.toml").chmod(0o644)
    (home / "c.toml").write_text("[health]\nexpect_keys = true\nimport_max_age_s = 93600\n")
    wanted = ("health", "--check", "keys,jobs", "--config", "c.toml")
    assert cli(*wanted[:3]).code == 0
    got = cli(*wanted)
    assert got.code == 1
    assert "WARNING: 2 of 2 checks need attention (keys, jobs)" in got.err
    assert got.lines[1][2] == "no import yet, and one is expected every 26 h"
    cli.patch.setenv("GEMINI_API_KEY", CANARY)
    assert "(jobs)" in cli(*wanted).err
    cli.patch.setenv("GEMINI_API_KEYS_FILE", str(home / "keys.toml"))
    for form in ("tsv", "json", "nagios"):
        got = cli(*wanted[:3], "--format", form)
        assert got.code == 2
        assert "is open to other users (mode 0644)" in got.text
        assert CANARY not in got.text + got.err


def breakers() -> tuple[Breakers, str]:
    """The breakers of this test's home, and the name of its database's."""
    settings = load(dict(os.environ), Flags())
    runtime = Runtime(settings, begin("test", settings))
    assert runtime.database_breaker is not None
    return runtime.breakers, runtime.database_breaker


def test_it_asks_a_database_that_is_marked_down_and_closes_its_breaker(cli: Cli) -> None:
    kept, name = breakers()
    for opened in (name, "db:ffffffff"):
        kept.breaker(opened, "it", BreakerPolicy(consecutive=1, open_s=600)).failed("unavailable")
    with pytest.raises(BreakerOpen):
        kept.breaker(name, "it", BreakerPolicy()).admit()
    assert cli("balance", "u1").code == 69
    only = cli("health", "--check", "breakers")
    assert (only.code, only.lines[0][1]) == (1, "warning")
    assert only.lines[0][2].startswith(f"{name} is open after 1 failure (unavailable, next try in ")
    got = cli("health")
    assert got.code == 0
    assert got.lines[2][2] == f"{name} was open, and is closed: the database answers"
    assert cli("balance", "u1").code == 67
    assert [one.name for one in kept.states()] == ["db:ffffffff"]


def test_a_check_without_the_breakers_closes_it_too(cli: Cli) -> None:
    kept, name = breakers()
    kept.breaker(name, "it", BreakerPolicy(consecutive=1)).failed("unavailable")
    assert cli("health", "--check", "database").code == 0
    assert kept.states() == []


def test_the_breaker_of_a_dead_database_stays(offline: CommandLine) -> None:
    kept, name = breakers()
    kept.breaker(name, "it", BreakerPolicy(consecutive=1, open_s=600)).failed("unavailable")
    got = offline("health")
    assert got.code == 2
    assert [line[1] for line in got.lines[:3]] == ["critical", "unknown", "warning"]
    [state] = kept.states()
    assert (state.state, state.failures) == ("open", 1)  # and health's own failure is not counted


def test_a_disabled_trigger_is_found_by_deep(cli: Cli) -> None:
    cli.db.rows("ALTER TABLE tokenctl.token_transactions_0 DISABLE TRIGGER append_only")
    assert cli("health").code == 0
    got = cli("health", "--deep")
    assert got.code == 2
    assert "token_transactions_0.append_only is not enabled always" in got.text


def first_line(process: subprocess.Popen[bytes]) -> str:
    """What it says first on standard error: by then it has looked once."""
    assert process.stderr is not None
    return process.stderr.readline().decode().rstrip("\n")


@pytest.fixture
def alone(home: Path) -> Iterator[dict[str, str]]:
    """An environment in which nothing is configured; a server started in it is stopped at the end."""
    with farm() as made:
        env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_DATA_HOME": str(made.folder())}
        env["XDG_CONFIG_DIRS"] = "/nowhere"
        try:
            yield env
        finally:
            run("db", "stop", env=env)


def test_an_embedded_database_is_neither_made_nor_started_by_looking(alone: dict[str, str]) -> None:
    never = run("health", "--json", env=alone)
    assert never.code == 3
    first = never.json["data"]["checks"][0]
    assert (first["state"], first["detail"]) == ("unknown", "there is no embedded database yet")
    assert list(Path(alone["XDG_DATA_HOME"]).iterdir()) == []
    command = [*TOKENCTL, "health", "--wait", "60", "--format", "value"]
    with subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert first_line(waiting) == "▸ waiting up to 60 s: database: there is no embedded database yet"
        assert run("db", "start", env=alone).code == 0
        out, _ = waiting.communicate(timeout=ENOUGH_S)
        assert (waiting.returncode, out) == (0, b"ok\n")
    assert run("health", env=alone).code == 0
    assert run("db", "stop", env=alone).code == 0
    stopped = run("health", "--wait", "0.2", env=alone)
    assert stopped.code == 2
    assert stopped.lines[0][1:] == ["critical", "the embedded server does not run"]
    assert "database: tokenctl db start" in stopped.err


def test_waiting_ends_with_what_the_last_look_found(offline: CommandLine) -> None:
    got = offline("health", "--check", "database", "--wait", "0.25", "--format", "value")
    assert (got.code, got.out) == (2, b"critical\n")


def test_a_ctrl_c_while_it_waits(offline: CommandLine) -> None:
    del offline
    command = [*TOKENCTL, "health", "--wait", "600"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        first_line(waiting)
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=ENOUGH_S)
    assert waiting.returncode == -signal.SIGINT
    assert b"Traceback" not in err


def test_nothing_is_imported_that_it_does_not_need(cli: Cli) -> None:
    del cli
    program = "import sys; from tokenctl.__main__ import main; main(['health']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=ENOUGH_S, check=True
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "psycopg" in loaded
    assert loaded & {"google", "diskcache", "rich", "tenacity", "prometheus_client", "tomllib"} == set()
