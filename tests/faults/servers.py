"""PostgreSQL servers for faults that need one of their own: on a port, with settings that the embedded one refuses."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.integration.embedded_servers import ENOUGH_S, Farm
from tests.pg import LOGINS, check
from tokenctl.storage import migrations
from tokenctl.storage.embedded import EmbeddedServer, binaries, server
from tokenctl.storage.embedded.options import server_arguments


def free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Own:
    """A server on 127.0.0.1, and on its socket as every embedded one is."""

    def __init__(self, embedded: EmbeddedServer, settings: Mapping[str, str]) -> None:
        self.embedded = embedded
        self.port = free_port()
        self.settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), **settings}

    def start(self, deadline_s: float = ENOUGH_S) -> None:
        with self._as_its_own():
            self.embedded.ensure_running(deadline_s=deadline_s)

    def stop(self) -> None:
        with self._as_its_own():
            self.embedded.stop("immediate", deadline_s=ENOUGH_S)

    @property
    def data(self) -> Path:
        return self.embedded.status().data_dir

    def socket(self) -> str:
        """The folder of its socket."""
        return str(conninfo_to_dict(self.embedded.conninfo())["host"])

    def conninfo(self, user: str = "postgres", dbname: str = "tokenctl", **more: str) -> str:
        """By its socket, where everybody is trusted."""
        parts = {"host": self.socket(), "port": self.port, "user": user, "dbname": dbname, **more}
        return " ".join(f"{name}={value}" for name, value in parts.items())

    def address(self, user: str = "support1", **more: str) -> str:
        """By its port, where `admit` decides."""
        parts = {"host": "127.0.0.1", "port": str(self.port), "user": user, "dbname": "tokenctl", **more}
        return " ".join(f"{name}={value}" for name, value in parts.items())

    def check(self) -> None:
        """The invariants that hold after every test."""
        check(self.rows)

    def rows(self, statement: str, *values: object, dbname: str = "tokenctl") -> list[tuple[Any, ...]]:
        """The rows of a statement, as the superuser."""
        with psycopg.connect(self.conninfo(dbname=dbname), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def admit(self, *lines: str) -> None:
        """These lines of pg_hba.conf, for the port; the socket trusts everybody."""
        everybody = ["local all all trust", "local replication all trust"]
        (self.data / "pg_hba.conf").write_text("\n".join([*everybody, *lines, ""]))
        self.rows("SELECT pg_reload_conf()")

    def set(self, name: str, value: str) -> None:
        """A setting that needs no restart."""
        self.rows(f"ALTER SYSTEM SET {name} = '{value}'")
        self.rows("SELECT pg_reload_conf()")

    def make_ledger(self) -> None:
        """An empty ledger with everybody's login, and one account."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            migrations.migrate(connection, partitions=4)
            for login, role in LOGINS.items():
                connection.execute(f"DROP ROLE IF EXISTS {login}".encode())
                connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role} PASSWORD 'right'".encode())

    def standby(self, farm: Farm, **settings: str) -> Own:
        """A server that follows this one by streaming, not started."""
        folder = farm.folder()
        made = Own(farm.server(folder / "pg"), settings)
        (folder / "pg").mkdir(mode=0o700)
        program = binaries.programs_dir(farm.programs) / "pg_basebackup"
        where = ["-h", self.socket(), "-p", str(self.port), "-U", "postgres"]
        subprocess.run(
            [program, "-D", folder / "pg" / "data", *where, "-c", "fast", "-R"],
            check=True, capture_output=True, timeout=ENOUGH_S,
        )  # fmt: skip
        return made

    @contextmanager
    def _as_its_own(self) -> Iterator[None]:
        """The embedded server as it would be with a port and settings of its own."""
        more = [argument for name, value in self.settings.items() for argument in ("-c", f"{name}={value}")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "PORT", self.port)
            patch.setattr(server, "server_arguments", lambda *places: [*server_arguments(*places), *more])
            yield
