"""`reverse --batch` and `--operator`: what was shown and confirmed is the most that moves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli, Ran
from tests.cli.test_reverse_many import DONE, batch_of
from tests.pg import hold, post
from tokenctl.storage.imports import BatchStore

PARTS = "SELECT applied, refused, options ->> 'total' FROM tokenctl.import_batches WHERE kind = 'reversal'"


@pytest.fixture
def spent(cli: Cli) -> tuple[Cli, str]:
    """A batch of 100 tokens for u1, and of 5,000 for u2, who has spent them."""
    batch = batch_of(cli, "u1,100,x,a", "u2,5000,x,b")
    cli.db.rows(
        "SELECT tokenctl.post_one('u2', 'generation', -5000, 'x', NULL, NULL, NULL, 'g', NULL, 'r', 'c', false)"
    )
    return cli, batch


def refund(cli: Cli) -> None:
    """Give u2 as many tokens as were spent."""
    post(cli.db.connect("support1"), "u2", 5000, key="refund")


def cut_off(cli: Cli, *argv: str, at: str = "apply") -> None:
    """Run until just before that step of the store, and no further."""

    def stop(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, at, stop)
        assert cli(*argv).code == 130


@pytest.mark.parametrize("flags", [("--expect-total", "100"), ()])
def test_what_becomes_possible_after_the_look_is_left_out(spent: tuple[Cli, str], flags: tuple[str, ...]) -> None:
    cli, batch = spent
    Path("limits.toml").write_text("[limits]\nbatch_total = 100\n", encoding="utf-8")
    cli.patch.setenv("TOKENCTL_CONFIG", "limits.toml")
    real = BatchStore.begin_reversal

    def overtaken(*args: Any) -> None:
        refund(cli)
        real(*args)

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "begin_reversal", overtaken)
        got = cli("reverse", "--batch", batch, *DONE, "--partial", *flags, "--json")
    data = got.json["data"]
    assert (got.code, data["rows"], data["tokens"], data["total"], data["refused"]) == (1, 1, 100, 100, 1)
    assert [user["missing"] for user in data["shortages"]] == [5000]
    assert "1 entry was not reversed: the tokens are spent or held" in got.err
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 5000)
    shown = cli("batches", "show", data["batch_id"], "--format", "table")
    assert "u2:1 was not reversed: its tokens are spent or held" in shown.err
    rest = cli("reverse", "--batch", batch, *DONE, "--expect-total", "5000")
    assert (rest.code, cli.balance("u2")) == (0, 0)
    cli.db.check()


def test_a_resumed_reversal_moves_no_more_than_was_confirmed(spent: tuple[Cli, str]) -> None:
    cli, batch = spent
    whole = ("reverse", "--batch", batch, *DONE, "--partial")
    cut_off(cli, *whole)
    refund(cli)
    before = cli.written()

    def refused(got: Ran, why: str) -> None:
        assert (got.code, got.problem["type"]) == (2, "urn:tokenctl:problem:limit-not-confirmed")
        assert why in got.problem["detail"]
        assert cli.written() == before

    above = cli(*whole, "--json")
    refused(above, "5,100 is above the limit of 100 tokens with which it was begun")
    assert above.problem["hint"] == "to confirm add --expect-total 5100"
    comes = f"the reversal of batch {batch} was begun with 100 tokens and comes to 5,100"
    refused(cli(*whole, "--expect-total", "100", "--json"), comes)
    refused(cli(*whole, "--expect-total", "5000", "--json"), comes)
    planned = cli(*whole, "--dry-run")
    assert (planned.code, "it will need --expect-total 5100" in planned.err) == (0, True)
    cut_off(cli, *whole, "--expect-total", "5100")
    assert cli(*whole, "--json").json["data"]["tokens"] == 5100
    assert cli.db.rows(PARTS) == [(2, 0, "5100")]
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    cli.db.check()


@pytest.fixture
def cut(cli: Cli) -> tuple[Cli, str]:
    """A batch whose reversal took 20 of u2, left out 10 of u1, which are free by now, and did not come to its end."""
    batch = batch_of(cli, "u1,10,x,a", "u2,20,x,b")
    hold(cli.db, "u1", 10)
    cut_off(cli, "reverse", "--batch", batch, *DONE, "--partial", at="finish")
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    return cli, batch


def test_what_a_run_left_out_that_was_cut_off_is_tried_again(cut: tuple[Cli, str]) -> None:
    cli, batch = cut
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, "30 is above the limit of 20 tokens with which it was begun" in got.err) == (2, True)
    data = cli("reverse", "--batch", batch, *DONE, "--expect-total", "30", "--json").json["data"]
    assert (data["rows"], data["taken"], data["total"], data["refused"]) == (2, 30, 30, 0)
    assert cli.db.rows(PARTS) == [(2, 0, "30")]
    assert (cli.balance("u1"), cli.balance("u2")) == (0, 0)
    cli.db.check()


def test_what_others_reversed_since_is_left_out_by_nobody(cut: tuple[Cli, str]) -> None:
    cli, batch = cut
    assert cli("reverse", "u1:1", *DONE).code == 0
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, got.json["data"]["rows"], got.json["data"]["refused"]) == (0, 1, 0)
    told = cli("batches", "show", got.json["data"]["batch_id"], "--json").json["data"]
    assert (told["rows"]["read"], told["rows"]["posted"], told["next"]) == (1, 1, "nothing is left to do")
    assert "is already reversed" in cli("reverse", "--batch", batch, *DONE).err
    assert cli("verify").code == 0


@pytest.mark.parametrize(("refunded", "code"), [(True, 0), (False, 1)])
def test_what_a_quicker_twin_left_out_is_looked_at_again(spent: tuple[Cli, str], refunded: bool, code: int) -> None:
    cli, batch = spent
    whole = ("reverse", "--batch", batch, *DONE, "--partial")
    real, twin = BatchStore.lock, list[Ran]()

    def overtaken(self: BatchStore, *names: str) -> bool:
        if not twin:
            cli.patch.setattr(BatchStore, "lock", real)
            twin.append(cli(*whole))
            if refunded:
                refund(cli)
        return real(self, *names)

    cli.patch.setattr(BatchStore, "lock", overtaken)
    got = cli(*whole)
    assert (twin[0].code, got.code, cli.balance("u1"), cli.balance("u2")) == (1, code, 0, 0)
    assert ("u2 lacks 5,000 (wanted 5,000, available 0)" in got.err) is not refunded
    assert "already reversed" not in got.err
    cli.db.check()


def test_a_name_that_other_work_has_taken_is_passed_over(cli: Cli) -> None:
    """Whoever imports may call a batch as he likes."""
    batch = batch_of(cli, "u1,100,x,a", "u2,50,x,b")
    done, begun = (hashlib.sha256(f"reverse:{batch}:{n}".encode()).hexdigest()[:12] for n in range(2))
    Client(cli.db, login="batch2", batch=done).run([Row("u9", 1, "z")])
    other = Client(cli.db, login="batch2", batch=begun)
    other.stage([Row("u9", 2, "y")])
    other.begin()
    hold(cli.db, "u2", 50)
    got = cli("reverse", "--batch", batch, *DONE, "--partial", "--json")
    assert (got.code, got.json["data"]["rows"], got.json["data"]["refused"]) == (1, 1, 1)
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, got.json["data"]["rows"]) == (0, 1)
    assert got.json["data"]["batch_id"] not in (done, begun)
    assert (cli.balance("u1"), cli.balance("u2"), cli.balance("u9")) == (0, 0, 1)
    assert "is already reversed by batch" in cli("reverse", "--batch", batch, *DONE).err
    cli.db.check()


def test_one_that_others_always_do_first_is_tried_no_more(cli: Cli) -> None:
    batch = batch_of(cli, "u1,100,x,a")
    asked: list[object] = []

    def twin(store: BatchStore, *_args: object, **_options: object) -> str:
        asked.append(store)
        return "done"

    cli.patch.setattr(BatchStore, "open_reversal", twin)
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, got.problem["type"], len(asked)) == (75, "urn:tokenctl:problem:try-later", 5)
    assert f"batch {batch} is being reversed by others at this moment" in got.problem["detail"]


def test_a_reversal_that_was_cut_off_is_not_reversed_and_told_with_what_finishes_it(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,a", "u2,20,x,b")
    cut_off(cli, "reverse", "--batch", batch, *DONE)
    [(undoing,)] = cli.db.rows("SELECT batch_id FROM tokenctl.import_batches WHERE kind = 'reversal'")
    got = cli("reverse", "--batch", undoing, *DONE, "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:refused")
    assert got.problem["detail"] == f"batch {undoing} is a reversal that was cut off: it is not finished"
    hint, command = got.problem["hint"].splitlines()
    assert (hint, command) == ("this finishes it:", f"tokenctl reverse --batch {batch} --reason mistake")
    assert cli(*command.split()[1:], "--yes").code == 0
    assert cli("reverse", "--batch", undoing, *DONE).code == 0
    assert (cli.balance("u1"), cli.balance("u2")) == (10, 20)
    cli.db.check()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--reason", "other", "--note", "hey"), "reason mistake, ticket 7, and not with --reason other, --note hey"),
        (("--reason", "mistake", "--ticket", "8"), "reason mistake, ticket 7, and not with --ticket 8"),
        (("--reason", "mistake"), None),
        (("--reason", "mistake", "--ticket", "7"), None),
    ],
)
def test_who_finishes_one_is_told_with_what_reason_it_was_begun(
    cli: Cli, more: tuple[str, ...], told: str | None
) -> None:
    batch = batch_of(cli, "u1,10,x,a", "u2,20,x,b")
    cut_off(cli, "reverse", "--batch", batch, *DONE, "--ticket", "7")
    for flags in ("--dry-run", "--yes"):
        got = cli("reverse", "--batch", batch, *more, flags, "--json", "-q")
        assert (got.code, "it is finished with" in got.err) == (0, told is not None)
        assert told is None or f"tokenctl: begun before: it is finished with {told}\n" in got.err
        assert len(got.json["meta"]["warnings"]) == (told is not None)
    kept = "SELECT DISTINCT reason, note, ticket FROM tokenctl.token_transactions WHERE reverses_seq IS NOT NULL"
    assert cli.db.rows(kept) == [("mistake", None, "7")]
