"""Passwords and keys never come out: not by any command, not by any fault, not by any way out.

A canary stands for the secret, in the database's address, in PGPASSWORD and in
GEMINI_API_KEY. Every command is run under every fault, as talkative as it can be; then
standard output and error, the log and everything that was written are searched for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli import hostile_server
from tests.cli.running import TOKENCTL, Cli, Ran, environment, run
from tests.cli.searched import CANARY, EMBEDDED_ONLY, ENCODED, LEAK, LINES, UNTOLD, Searched
from tests.pg import post
from tests.require import missing
from tests.waiting import until
from tokenctl.errors import Bug, HealthUnknown


def test_every_command_is_given_what_it_must_be() -> None:
    assert [name for name, line in LINES.items() if UNTOLD in line] == [], "tell in VALUES what these commands want"


@pytest.fixture
def ledger(cli: Cli, home: Path, tmp_path: Path) -> Searched:
    """On a ledger that takes everybody's password."""
    post(cli.db.connect("support1"), "u1")
    searched = Searched(cli, home, tmp_path)
    searched.address(with_password(cli))
    return searched


def with_password(cli: Cli, user: str = "support1", **instead: str) -> str:
    """The ledger's address with the canary for a password, and other parts instead of its own."""
    parts = dict(part.split("=", 1) for part in cli.db.conninfo(user).replace("'", "").split())
    return " ".join(f"{key}={value}" for key, value in {**parts, "password": CANARY, **instead}.items())


@pytest.mark.parametrize("url", [
    f"postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"postgres://u:{ENCODED}@127.0.0.1:1/x",
    f"postgresql://u:{CANARY}@127.0.0.1:1,127.0.0.1:2/x?target_session_attrs=read-write",
    f"postgresql://127.0.0.1:1/x?user=u&password={CANARY}",
    f"postgresql://127.0.0.1:1/x?password={ENCODED}",
    f"host=127.0.0.1 port=1 user=u password={CANARY} dbname=x",
    f"host=127.0.0.1 port=1 password = '{CANARY} it\\'s' dbname=x",
    f"host=/nowhere password={CANARY} dbname=x",
    f"host = 127.0.0.1 port = 1 password = '{CANARY} with blanks' dbname = x",
    f"host=127.0.0.1 port=1 password={CANARY}\\ with\\ blanks",
    f"postgresql://u:{CANARY}%20with%2Fblanks@127.0.0.1:1/x",
    f"postgresql:///x?host=127.0.0.1&port=1&password={CANARY}%26more&user=u",
    f"postgresql://u:{CANARY}@/x?host=127.0.0.1,127.0.0.1&port=1,2",
    "postgresql://u@127.0.0.1:1/x",
])  # fmt: skip
def test_where_nothing_listens(nowhere: Searched, url: str) -> None:
    """However the address spells the password; the last one leaves it to PGPASSWORD."""
    nowhere.address(url)
    nowhere.every_command()
    assert "unavailable" in nowhere.log.read_text()


@pytest.mark.parametrize("url", [
    f"nonsense {CANARY}",
    f"host=x pasword={CANARY}",
    f"password={CANARY} host",
    f"postgresql://u:{CANARY}@127.0.0.1:port/x",
    f"postgresql://u:{CANARY}@127.0.0.1:99999/x",
    f"postgresql://u:{CANARY}@127.0.0.1:1/x?sslmode=nonsense",
    f"postgresql://u:{CANARY}@127.0.0.1:1/x?pasword={CANARY}",
    f"postgresql://u:{CANARY}@[::1/x",
    f"postgresql://u:%zz{CANARY}@127.0.0.1:1/x",
    f"mysql://u:{CANARY}@127.0.0.1:1/x",
    f"service=missing password={CANARY}",
])  # fmt: skip
def test_an_address_that_leads_nowhere(nowhere: Searched, url: str) -> None:
    nowhere.address(url)
    nowhere.every_command()


@pytest.mark.parametrize("manner", hostile_server.MANNERS)
def test_a_server_that_is_none(nowhere: Searched, manner: str) -> None:
    with hostile_server.serving(manner) as port:
        nowhere.address(f"postgresql://u:{CANARY}@127.0.0.1:{port}/x?gssencmode=disable")
        patience = {"silent": "0.1", "repeating_later": "5"}.get(manner, "0.2")  # it answers
        nowhere.cli.patch.setenv("TOKENCTL_TIMEOUT", patience)
        nowhere.every_command()
        if manner == "repeating_later":
            assert '"outcome": "sick"' in nowhere.log.read_text()
            nowhere.cli.patch.delenv("TOKENCTL_LOG_FILE")  # a library's warning then goes its own way
            nowhere.every_command(verbose="-q")


def test_files_of_libpq_that_hold_the_password(nowhere: Searched) -> None:
    passwords, services = nowhere.outside / "passwords", nowhere.outside / "services"
    passwords.write_text(f"*:*:*:*:{CANARY}\n")
    passwords.chmod(0o600)
    services.write_text(f"[ledger]\nhost=127.0.0.1\nport=1\npassword={CANARY}\n[broken]\npassword {CANARY}\n")
    nowhere.cli.patch.delenv("PGPASSWORD")
    nowhere.cli.patch.setenv("PGPASSFILE", str(passwords))
    nowhere.every_command()
    nowhere.cli.patch.setenv("PGSERVICEFILE", str(services))
    for service in ("ledger", "broken"):
        nowhere.address(f"service={service}")
        nowhere.every_command()


@pytest.mark.parametrize("text", [
    f'profile = "p"\n[profiles.p]\ndatabase = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[profiles.p]\ndatabase = "postgresql://u:{CANARY}@127.0.0.1:1/x\n',
    f'[profiles.p]\ndatabse = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[profiles.p]\npassword = "{CANARY}"\n',
    f'[gemini]\nkey = "{CANARY}"\n',
])  # fmt: skip
def test_a_configuration_that_holds_the_secret(nowhere: Searched, text: str) -> None:
    nowhere.config(text)
    nowhere.every_command("--profile", "p")


def test_folders_that_cannot_be_made(nowhere: Searched) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        nowhere.cli.patch.setenv(name, "/proc/nowhere")
    nowhere.cli.patch.setenv("STATE_DIRECTORY", "/proc/nowhere")
    nowhere.address(f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    nowhere.every_command()


@pytest.mark.parametrize("log", ["/dev/full", "/proc/nowhere/log", "-"])
def test_a_log_that_cannot_be_written_and_one_that_is_standard_error(nowhere: Searched, log: str) -> None:
    nowhere.cli.patch.setenv("TOKENCTL_LOG_FILE", log)
    nowhere.address(f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    nowhere.every_command()


def test_an_unexpected_failure(nowhere: Searched) -> None:
    nowhere.cli.patch.setenv("TOKENCTL_TEST_RAISE", CANARY)
    nowhere.address(f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    nowhere.every_command(codes=(Bug.exit_code, HealthUnknown.exit_code))
    assert '"event": "exception"' in nowhere.log.read_text()


def test_where_all_is_well_every_line_is_understood(ledger: Searched) -> None:
    """It also shows that the other tests run commands and not usage errors."""
    ledger.every_command()
    for name, line in LINES.items():
        if name not in EMBEDDED_ONLY:
            assert "urn:tokenctl:problem:usage" not in ledger.cli(*line, "--json").err, name
    assert '"outcome": "ok"' in ledger.log.read_text()


@pytest.mark.parametrize(
    ("user", "database"),
    [("support1", "missing"), ("support1", "postgres"), ("nobody_at_all", ""), ("stranger", ""), (CANARY[:3], "")],
    ids=["no database", "no ledger", "no role", "no rights", "half a name"],
)
def test_a_login_that_is_refused_or_useless(ledger: Searched, cli: Cli, user: str, database: str) -> None:
    instead = {"dbname": database} if database else {}
    ledger.address(with_password(cli, user, **instead))
    ledger.every_command()


def test_an_error_of_the_database_that_repeats_it(ledger: Searched, cli: Cli) -> None:
    for table in ("token_transactions", "import_batches", "audit_log"):
        cli.db.rows(
            f"CREATE FUNCTION tokenctl.tell_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE WARNING '{CANARY}';"
            f" RAISE EXCEPTION '{CANARY}' USING ERRCODE = 'XX999', DETAIL = '{CANARY}', HINT = '{CANARY}'; END $$"
        )
        cli.db.rows(
            f"CREATE TRIGGER tell BEFORE INSERT ON tokenctl.{table} FOR EACH ROW"
            f" EXECUTE FUNCTION tokenctl.tell_{table}()"
        )
    ledger.every_command(codes=range(80))
    assert ledger.cli(*LINES["grant-bonus"]).code == Bug.exit_code


def test_an_output_that_is_full(ledger: Searched) -> None:
    if not Path("/dev/full").is_char_device():
        missing("this system has no /dev/full")
    for name in ("balance", "grant-bonus", "db url"):
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            done = subprocess.run(
                [*TOKENCTL, *LINES[name], "-v"], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
            )
        assert done.returncode == 74
        ledger.search(name, Ran(done.returncode, b"", done.stderr.decode()))


def test_arguments_of_running_processes(nowhere: Searched) -> None:
    """Everybody on the machine may read them."""
    if not Path("/proc/self/cmdline").exists():
        missing("this system has no /proc")
    nowhere.cli.patch.setenv("TOKENCTL_TIMEOUT", "60")
    with hostile_server.serving("silent") as port:
        nowhere.address(f"postgresql://u:{quote(CANARY)}@127.0.0.1:{port}/x")
        process = subprocess.Popen([*TOKENCTL, *LINES["balance"]], env=environment(), stderr=subprocess.DEVNULL)
        try:
            until(lambda: connected(process.pid), "it is connected")
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                for child in (thread / "children").read_text().split():
                    shown += Path(f"/proc/{child}/cmdline").read_bytes()
        finally:
            process.kill()
            process.wait()
    assert b"balance" in shown
    assert not LEAK.search(shown)


def connected(pid: int) -> bool:
    """Whether the process has a socket."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(descriptor.readlink()).startswith("socket:"):
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False


def test_arguments_of_psql(ledger: Searched) -> None:
    """A program in psql's place prints its own; the password goes by its environment."""
    program = ledger.outside / "psql"
    program.write_text(f"#!{sys.executable}\nimport os, sys\nprint(sys.argv, 'PGPASSWORD' in os.environ)\n")
    program.chmod(0o755)
    ledger.cli.patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    got = run("db", "psql", "-v")
    assert "dbname" in got.text or "postgresql:///" in got.text
    assert "True" in got.text
    ledger.search("db psql", got)
