"""Reversing what was reversed before, and given back: the newest link of a chain is what is reversed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.cli.running import Cli
from tests.cli.test_reverse_confirmed import cut_off
from tests.cli.test_reverse_many import DONE, batch_of
from tests.pg import hold, post, reverse
from tokenctl.storage.imports import BatchStore

#: Who made each link of a chain (a grant, its reversal, the reversal of that …), them or others, and whether
#: the newest one is reversed when what they did is undone.
CHAINS = {
    "T": True,
    "O": False,
    "TT": False,
    "TO": False,
    "OT": True,
    "TOO": True,  # reversed and given back by others: their grant counts again
    "TTO": False,  # a grant that they took back themselves: others have given it
    "TOT": True,
    "OTO": False,  # others have given back what they took
    "OTT": False,
    "OOT": True,
    "TTT": True,
    "OTOO": True,
    "TTOO": False,
    "TOOT": False,  # they took back what others had let stand: nothing is left of it
    "OTOT": True,
    "TOTT": False,
    "TOTO": False,
    "OTTO": False,
}


def test_a_batch_is_reversed_whole_though_a_reversal_was_undone(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,k1", "u2,20,x,k2")
    assert cli("reverse", "u1:1", *DONE).code == 0
    assert cli("reverse", "u1:2", *DONE).code == 0
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, got.json["data"]["rows"], got.json["data"]["taken"]) == (0, 2, 30)
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    assert cli("reverse", "--batch", batch, *DONE).code == 1
    assert cli("reverse", "--batch", got.json["data"]["batch_id"], *DONE).code == 0
    assert (cli.balance("u1"), cli.balance("u2")) == (10, 20)
    cli.db.check()


def test_part_of_a_batch_that_another_batch_gave_back_is_told(cli: Cli) -> None:
    """To reverse the others alone, in silence, would pass for all."""
    batch = batch_of(cli, "u1,10,x,k1", "u2,20,x,k2")
    cli.db.rows("SELECT tokenctl.post_one('u2', 'generation', -20, 'x', NULL, NULL, NULL, 'g', NULL, 'r', 'c', false)")
    first = cli("reverse", "--batch", batch, *DONE, "--partial", "--json").json["data"]["batch_id"]
    back = cli("reverse", "--batch", first, *DONE, "--json").json["data"]["batch_id"]
    post(cli.db.connect("support1"), "u2", 20, key="again")
    before = cli.written()
    for flags in (DONE, ("--reason", "mistake", "--dry-run"), (*DONE, "--partial")):
        got = cli("reverse", "--batch", batch, *flags, "--json")
        assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:already-reversed")
        assert got.problem["detail"] == f"batch {batch} was reversed, and batch {back} reversed that"
        assert f"reverse --batch {back} --reason mistake" in got.problem["hint"]
    assert cli.written() == before
    assert cli("reverse", "--batch", back, *DONE).code == 0
    assert cli("reverse", "--batch", batch, *DONE, "--json").json["data"]["rows"] == 1
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    cli.db.check()


def test_one_that_was_cut_off_is_finished_though_others_came_back(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,k1", "u2,20,x,k2")
    hold(cli.db, "u2", 20)
    first = cli("reverse", "--batch", batch, *DONE, "--partial", "--json").json["data"]["batch_id"]
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    cut_off(cli, "reverse", "--batch", batch, *DONE, at="finish")
    back = cli("reverse", "--batch", first, *DONE, "--json").json["data"]["batch_id"]
    shown = cli("batches", "show", batch, "--json").json["data"]
    assert "was cut off; the same command finishes that" in shown["next"]
    again = shlex.split(shown["command"])[1:]
    left = f"left out: what batch {back} gave back"
    planned = cli(*again, "--dry-run")
    assert "nothing was changed; this undoes it again:\n" in planned.err
    assert (planned.code, planned.lines[0], left in planned.err) == (1, ["would be reversed", "1", "20", "0"], True)
    got = cli(*again, "--yes")
    assert (got.code, got.lines) == (1, [["reversed", "1", "20", "0"]])
    assert left in got.err
    assert f"batch {batch} was reversed, and batch {back} reversed that\n" in got.err
    assert "what was cut off is finished; this undoes it again:\n" in got.err
    assert f"tokenctl reverse --batch {back} --reason mistake\n" in got.err
    counts = "SELECT state, rows_read, applied, refused FROM tokenctl.import_batches WHERE kind = 'reversal'"
    assert sorted(cli.db.rows(counts)) == [("done", 1, 1, 0), ("done", 1, 1, 0), ("done", 2, 1, 1)]
    assert cli("verify").code == 0
    assert cli("reverse", "--batch", back, *DONE).code == 0
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    assert "is already reversed by batch" in cli("reverse", "--batch", batch, *DONE).err
    cli.db.check()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_what_a_batch_gave_back_is_known_in_every_time_zone(cli: Cli, zone: str) -> None:
    post(cli.db.connect("support1"), "u1", 10, key="k")
    cli.login("batch1")
    asked = ("reverse", "--operator", "support1", "--since", "2026-01-01", "--until", "2100-01-01", *DONE)
    cli.patch.setenv("PGTZ", "UTC")
    first = cli(*asked, "--json").json["data"]["batch_id"]
    back = cli("reverse", "--batch", first, *DONE, "--json").json["data"]["batch_id"]
    cli.patch.setenv("PGTZ", zone)
    got = cli(*asked)
    assert (got.code, f"and batch {back} reversed that" in got.err, cli.balance("u1")) == (1, True, 10)
    cli.db.check()


def test_of_an_operator_s_chains_those_are_undone_that_he_settled(cli: Cli) -> None:
    who = {"T": cli.db.connect("support2"), "O": cli.db.connect("support1")}
    for chain in CHAINS:
        post(who[chain[0]], chain, 10, key="k")
        for seq, by in enumerate(chain[1:], 1):
            assert reverse(who[by], chain, seq, request_id=f"{chain}{seq}")["outcome"] == "applied"
    cli.login("batch1")
    got = cli("reverse", "--operator", "support2", "--since", "2026-01-01", *DONE, "--json")
    assert got.code == 0
    batch = got.json["data"]["batch_id"]
    linked = cli.db.rows("SELECT user_id, reverses_seq FROM tokenctl.token_transactions WHERE batch_id = %s", batch)
    assert dict(linked) == {chain: len(chain) for chain, is_undone in CHAINS.items() if is_undone}
    assert cli("reverse", "--operator", "support2", "--since", "2026-01-01", *DONE).code == 1
    cli.db.check()


def test_an_entry_that_counts_again_by_the_finishing_run_is_reversed_by_it(cli: Cli) -> None:
    cli.login("batch1")
    batch = batch_of(cli, "u1,100,x,a", "u2,50,x,b")
    support = cli.db.connect("support1")
    begin = BatchStore.begin_reversal

    def overtaken(self: BatchStore, total: int) -> None:
        reverse(support, "u1", 1)
        begin(self, total)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "begin_reversal", overtaken)
        patch.setattr(BatchStore, "finish", die)
        assert cli("reverse", "--batch", batch, *DONE).code == 130
    reverse(support, "u1", 2)  # as many rows are to be reversed as before, and of one of them another entry
    assert cli("reverse", "--batch", batch, *DONE).code == 0
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    cli.db.check()


def test_a_key_whose_reversal_was_reversed_leads_to_the_newest_link(cli: Cli) -> None:
    """Another key would not do: the entry is reversed, and that reversal too."""
    assert cli.grant("u1", 10).code == 0
    first = ("reverse", "u1:1", *DONE, "--idempotency-key", "K9")
    assert [cli(*words).code for words in (first, ("reverse", "u1:2", *DONE))] == [0, 0]
    got = cli(*first, "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:replay-of-reversed")
    hint, command = got.problem["hint"].splitlines()
    assert (hint, "--idempotency-key" in command) == ("nothing was changed; this undoes it again:", False)
    assert cli(*shlex.split(command)[1:], "--yes").code == 0
    assert cli.balance("u1") == 0
