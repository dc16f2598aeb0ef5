"""Runs that open a batch and post nothing: a dry run, a "no" at the question, a death before the first row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Cli, environment, run
from tests.cli.test_batch_import import write
from tests.cli.test_resumed_imports import cut_short
from tests.cli.test_reverse_many import batch_of
from tests.pg import post
from tokenctl.storage.imports import BatchStore

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


def test_who_meets_it_open_is_told_who_looks_at_it(cli: Cli) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(20)))
    asked = ("batch-import", "grants.csv", "--yes")
    cut_short(cli, *asked)
    real, met = BatchStore.plan, []

    def meanwhile(*args: object, **options: object) -> object:
        met.append(run(*asked, env=environment(TOKENCTL_DATABASE_URL=cli.db.conninfo("batch1"))))
        return real(*args, **options)  # type: ignore[arg-type]

    cli.login("batch2")
    cli.patch.setattr(BatchStore, "plan", meanwhile)
    assert cli(*asked, "--dry-run").code == 0
    assert (met[0].code, " as batch2\n" in met[0].err) == (75, True)
