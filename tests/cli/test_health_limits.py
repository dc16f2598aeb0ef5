"""`health --warn` and `--crit`: limits that somebody chose for what is measured."""

from __future__ import annotations

import pytest

from tests.cli.running import Cli
from tests.cli.test_health import BASIC
from tests.unit.cli.test_health_views import LINE
from tokenctl.services.health_rules import GAUGES


def test_limits_that_somebody_chose(cli: Cli) -> None:
    got = cli("health", "--warn", "db_connections=0", "--check", "database")
    assert (got.code, got.lines[0][1]) == (1, "warning")
    assert got.lines[0][2].endswith(" of 50 connections are taken")
    got = cli("health", "--warn", "db_connections=0", "--crit", "db_connections=@1:50", "--crit", "keys=1:")
    assert got.code == 2
    assert {line[0]: line[1] for line in got.lines} == dict.fromkeys(BASIC, "ok") | {
        "database": "critical",
        "keys": "critical",
    }
    assert {line[0]: line[2] for line in got.lines}["keys"] == "keys is 0"
    plugin = cli("health", "--warn=state_free=1000:", "--crit=state_free=999999999999999:", "--format", "nagios")
    assert (plugin.code, plugin.err) == (2, "")
    assert LINE.fullmatch(plugin.text)
    assert plugin.text.startswith("TOKENCTL CRITICAL - state: ")
    assert ";1000:;999999999999999:;0" in plugin.text
    rows = {line[0]: line[1:] for line in cli("health", "--metrics", "--crit", "db_latency=0.001:20").lines}
    assert rows["db_latency"][1].endswith("(warning above 100 ms, critical outside 1 ms to 20 s)")


def test_a_chosen_limit_takes_the_place_of_the_number_s_own(cli: Cli) -> None:
    for _ in range(41):  # of 50, and 40 are the limit
        cli.db.connect("support1")
    assert cli("health", "--check", "database").code == 1
    assert cli("health", "--check", "database", "--warn", "db_connections=48").code == 0
    document = cli("health", "--check", "database", "--warn", "db_connections=48", "--json").json
    [used] = [one for one in document["data"]["checks"][0]["metrics"] if one["name"] == "db_connections"]
    assert (used["state"], used["warning"], used["critical"]) == ("ok", "48", "47.5")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("--warn", "db_speed=1"), "--warn: there is no measured 'db_speed'; there are db_connect, db_latency"),
        (("--crit", "db_latency"), "--crit: 'db_latency' is no NAME=RANGE"),
        (("--crit", "keys=5:1"), "the range ends before it begins"),
        (("--crit", "keys=1", "--crit", "keys=2"), "--crit: keys is given twice"),
        (("--check", "keys", "--warn", "db_latency=1"), "measured by the check database, which is not asked for"),
        (("--warn", "triggers_bad=1"), "measured by the check triggers, which is not asked for"),
    ],
)
def test_limits_that_are_none(cli: Cli, argv: tuple[str, ...], why: str) -> None:
    got = cli("health", *argv)
    assert (got.code, got.out) == (3, b"")
    assert why in got.err


def test_every_number_can_be_given_a_limit(cli: Cli) -> None:
    document = cli("health", "--deep", "--json").json
    measured = {one["name"]: check["name"] for check in document["data"]["checks"] for one in check["metrics"]}
    assert measured.items() <= GAUGES.items()
    # These two are there only with a standby and after an import.
    assert GAUGES.keys() - measured.keys() == {"db_replication_lag", "import_age"}
