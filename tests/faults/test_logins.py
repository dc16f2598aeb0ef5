"""Who is let in and by whom: passwords against scram, certificates, weaker ways to log in, and full servers."""

from __future__ import annotations

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import CommandLine
from tests.faults.servers import Own
from tests.require import tool
from tests.waiting import until

GRANT = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--new-user", "--yes")


@pytest.fixture
def cli(own: Own, line: CommandLine) -> CommandLine:
    """On the server, with the right password."""
    line.patch.setenv("TOKENCTL_DATABASE_URL", own.address(password="right"))  # noqa: S106 — a test's
    return line


def test_the_right_password_is_taken(cli: CommandLine) -> None:
    assert cli(*GRANT).code == 0
    assert cli("balance", "u1", "--format", "value").out == b"5\n"


def test_a_wrong_password_marks_nothing_as_down(own: Own, cli: CommandLine) -> None:
    """Five times, which would open the breaker if it were an outage."""
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address(password="wrong"))  # noqa: S106 — a test's
    for _ in range(5):
        got = cli("balance", "u1", "--fresh", "--json")
        assert (got.code, got.problem["type"]) == (77, "urn:tokenctl:problem:not-allowed")
        assert "wrong" not in got.err
    assert cli("breaker", "list", "--json").json["data"] == []
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address(password="right"))  # noqa: S106 — a test's
    assert cli("balance", "u1", "--fresh").code == 67  # there is nobody yet, and it answers


def test_no_password_is_a_refused_login(own: Own, cli: CommandLine) -> None:
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address())
    got = cli("balance", "u1", "--fresh")
    assert (got.code, "refuses the login" in got.err) == (77, True)


def test_a_file_of_passwords_that_others_can_read_is_told(own: Own, cli: CommandLine, tmp_path: Path) -> None:
    """Libpq passes it over, and says so only where nobody reads it."""
    file = tmp_path / "passwords"
    file.write_text("127.0.0.1:*:*:*:right\n")
    for mode, code in ((0o640, 77), (0o600, 67)):
        file.chmod(mode)
        for address, variable in ((own.address(passfile=str(file)), ""), (own.address(), str(file))):
            cli.patch.setenv("TOKENCTL_DATABASE_URL", address)
            cli.patch.setenv("PGPASSFILE", variable)
            got = cli("balance", "u1", "--fresh")
            assert (got.code, f"chmod 600 {file}" in got.err) == (code, code == 77), got
    file.chmod(0o644)
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address(password="wrong"))  # noqa: S106 — a test's
    assert "chmod" not in cli("balance", "u1", "--fresh").err


def test_a_server_that_asks_for_less_than_scram_gets_nothing(own: Own, cli: CommandLine) -> None:
    """Somebody who stands in its place would let everybody in, to read what is written."""
    own.admit("host all all 127.0.0.1/32 trust")
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address(password="right", require_auth="scram-sha-256"))  # noqa: S106
    assert cli(*GRANT).code == 77
    assert own.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(0,)]


def test_a_login_that_pg_hba_does_not_know(own: Own, cli: CommandLine) -> None:
    own.admit("host all nobody 127.0.0.1/32 trust")
    got = cli("balance", "u1", "--fresh")
    assert (got.code, "refuses the login" in got.err) == (77, True)


# --- certificates --------------------------------------------------------------


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt",
        )  # fmt: skip
        self.certificate = folder / "ca.crt"

    def sign(self, name: str, *, days: int = 2) -> tuple[bytes, bytes]:
        """A server's certificate for `name`, and its key."""
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={'IP' if name[0].isdigit() else 'DNS'}:{name}",
            "-keyout", "s.key", "-out", "s.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", "s.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-copy_extensions", "copy", "-days", str(days), "-out", "s.crt",
        )  # fmt: skip
        return (self.folder / "s.crt").read_bytes(), (self.folder / "s.key").read_bytes()

    def _openssl(self, *argv: str) -> None:
        subprocess.run([tool("openssl"), *argv], cwd=self.folder, check=True, capture_output=True, timeout=60)


def shown(own: Own, certificate: bytes, key: bytes) -> None:
    """The server shows this certificate from now on."""
    for name, content in (("server.crt", certificate), ("server.key", key)):
        # Written in place of a file that is the server's own, so that it may read the new one.
        path = own.data / name
        if not path.exists():
            (own.data / "pg_ident.conf").rename(path)
        path.write_bytes(content)
        path.chmod(0o600)
        (own.data / "pg_ident.conf").touch()
    own.set("ssl", "on")
    own.rows("SELECT pg_reload_conf()")


def test_only_the_right_certificate_is_spoken_to(own: Own, cli: CommandLine, tmp_path: Path) -> None:
    right, impostor = Authority(tmp_path / "right"), Authority(tmp_path / "impostor")
    ours = {"password": "right", "sslmode": "verify-full", "sslrootcert": str(right.certificate)}
    cases = [
        ("the right one", right.sign("127.0.0.1"), 0),
        ("an impostor's", impostor.sign("127.0.0.1"), 78),
        ("another server's", right.sign("db.example.org"), 78),
        ("one that is over", right.sign("127.0.0.1", days=-1), 78),
    ]
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.address(**ours))
    assert cli(*GRANT, "--ticket", "tls-none").code == 78  # no certificate at all, and so no TLS
    for number, (what, (certificate, key), code) in enumerate(cases):
        shown(own, certificate, key)
        got = cli(*GRANT, "--ticket", f"tls-{number}", "--json")
        assert got.code == code, (what, got)
        if code:
            assert "certificate" in got.problem["detail"], (what, got)
    assert cli("breaker", "list", "--json").json["data"] == []
    assert own.rows("SELECT count(*) FROM tokenctl.token_transactions WHERE ticket LIKE 'tls%%'") == [(1,)]


# --- a full server -------------------------------------------------------------


def test_a_server_without_a_free_connection_is_waited_for(own: Own, cli: CommandLine) -> None:
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    cli.patch.setenv("TOKENCTL_DATABASE_URL", own.conninfo("support1"))
    try:
        with contextlib.suppress(psycopg.OperationalError):
            taken.extend(psycopg.connect(own.conninfo("support2")) for _ in range(100))
        got = cli("balance", "u1", "--fresh", "--timeout", "1")
        assert (got.code, "has no connection free" in got.err) == (69, True)
        assert cli("breaker", "reset", "--all").code == 0
        met = refused(own)

        def leave() -> None:
            until(lambda: refused(own) > met, "the grant is refused a connection")
            taken.pop().close()

        with ThreadPoolExecutor(1) as pool:
            left = pool.submit(leave)
            assert cli(*GRANT, "--ticket", "T9").code == 0
            left.result()
    finally:
        for one in taken:
            one.close()


def refused(own: Own) -> int:
    """How often the server's log says that it is full."""
    log = own.embedded.status().log_file.read_text()
    return log.count("too many clients") + log.count("connection slots")
