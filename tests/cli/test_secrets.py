"""Passwords and keys never come out: not by any command, not by any fault, not by any way out.

A canary stands for the secret, in the database's address, in PGPASSWORD and in
GEMINI_API_KEY. Every command is run under every fault, as talkative as it can be; then
standard output and error, the log and everything that was written are searched for it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from typer.main import get_command

from tests.cli import hostile_server
from tests.cli.running import TOKENCTL, Cli, CommandLine, Ran, environment, run
from tests.pg import post
from tests.require import missing
from tests.waiting import until
from tokenctl.cli.app import app
from tokenctl.errors import Bug, ConfigError, HealthUnknown

CANARY = "S3CRET-canary"
ENCODED = "".join(f"%{byte:02x}" for byte in CANARY.encode())
#: Either half of it, in any spelling of a URI: half a password is a leak too.
LEAK = re.compile(rb"3cret|canary|%33%43%52|%63%61%6e", re.IGNORECASE)
#: What a command must be given, by the name of its parameter; and what some want besides.
VALUES = {
    "user": "u1",
    "users": "u1",
    "amount": "5",
    "reason": "goodwill",
    "file": "grants.csv",
    "transaction": "u1:1",
    "batch": "0123456789ab",
    "key": "env",
    "hold_id": "0123456789ab",
}
MORE = {"reverse": ["u1:1"], "breaker reset": ["--all"]}
UNTOLD = "untold"
#: Usage errors by their nature: the database is not the embedded one.
EMBEDDED_ONLY = {"db start", "db stop"}


def commands(group: Any, *above: str) -> Iterator[tuple[str, list[str]]]:
    """Every command of the program: its name, and a command line for it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield " ".join([*above, name]), [*above, name, *_arguments(" ".join([*above, name]), command)]


def _arguments(name: str, command: Any) -> list[str]:
    line = list(MORE.get(name, []))
    for parameter in command.params:
        if parameter.required:
            option = [parameter.opts[0]] if parameter.param_type_name == "option" else []
            line += [*option, VALUES.get(parameter.name, UNTOLD)]
        if parameter.name == "yes":
            line.append("--yes")
    return line


BUILT = get_command(app)
LINES = dict(commands(BUILT))
#: Those that show an address, its profile or its breaker, or write something down about it; each twice, so that
#: one is for people and the next for programs.
SHOWING = [
    name
    for pair in ("balance", "grant-bonus", "batch-import", "health", "db url", "db status", "db psql", "breaker list")
    for name in (pair, pair)
] + ["metrics"]


def test_every_command_is_given_what_it_must_be() -> None:
    assert [name for name, line in LINES.items() if UNTOLD in line] == [], "tell in VALUES what these commands want"


def this_machine_only(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for getaddrinfo: no test asks the network, not even for a host's address."""

    def answer(host: object, *more: Any, **named: Any) -> Any:
        if host not in (None, "127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *more, **named)

    return answer


class Searched:
    """Runs commands and searches all that comes out."""

    def __init__(self, cli: CommandLine, home: Path, outside: Path) -> None:
        self.cli = cli
        self._home = home
        #: A folder that is not searched: what holds the secret on purpose.
        self.outside = outside
        self.log = home / "log"
        Path("grants.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,goodwill,k1\n")
        for name, value in (("TOKENCTL_LOG_FILE", str(self.log)), ("TOKENCTL_DEBUG", "1")):
            cli.patch.setenv(name, value)
        for name in ("PGPASSWORD", "GEMINI_API_KEY"):
            cli.patch.setenv(name, f"{CANARY}-{name}")
        self._config(home / "config" / "tokenctl" / "config.toml", '[log]\nlevel = "debug"\n')
        cli.patch.setattr("tokenctl.cli.main.app", BUILT)  # built once: that is half of a run's time
        cli.patch.setattr(os, "execve", self._execute)
        cli.patch.setattr(socket, "getaddrinfo", this_machine_only(socket.getaddrinfo))

    def every_command(
        self, *more: str, codes: Sequence[int] = (), verbose: str = "-v", only: Sequence[str] = ()
    ) -> None:
        """Run each command, or `only` some, some for people and some for programs.

        `codes` are those that it may end with; without them every one but that of a bug.
        """
        for number, (name, line) in enumerate((name, LINES[name]) for name in only or LINES):
            # Its own state, or a breaker would soon keep every command from the fault.
            self.cli.patch.setenv("XDG_STATE_HOME", str(self._home / "state" / str(number)))
            got = self.cli(*line, *more, verbose, *(["--json"] if number % 2 else []))
            self.search(name, got)
            assert got.code in codes if codes else got.code != Bug.exit_code, (name, got)

    def search(self, name: str, got: Ran) -> None:
        """Fail when the canary is in what was printed or written."""
        assert not LEAK.search(got.out), (name, got)
        assert not LEAK.search(got.err.encode()), (name, got)
        for path in (path for path in self._home.rglob("*") if path.is_file()):
            assert not LEAK.search(path.read_bytes()), (name, path)

    def address(self, url: str) -> None:
        self.cli.patch.setenv("TOKENCTL_DATABASE_URL", url)

    def config(self, text: str) -> None:
        """Use a configuration file that may hold the secret."""
        self._config(self.outside / "config.toml", text)
        self.cli.patch.setenv("TOKENCTL_CONFIG", str(self.outside / "config.toml"))
        self.cli.patch.delenv("TOKENCTL_DATABASE_URL", raising=False)

    def _config(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _execute(self, program: str, argv: list[str], _environ: dict[str, str]) -> NoReturn:
        assert not LEAK.search(" ".join(argv).encode()), argv
        raise ConfigError(f"{program} is not started by a test")


@pytest.fixture
def nowhere(offline: CommandLine, home: Path, tmp_path: Path) -> Searched:
    """Where no database answers, and nobody waits for one."""
    offline.patch.setenv("TOKENCTL_TIMEOUT", "0.05")
    return Searched(offline, home, tmp_path)


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
        nowhere.cli.patch.setenv("TOKENCTL_TIMEOUT", "0.1" if manner == "silent" else "0.2")
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


@pytest.mark.parametrize("url", [
    "postgresql://u:S3CRET/canary@127.0.0.1:1/x",
    "postgresql://u:S3CRET@canary@127.0.0.1:1/x",
    "postgresql://u:12345/S3CRET@127.0.0.1:1/canary",
    "postgresql://u:S3CRET?canary@h@127.0.0.1:1/x",
    "postgresql://u:S3CRET:canary/x@127.0.0.1:1/x",
    "postgresql://u:S3CRET%2/canary@127.0.0.1:1/x",
    f"postgresql://u@127.0.0.1:{CANARY}/x",
    f"postgresql://u:p@127.0.0.1:1,u:{CANARY}@127.0.0.1:2/x",
    f"postgresql://127.0.0.1:1/postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/postgresql%3A%2F%2Fu%3A{CANARY}%40h",
    f"host=127.0.0.1 port=1 dbname=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"host=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"host=127.0.0.1;port=1;password={CANARY};dbname=x",
    f"host=127.0.0.1 port=1 dbname='x pwd={CANARY}'",
    f"host=127.0.0.1 port=1 user='u password = {CANARY}'",
    f"host=127.0.0.1 port={CANARY} dbname=x",
    f"service=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/x?sslpassword={CANARY}",
    f"postgresql://127.0.0.1:1/x?oauth_client_secret={CANARY}",
    f"postgresql://127.0.0.1:1/x?scram_client_key={CANARY}",
    f"postgresql://127.0.0.1:1/x?scram_server_key={ENCODED}",
    f"host=127.0.0.1 port=1 sslpassword='{CANARY}'",
    f"jdbc:postgresql://127.0.0.1:1/x?user=u&password={CANARY}",
    f"postgresql+psycopg://u:{CANARY}@127.0.0.1:1/x",
    f" postgresql://u:{CANARY}@127.0.0.1:1/x",
])  # fmt: skip
def test_a_password_where_none_belongs(nowhere: Searched, url: str) -> None:
    """One that is not percent-encoded, a URI for a name, and the secrets that are not called password."""
    nowhere.address(url)
    nowhere.every_command(only=SHOWING)


@pytest.mark.parametrize("name", ["PGDATABASE", "PGHOST", "PGUSER", "PGPORT", "PGSERVICE"])
def test_an_address_in_a_variable_of_libpq(nowhere: Searched, name: str) -> None:
    nowhere.cli.patch.delenv("TOKENCTL_DATABASE_URL", raising=False)
    nowhere.cli.patch.setenv("PGHOST", "127.0.0.1")
    nowhere.cli.patch.setenv("PGPORT", "1")
    nowhere.cli.patch.setenv(name, f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    nowhere.every_command(only=SHOWING)


@pytest.mark.parametrize("name", [
    "TOKENCTL_PROFILE", "TOKENCTL_TIMEOUT", "TOKENCTL_FORMAT", "TOKENCTL_REQUEST_ID", "TOKENCTL_CONFIG",
    "TOKENCTL_LOG_FILE", "TOKENCTL_OPERATOR", "TOKENCTL_CACHE_DIR",
])  # fmt: skip
@pytest.mark.parametrize("url", [f"postgresql://u:{CANARY}@127.0.0.1:1/x", f"host=127.0.0.1 password={CANARY}"])
def test_an_address_in_a_variable_of_ours(nowhere: Searched, name: str, url: str) -> None:
    nowhere.cli.patch.setenv("PGHOST", "127.0.0.1")
    nowhere.cli.patch.setenv("PGPORT", "1")
    nowhere.cli.patch.setenv(name, url)
    nowhere.every_command(only=SHOWING, codes=(ConfigError.exit_code, HealthUnknown.exit_code))


@pytest.mark.parametrize("text", [
    f'[profiles.p]\ndatabase = ["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    '[profiles.p]\ndatabase = ["S3CRET", "canary"]\n',
    f'[profiles.p.database]\nurl = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'profile = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[profiles."postgresql://u:{CANARY}@127.0.0.1:1/x"]\nprotected = true\n',
    f'["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    f'"postgresql://u:{CANARY}@127.0.0.1:1/x" = 1\n"postgresql://u:{CANARY}@127.0.0.1:1/x" = 2\n',
    f'["postgresql://u:{CANARY}@h/x"]\na = 1\n["postgresql://u:{CANARY}@h/x"]\nb = 1\n',
    f'timeout = "host=h password={CANARY}"\n',
    f'reasons = ["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    f'[limits]\ngrant = {{ database = "postgresql://u:{CANARY}@h/x" }}\n',
    f'[gemini]\nbase_url = "https://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[log]\nlevel = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[rate_limits.balance]\nlimit = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
])  # fmt: skip
def test_an_address_where_another_value_belongs(nowhere: Searched, text: str) -> None:
    nowhere.config(text)
    nowhere.every_command(only=SHOWING)


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
