"""Schema changes: forward only, numbered, checked, under one lock.

`bootstrap.sql` makes roles and schemas, `migrations/` the tables, once each, and
`functions/` the write path, again whenever its text changed. All of one run is one
transaction, so a database is never between two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tokenctl import commandline
from tokenctl.errors import ConfigError, NotAllowed, SchemaMismatch
from tokenctl.storage.queries import sql_root

#: Partitions of the ledger's tables; fixed for the life of a database.
PARTITIONS = 32
#: What one migration holds while others wait.
LOCK = 0x746F6B656E  # "token": any number that nothing else on the server locks

_REGISTER = b"""
CREATE TABLE IF NOT EXISTS tokenctl.schema_migrations (
  version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), applied_by text NOT NULL DEFAULT session_user);
CREATE TABLE IF NOT EXISTS tokenctl.schema_functions (
  name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""


@dataclass(frozen=True)
class Step:
    """One file to apply: a migration (version > 0) or a file of functions (version 0)."""

    version: int
    name: str
    path: Path

    @property
    def checksum(self) -> str:
        """sha256 of the file's text."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class State:
    """What a database has: its version, and checksums by version and by function file."""

    version: int
    migrations: Mapping[int, str]
    functions: Mapping[str, str]

    def pending(self) -> list[Step]:
        """Steps to apply, in order; raises ConfigError when an applied migration's text has changed."""
        for step in migration_files():
            known = self.migrations.get(step.version)
            if known is not None and known != step.checksum:
                raise SchemaMismatch(
                    f"migration {step.name} is not the one that this database has",
                    hint="migrations are never edited; use the tokenctl that made this database, or a newer one",
                )
        new = [step for step in migration_files() if step.version not in self.migrations]
        return new + [step for step in function_files() if self.functions.get(step.name) != step.checksum]

    def is_current(self) -> bool:
        """Whether nothing is pending; a database that is ahead of us is current."""
        return self.version > newest_version() or not self.pending()

    def demand(self) -> None:
        """Raise SchemaMismatch, saying what to do, unless the database has the version that we need."""
        version = newest_version()
        if self.version < version:
            raise SchemaMismatch(
                f"the database has schema version {self.version}, this tokenctl needs {version}",
                hint=f"{commandline.line('db', 'migrate')}"
                f" (look first with: {commandline.line('db', 'migrate', '-n')})",
            )
        self.demand_not_newer()

    def demand_not_newer(self) -> None:
        """Raise SchemaMismatch when a newer tokenctl has been at this database."""
        version = newest_version()
        if self.version > version:
            raise SchemaMismatch(
                f"the database has schema version {self.version}, this tokenctl knows {version}",
                hint="install a newer tokenctl",
            )


def migration_files() -> list[Step]:
    """The numbered migrations of this tokenctl, in order."""
    paths = sorted((sql_root() / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Step(int(path.name[:4]), path.stem, path) for path in paths]


def function_files() -> list[Step]:
    """The files of functions, in the order in which they build on each other."""
    return [Step(0, path.stem, path) for path in sorted((sql_root() / "functions").glob("*.sql"))]


def newest_version() -> int:
    """The version that this tokenctl needs; read from the names alone."""
    return max(int(path.name[:4]) for path in (sql_root() / "migrations").glob("[0-9]*.sql"))


def read_state(connection: psycopg.Connection[Any]) -> State:
    """What has been applied; version 0 when there is no ledger. psycopg errors pass through."""
    row = connection.execute("SELECT to_regclass('tokenctl.schema_migrations') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return State(0, {}, {})
    done = dict(connection.execute("SELECT version, checksum FROM tokenctl.schema_migrations").fetchall())
    functions = dict(connection.execute("SELECT name, checksum FROM tokenctl.schema_functions").fetchall())
    return State(max(done, default=0), done, functions)


def migrate(connection: psycopg.Connection[Any], *, partitions: int = PARTITIONS) -> list[Step]:
    """Apply what is pending, whole or not at all, and answer the steps.

    A second caller waits for the first and then finds nothing to do. Raises
    SchemaMismatch for a database that is ahead, NotAllowed without the rights.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        state = read_state(connection)
        state.demand_not_newer()
        steps = state.pending()
        if not steps:
            return []
        try:
            if not state.version:
                _bootstrap(connection, partitions)
            connection.execute("SET LOCAL ROLE tokenctl_owner")
            connection.execute(_REGISTER)
            for step in steps:
                _apply(connection, step)
            connection.execute("RESET ROLE")
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
            raise NotAllowed(
                "this login may not change the schema",
                hint="log in as a superuser, or as a role with CREATEROLE that may create in this database"
                if not state.version
                else "GRANT tokenctl_owner TO <this login>",
            ) from error
    return steps


def _bootstrap(connection: psycopg.Connection[Any], partitions: int) -> None:
    version = connection.info.server_version
    if version < 150000:  # noqa: PLR2004 — PostgreSQL's own way of writing 15.0
        raise ConfigError(f"PostgreSQL {version // 10000} is too old", hint="tokenctl needs PostgreSQL 15 or newer")
    connection.execute((sql_root() / "bootstrap.sql").read_bytes())
    connection.execute("SELECT set_config('tokenctl.partitions', %s, true)", (str(partitions),))


def _apply(connection: psycopg.Connection[Any], step: Step) -> None:
    connection.execute(step.path.read_bytes())
    if step.version:
        connection.execute(
            "INSERT INTO tokenctl.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (step.version, step.name, step.checksum),
        )
    else:
        connection.execute(
            "INSERT INTO tokenctl.schema_functions (name, checksum) VALUES (%s, %s) ON CONFLICT (name)"
            " DO UPDATE SET checksum = excluded.checksum, applied_at = clock_timestamp()",
            (step.name, step.checksum),
        )
