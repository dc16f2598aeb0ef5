"""`tokenctl holds`: what is promised, released by hand, tidied up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Cli, environment, on_terminal
from tests.cli.test_cached_balance import lossy_address
from tests.integration.test_generations import ID, OTHER, capture, claim, opened
from tests.integration.test_generations import release as freed
from tests.pg import post
from tests.proxy import WITHIN_REPLY
from tokenctl.models import Generation, Hold
from tokenctl.storage.generations import GenerationStore


@pytest.fixture
def held(cli: Cli) -> Cli:
    """u1 has 100 tokens and a hold of 40 that a job is working on."""
    support = cli.db.connect("support1")
    post(support, "u1", 100, key="opening")
    opened(support)
    claim(support)
    return cli


def test_open_holds_are_listed(held: Cli) -> None:
    assert [row[:4] + row[5:] for row in held("holds", "list").lines] == [
        ["u1", ID, "40", "open", "1", "support1", "k1"]
    ]
    (one,) = held("holds", "list", "u1", "--json").json["data"]
    assert (one["hold_id"], one["amount"], one["state"], one["is_past"]) == (ID, 40, "open", False)
    assert held("holds", "list", "--limit", "0").out == b""
    capture(held.db.connect("support1"))
    assert held("holds", "list").out == b""
    assert held("holds", "list", "--all").lines[0][3] == "captured"


def test_where_no_hold_is_it_says_so(cli: Cli) -> None:
    assert cli.grant("u2").code == 0
    for flags, told in (((), "is open"), (("--all",), "was ever made")):
        got = cli("holds", "list", *flags)
        assert (got.code, got.out, got.err) == (0, b"", f"▸ no hold {told}\n")
        assert cli("holds", "list", "u2", *flags).err == f"▸ no hold of u2 {told}\n"
        assert cli("holds", "list", "nobody", *flags, "--json").problem["exit_code"] == 67
        assert cli("holds", "list", *flags, "-q").err == ""


@pytest.mark.usefixtures("held")
def test_holds_are_a_table_on_a_usual_terminal() -> None:
    got = on_terminal("holds", "list", columns=80, env=environment(TERM="xterm", NO_COLOR="1"))
    assert got.text.splitlines()[0].split() == ["USER", "ID", "TOKENS", "STATE", "DEADLINE", "CALLS", "BY", "KEY"]
    got = on_terminal("holds", "list", columns=60, env=environment(TERM="xterm", NO_COLOR="1"))
    assert got.text.splitlines()[0].split() == ["USER", "ID", "TOKENS", "STATE", "DEADLINE"]
    assert "no room here for CALLS, BY, KEY; a wider" in got.text


def test_a_hold_is_released_by_hand_once(held: Cli) -> None:
    asked = ("holds", "release", "u1", ID, "--reason", "stuck")
    assert held(*asked).code == 2  # nobody can answer
    got = held(*asked, "--yes", "--json")
    assert (got.code, got.json["data"]["state"], got.json["data"]["available"]) == (0, "released", 100)
    assert held.db.rows("SELECT released_why FROM tokenctl.generations") == [("stuck",)]
    assert held.db.rows("SELECT action, outcome, arguments ->> 'why' FROM tokenctl.audit_log") == [
        ("release", "released", "stuck")
    ]
    assert held(*asked, "--yes").code == 1
    assert held("holds", "release", "u1", OTHER, "--reason", "stuck", "--yes").code == 1
    held.db.check()


def test_what_is_absent_keeps_its_column(held: Cli) -> None:
    [row] = held("holds", "release", "u1", ID, "--reason", "stuck", "--yes").lines
    assert (row[:5], len(row)) == (["", "", ID, "u1", "released"], 14)  # without an image, as of one that was paid


def test_what_was_paid_is_not_released(held: Cli) -> None:
    capture(held.db.connect("support1"))
    got = held("holds", "release", "u1", ID, "--reason", "stuck", "--yes")
    assert (got.code, "tokenctl reverse u1:2" in got.err) == (1, True)


def test_a_reader_releases_nothing(held: Cli) -> None:
    held.login("reader1")
    assert held("holds", "list").code == 0
    assert held("holds", "release", "u1", ID, "--reason", "stuck", "--yes").code == 77


def test_a_hold_that_another_run_released_is_told_with_who_and_why(held: Cli) -> None:
    asked = ("holds", "release", "u1", ID, "--reason", "stuck", "--yes")
    other = held.db.connect("support2")
    real = GenerationStore.release

    def release(self: GenerationStore, at: Generation, why: str, *, force: bool = False) -> Generation:
        assert freed(other)["outcome"] == "released"
        return real(self, at, why, force=force)

    with held.patch.context() as patch:
        patch.setattr(GenerationStore, "release", release)
        meanwhile = held(*asked, "--json")
    for got in (meanwhile, held(*asked, "--json")):  # found at the release, then by the look
        assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:already-released")
        assert re.search(
            rf"^hold {ID} was released before on 20\d\d-\d\d-\d\d \d\d:\d\d UTC by support2 \(me\), reason blocked$",
            got.problem["detail"],
        )
        assert got.problem["hint"] == "nothing was changed"
        assert "committed" not in got.err
    assert held.db.rows("SELECT released_why FROM tokenctl.generations") == [("blocked",)]
    (one,) = held("holds", "list", "--all", "--json").json["data"]
    assert (one["released_why"], one["released_by"], one["released_claimed_by"]) == ("blocked", "support2", "me")


def test_who_released_it_is_told_in_one_line(held: Cli) -> None:
    freed(held.db.connect("support1"))
    held.db.rows("UPDATE tokenctl.generations SET released_claimed_by = E'op\\nforged: line'")
    told = held("holds", "release", "u1", ID, "--reason", "stuck", "--yes").err.splitlines()
    assert [line for line in told if "forged" in line] == [line for line in told if " was released before on " in line]


def test_a_release_whose_answer_was_lost_is_this_run_s_own(held: Cli) -> None:
    with lossy_address(held) as between:
        between.trigger, between.faults = b"generation_release_v1", [WITHIN_REPLY]
        got = held("holds", "release", "u1", ID, "--reason", "stuck", "--yes")
    assert (got.code, between.befallen) == (0, 1)
    assert "released 40 tokens of u1; 100 available" in got.err
    assert held.db.rows("SELECT count(*) FROM tokenctl.audit_log") == [(1,)]


def test_what_was_released_is_shown_and_not_an_older_making_of_it(held: Cli) -> None:
    support = held.db.connect("support1")
    real = GenerationStore.release

    def release(self: GenerationStore, at: Generation, why: str, *, force: bool = False) -> Generation:
        freed(support)
        assert opened(support, amount=60, price="v2")["outcome"] == "held"
        return real(self, at, why, force=force)

    held.patch.setattr(GenerationStore, "release", release)
    got = held("holds", "release", "u1", ID, "--reason", "stuck", "--yes")
    assert (got.code, "released 60 tokens of u1; 100 available" in got.err) == (0, True)


def test_reconcile_leaves_a_hold_that_was_made_again_since_it_was_listed(held: Cli) -> None:
    support = held.db.connect("support1")
    held.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'")
    listed = GenerationStore.holds

    def holds(self: GenerationStore, **asked: Any) -> list[Hold]:
        found = listed(self, **asked)
        assert opened(support)["outcome"] == "held"
        return found

    held.patch.setattr(GenerationStore, "holds", holds)
    got = held("holds", "reconcile")
    assert (got.code, got.out, "no hold is past its deadline" in got.err) == (0, b"", True)
    assert claim(support, "r2")["outcome"] == "claimed"


def test_reconcile_shows_what_it_released(held: Cli) -> None:
    support = held.db.connect("support1")
    past = "UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s'"
    held.db.rows(past)
    listed = GenerationStore.holds

    def holds(self: GenerationStore, **asked: Any) -> list[Hold]:
        found = listed(self, **asked)
        opened(support, amount=60, price="v2")
        held.db.rows(past)
        return found

    held.patch.setattr(GenerationStore, "holds", holds)
    assert [row[:3] for row in held("holds", "reconcile").lines] == [["u1", ID, "60"]]


def test_reconcile_releases_what_is_past_and_nothing_else(held: Cli) -> None:
    support = held.db.connect("support1")
    opened(support, id=OTHER, key="k2", amount=10)
    assert held("holds", "reconcile").out == b""
    held.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s' WHERE hold_id = %s", OTHER)
    assert [row[:2] for row in held("holds", "reconcile", "-n").lines] == [["u1", OTHER]]
    assert held.db.rows("SELECT count(*) FROM tokenctl.token_holds WHERE state = 'open'") == [(2,)]
    assert [row[:2] for row in held("holds", "reconcile").lines] == [["u1", OTHER]]
    assert held.db.rows("SELECT hold_id FROM tokenctl.token_holds WHERE state = 'open'") == [(ID,)]
    assert held("holds", "reconcile").out == b""
    held.db.check()


def test_tokens_that_are_released_here_are_counted_once(held: Cli) -> None:
    support = held.db.connect("support1")
    opened(support, id=OTHER, key="k2", amount=10)
    held.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s' WHERE hold_id = %s", OTHER)
    for words in (("reconcile",), ("release", "u1", ID, "--reason", "stuck", "--yes")):
        assert held("holds", *words).code == 0
        held("holds", *words)  # finds nothing to release
    assert 'tokenctl_generation_tokens_total{step="released"} 50' in held("metrics", "--format", "prometheus").text


def test_a_hold_is_released_for_a_reason_of_the_list(held: Cli, home: Path) -> None:
    (home / "c.toml").write_text('reasons = ["stuck"]\n')
    asked = ("holds", "release", "u1", ID, "--yes", "--config", "c.toml", "--reason")
    got = held(*asked, "whim")
    assert (got.code, "reason 'whim' is not on the configured list" in got.err) == (2, True)
    assert held(*asked, "stuck").code == 0
