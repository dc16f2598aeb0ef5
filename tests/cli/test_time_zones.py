"""Times are in UTC, whatever zone and style the database's role has."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli
from tests.cli.test_batch_import import write

_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)(?::\d\d)? UTC")


def told(text: str) -> None:
    """Each time in `text` is of these minutes."""
    times = [datetime.strptime(found, "%Y-%m-%d %H:%M").replace(tzinfo=UTC) for found in _TIME.findall(text)]
    assert times, text
    assert all(timedelta(minutes=-1) <= datetime.now(UTC) - time < timedelta(minutes=30) for time in times), text


@pytest.mark.parametrize(
    "settings",
    [
        {"timezone": "America/New_York"},
        {"timezone": "Asia/Kathmandu", "datestyle": "German"},
        {"datestyle": "SQL, DMY"},
    ],
)
def test_every_time_is_told_in_utc(cli: Cli, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        cli.db.rows(f"ALTER DATABASE {cli.db.name} SET {name} = '{value}'")
    cli.login("batch1")
    assert cli.grant("u1").code == 0
    told(cli.grant("u1").err)
    asked = ("reverse", "u1:1", "--reason", "mistake", "--yes")
    assert cli(*asked, "--request-id", "one").code == 0
    told(cli(*asked, "--request-id", "two").err)
    told(cli("show", "u1:1", "--format", "table").text)
    told(cli("statement", "u1", "--month", f"{datetime.now(UTC):%Y-%m}", "--format", "md").text)
    write("u2,1,x,k1")
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    told(cli("batch-import", "grants.csv", "--yes").err)


def test_a_lock_is_held_since_a_time_in_utc(cli: Cli) -> None:
    cli.db.rows(f"ALTER DATABASE {cli.db.name} SET timezone = 'Asia/Tokyo'")
    cli.login("batch1")
    write("u2,1,x,k1")
    batch = cli("batch-import", "grants.csv", "--dry-run", "--json").json["data"]["batch_id"]
    other = Client(cli.db, batch=batch)
    other.stage([Row("u9", 1, "k")])
    told(cli("batch-import", "grants.csv", "--yes").err)
