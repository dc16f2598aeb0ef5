"""Runs that open a batch and post nothing: a dry run, a "no" at the question, a death before the first row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Cli, environment, run, terminal
from tests.cli.test_batch_import import untouched, write
from tests.cli.test_batch_import_refusals import FULL, FULL_TOTAL
from tests.cli.test_resumed_imports import cut_short
from tests.cli.test_reverse_many import batch_of
from tests.pg import post
from tokenctl.storage.imports import BatchStore
from tokenctl.wording import counted

WHO = "SELECT operator, claimed_by, request_id, opened_as FROM tokenctl.import_batches ORDER BY started_at DESC LIMIT 1"
WHY = "SELECT reason, options ->> 'note', options ->> 'ticket' FROM tokenctl.import_batches WHERE kind = 'reversal'"
ENTRIES = (
    "SELECT user_id, amount, reason, note, ticket FROM tokenctl.token_transactions WHERE reverses_seq IS NOT NULL"
    " ORDER BY user_id, seq"
)


@pytest.fixture(autouse=True)
def _batch_role(cli: Cli) -> None:
    cli.login("batch1")


def killed(cli: Cli, *argv: str, before: str) -> None:
    """A run that dies before a step of the store, too suddenly to give anything back."""

    def die(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    def nothing(*_args: object) -> None:
        pass

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, before, die)
        patch.setattr(BatchStore, "give_up", nothing)
        assert cli(*argv, "--yes").code == 130


def test_a_reversal_that_died_before_it_began_leaves_no_reason_to_the_next(cli: Cli) -> None:
    batch = batch_of(cli, "u1,100,x,a")
    reversal = ("reverse", "--batch", batch)
    killed(cli, *reversal, "--reason", "misuse", "--note", "of old", "--ticket", "T-1", before="begin_reversal")
    [(standing,)] = cli.db.rows("SELECT state FROM tokenctl.import_batches WHERE kind = 'reversal'")
    assert standing == "staging"
    assert cli(*reversal, "--reason", "mistake", "--ticket", "T-2", "--yes").code == 0
    assert cli.db.rows(ENTRIES) == [("u1", -100, "mistake", None, "T-2")]
    assert cli.db.rows(WHY) == [("mistake", None, "T-2")]
    cli.db.check()


def test_a_reversal_that_died_before_it_began_sets_no_end_to_the_next(cli: Cli) -> None:
    one = cli.db.connect("support1")
    post(one, "u1", 30, key="before")
    reversal = ("reverse", "--operator", "support1", "--since", "2026-01-01", "--reason", "misuse")
    killed(cli, *reversal, before="begin_reversal")
    post(one, "u2", 50, key="since")
    assert cli(*reversal, "--yes").lines == [["reversed", "2", "80", "0"]]
    assert [cli.balance(user) for user in ("u1", "u2")] == [0, 0]
    cli.db.check()


def test_a_file_that_was_given_up_is_known_by_its_new_name(cli: Cli) -> None:
    write("u1,1,x,k1")
    killed(cli, "batch-import", "grants.csv", before="begin")
    Path("grants.csv").rename("june.csv")
    assert cli("batch-import", "june.csv", "--yes").code == 0
    assert cli.db.rows("SELECT file_name FROM tokenctl.import_batches") == [("june.csv",)]


@pytest.mark.parametrize("look", ["dry run", "unconfirmed", "killed"])
@pytest.mark.parametrize("kind", ["import", "reversal"])
def test_who_looks_at_an_unfinished_batch_leaves_no_name_in_it(cli: Cli, kind: str, look: str) -> None:
    rows = [f"u{n},5,x,k{n}" for n in range(20)]
    if kind == "import":
        write(*rows)
        asked: tuple[str, ...] = ("batch-import", "grants.csv")
    else:
        asked = ("reverse", "--batch", batch_of(cli, *rows), "--reason", "mistake")
    cut_short(cli, *asked, "--yes", "--request-id", "r-first")
    [before] = cli.db.rows(WHO)
    assert (before[0], before[2:]) == ("batch1", ("r-first", None))
    cli.login("batch2")
    looks = (*asked, "--request-id", "r-look")
    if look == "dry run":
        assert cli(*looks, "--dry-run").code == 0
        assert cli.db.rows(WHO) == [before]
    elif look == "unconfirmed":
        assert cli(*looks).code == 2
        assert cli.db.rows(WHO) == [before]
    else:
        killed(cli, *looks, before="begin" if kind == "import" else "begin_reversal")
        [(*names, opened)] = cli.db.rows(WHO)
        assert tuple(names) == before[:3]
        assert (opened["operator"], opened["request_id"]) == ("batch2", "r-look")
    assert cli(*asked, "--yes", "--request-id", "r-last").code == 0
    [after] = cli.db.rows(WHO)
    assert (after[0], after[2:]) == ("batch2", ("r-last", None))
    cli.db.check()


def test_rows_that_the_ledger_would_refuse_are_neither_promised_nor_kept_silent(cli: Cli) -> None:
    write(*FULL, "u2,x,x,k")
    asked = ("batch-import", "grants.csv", "--partial", *FULL_TOTAL)
    rows = {"read": 12, "applied": 1, "refused": 10, "rejected": 1, "conflicting": 0, "replayed": 0, "duplicate": 0}
    planned = cli(*asked, "--dry-run", "--json")
    data = planned.json["data"]
    assert (planned.code, data["rows"] | rows == data["rows"]) == (65, True), data
    assert (data["tokens"], data["new_users"], len(data["bad"])) == (999_999_999_999_999, 1, 11)
    assert "11 rows would be left out" in planned.err
    assert "grants.csv:2: amount: the balance of u0 would pass" in planned.err
    assert untouched(cli)
    with terminal(*asked) as prompt:
        seen = prompt.wait_for("[y/N]")
        assert "1 row, 999,999,999,999,999 tokens for 1 user, who is new\r\n" in seen
        assert "11 rows will be left out as things stand; --dry-run names them\r\n" in seen
        assert "Import 1 row?" in seen
        prompt.type("y\n")
        assert prompt.end().code == 65
    done = cli(*asked, "--yes", "--json")
    assert (done.code, done.json["data"]["rows"] | rows == done.json["data"]["rows"]) == (65, True)
    cli.db.check()


def test_what_finishes_an_import_promises_no_row_whose_key_was_taken_meanwhile(cli: Cli) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(20)))
    asked = ("batch-import", "grants.csv")
    posted = cut_short(cli, *asked, "--yes")
    known = {user for (user,) in cli.db.rows("SELECT user_id FROM tokenctl.token_accounts")}
    n = next(n for n in range(20) if f"u{n}" not in known)
    post(cli.db.connect("support1"), f"u{n}", 7, key=f"k{n}")
    planned = cli(*asked, "--dry-run", "--json")
    counts = planned.json["data"]["rows"]
    assert (planned.code, counts["applied"], counts["conflicting"], counts["posted"]) == (65, 19 - posted, 1, posted)
    assert f"grants.csv:{n + 2}: idempotency_key: was used with other content (u{n}:1)" in planned.err
    assert f"  {counted(19 - posted, 'row')}, " in cli(*asked, "--yes").err
    cli.db.check()


def test_who_meets_it_open_is_told_who_looks_at_it(cli: Cli) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(20)))
    asked = ("batch-import", "grants.csv", "--yes")
    cut_short(cli, *asked)
    real, met = BatchStore.plan, []

    def meanwhile(*args: object, **options: object) -> object:
        met.append(run(*asked, env=environment(TOKENCTL_DATABASE_URL=cli.db.conninfo("batch1"))))
        return real(*args, **options)  # type: ignore[arg-type]  # passed on as they come

    cli.login("batch2")
    cli.patch.setattr(BatchStore, "plan", meanwhile)
    assert cli(*asked, "--dry-run").code == 0
    assert (met[0].code, " as batch2\n" in met[0].err) == (75, True)
