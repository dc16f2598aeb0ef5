"""What a batch says of itself when its entries were taken back in parts, or by other ways than its own reversal."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.running import Cli
from tests.cli.test_reverse_many import DONE, batch_of, short
from tests.pg import post

__all__ = ["short"]


def test_the_undo_of_a_batch_that_was_reversed_in_part_takes_back_the_other_part_too(short: tuple[Cli, str]) -> None:
    cli, batch = short
    partly = cli("reverse", "--batch", batch, *DONE, "--partial", "--json").json["data"]
    back = cli("reverse", "--batch", partly["batch_id"], *DONE, "--json").json["data"]
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    post(cli.db.connect("support1"), "u2", 50, key="again")
    undo = cli("batches", "show", batch, "--json").json["data"]["undo"]
    assert undo == " && ".join(f"tokenctl reverse --batch {one} --reason mistake" for one in (back["batch_id"], batch))
    for command in undo.split(" && "):
        assert cli(*shlex.split(command)[1:], "--yes").code == 0
    entries = cli.db.rows("SELECT user_id, seq FROM tokenctl.token_transactions WHERE batch_id = %s", batch)
    undone = [cli.db.rows("SELECT tokenctl.effective_reversal(%s, %s) IS NOT NULL", *entry)[0][0] for entry in entries]
    assert undone == [True] * 5
    cli.db.check()


def test_who_reversed_all_that_its_operator_did_is_named(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,a", "u2,20,x,b")
    assert cli("reverse", "--operator", "batch1", "--since", "2026-01-01", *DONE).code == 0
    [undoing, taken] = cli("batches", "--json").json["data"]
    assert (taken["batch_id"], taken["taken_back_by"]) == (batch, undoing["batch_id"])
    assert undoing["taken_back_by"] is None
    shown = cli("batches", "show", batch, "--format", "table").text
    assert f"TAKEN BACK BY  {undoing['batch_id']}, all or a part, with what its operator did\n" in shown
    assert cli("reverse", "--batch", undoing["batch_id"], *DONE).code == 0
    assert cli("batches", "show", batch, "--json").json["data"]["taken_back_by"] is None


@pytest.mark.parametrize(
    ("name", "since", "until"),
    [
        ("batch2", "2026-01-01", "2099-01-01"),
        ("batch1", "2026-01-01", "2026-01-02"),
        ("batch", "2026-01-01", "2099-01-01"),
    ],
)
def test_a_reversal_of_others_or_of_other_times_took_nothing_of_it(cli: Cli, name: str, since: str, until: str) -> None:
    batch = batch_of(cli, "u1,10,x,a")
    cli.db.rows(
        "INSERT INTO tokenctl.import_batches (batch_id, kind, slices, reverses_operator, reverses_since,"
        " reverses_until, reason, operator, claimed_by, request_id, state, finished_at, rows_read, rejected,"
        " duplicate, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused)"
        " VALUES ('dddddddddddd', 'reversal', 1, %s, %s,"
        " %s, 'x', 'batch1', 'me', 'r', 'done', clock_timestamp(), 1, 0, 0, 1, -1, 0, 0, 0, 0)",
        name, since, until,
    )  # fmt: skip
    assert cli("batches", "show", batch, "--json").json["data"]["taken_back_by"] is None
