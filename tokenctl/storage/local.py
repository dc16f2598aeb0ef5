"""The ledger in the embedded server: its login, its migrations, its address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tokenctl.resilience.deadline import Deadline
from tokenctl.storage import migrations
from tokenctl.storage.database import Connection, Database
from tokenctl.storage.embedded import DATABASE, EmbeddedServer

#: The login that commands use: a member of tokenctl_admin and no superuser, so that
#: the embedded ledger is guarded by the same roles as any other.
LOGIN = "tokenctl_local"
_START_TIMEOUT_S = 60.0
_NO_LIMIT = Deadline(None)

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


def prepare(server: EmbeddedServer, deadline: Deadline = _NO_LIMIT) -> str:
    """Start the server when it does not run, bring its ledger up to date, answer its conninfo."""
    with maintenance(server, deadline) as connection, connection.transaction():
        migrations.migrate(connection)  # in one transaction with the login: first commands may come in pairs
        connection.execute(_LOGIN)
    return conninfo(server)


@contextlib.contextmanager
def maintenance(server: EmbeddedServer, deadline: Deadline = _NO_LIMIT) -> Iterator[Connection]:
    """A superuser's connection to the embedded server, which is started when it does not run.

    At `deadline` it ends, and a start without one after a minute.
    """
    left = deadline.left()
    server.ensure_running(deadline_s=_START_TIMEOUT_S if left is None else min(left, _START_TIMEOUT_S))
    database = Database(server.conninfo(dbname=DATABASE), application_name="tokenctl", deadline=deadline)
    with database.bare() as connection, database.watched(connection):
        yield connection
