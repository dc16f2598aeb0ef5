"""The ledger in the embedded server: its login, its migrations, its address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from tokenctl.storage import failures, migrations
from tokenctl.storage.database import Connection
from tokenctl.storage.embedded import DATABASE, EmbeddedServer

#: The login that commands use: a member of tokenctl_admin and no superuser, so that
#: the embedded ledger is guarded by the same roles as any other.
LOGIN = "tokenctl_local"
START_TIMEOUT_S = 60.0

_LOGIN = f"""
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{LOGIN}') THEN
    CREATE ROLE {LOGIN} LOGIN;
    GRANT tokenctl_admin TO {LOGIN};
  END IF;
END
$$
""".encode()


def conninfo(server: EmbeddedServer) -> str:
    """Where the ledger is, whether the server runs or not."""
    return server.conninfo(user=LOGIN, dbname=DATABASE)


def prepare(server: EmbeddedServer) -> str:
    """Start the server when it does not run, bring its ledger up to date, answer its conninfo."""
    with maintenance(server) as connection, connection.transaction():
        migrations.migrate(connection)  # in one transaction with the login: first commands may come in pairs
        connection.execute(_LOGIN)
    return conninfo(server)


@contextlib.contextmanager
def maintenance(server: EmbeddedServer) -> Iterator[Connection]:
    """A superuser's connection to the embedded server, which is started when it does not run."""
    server.ensure_running(deadline_s=START_TIMEOUT_S)
    try:
        with psycopg.connect(server.conninfo(dbname=DATABASE), autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise failures.working(error, lost=False) from error
