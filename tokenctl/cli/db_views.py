"""What `db` prints: the state of the database, its address, and schema changes."""

from __future__ import annotations

from collections.abc import Sequence

from tokenctl.cli.views import pairs
from tokenctl.output import Cell, Column, Count, Schema, Table, TypedDict, View


class ServerData(TypedDict):
    """The embedded server; `was_running` is null where it was started."""

    running: bool
    was_running: bool | None
    pid: Count | None
    data: str


class StatusData(TypedDict):
    """Which database is used and what its schema lacks; `needs` is the newest version that this tokenctl knows."""

    profile: str
    database: str
    origin: str
    running: bool
    server: str | None
    schema: Count | None
    pending: list[str]
    needs: Count


class UrlData(TypedDict):
    """A connection string that psql accepts."""

    url: str


class StepData(TypedDict):
    """A schema change; `version` is null for a file of functions."""

    version: Count | None
    name: str


SERVER = Schema("tokenctl.db_server.v1", ServerData)
STATUS = Schema("tokenctl.db_status.v1", StatusData)
URL = Schema("tokenctl.db_url.v1", UrlData)
MIGRATIONS = Schema("tokenctl.db_migrations.v1", list[StepData])


def server(facts: ServerData) -> View[ServerData]:
    """The embedded server as it is now."""
    return View(SERVER, facts, pairs(facts))


def status(facts: StatusData) -> View[StatusData]:
    """The database as it is now."""
    return View(STATUS, facts, pairs({**facts, "pending": ", ".join(facts["pending"]) or None}))


def url(address: str) -> View[UrlData]:
    """The address alone, for scripts."""
    return View(URL, {"url": address}, Table((Column("URL"),), [(address,)], bare=True), value=address)


def steps(applied: Sequence[tuple[int, str]]) -> View[list[StepData]]:
    """Schema changes, migrations with their version, function files without."""
    data: list[StepData] = [{"version": version or None, "name": name} for version, name in applied]
    rows: list[tuple[Cell, ...]] = [(version or None, name) for version, name in applied]
    return View(MIGRATIONS, data, Table((Column("VERSION", number=True), Column("NAME")), rows))
