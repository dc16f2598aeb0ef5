"""Imports that were cut off, or whose ledger changes while they work: each row is told, and posted at most once."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli
from tests.cli.test_batch_import import keys, write
from tests.integration.test_batches import neighbours
from tests.pg import post, reverse
from tests.waiting import until
from tokenctl.models import Plan
from tokenctl.storage.imports import BatchStore, PendingLane
from tokenctl.wording import counted

RECEIPT = (
    "SELECT state, rows_read, applied, replayed, conflicting, refused, rejected, duplicate FROM tokenctl.import_batches"
    " WHERE kind = 'import'"
)
KNOWN = ("--partial", "--known-users-only")


@pytest.fixture(autouse=True)
def _batch_role(cli: Cli) -> None:
    cli.login("batch1")


def interrupted(*_: object, **__: object) -> None:
    """Ctrl-C, in place of a step."""
    raise KeyboardInterrupt


def cut_off(cli: Cli, *options: str) -> None:
    """An import that dies when all its slices are posted, before it is closed."""
    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "finish", interrupted)
        assert cli("batch-import", "grants.csv", "--yes", *options).code == 130
    assert cli.db.rows("SELECT state FROM tokenctl.import_batches") == [("applying",)]


def cut_short(cli: Cli, *argv: str) -> int:
    """A run that dies after its first slice; the entries that it posted."""
    plain = BatchStore.apply

    def first(store: BatchStore, lanes: Sequence[PendingLane], *, progress: Callable[[int], None]) -> None:
        plain(store, lanes[:1], progress=progress)
        raise KeyboardInterrupt

    before = cli.written()[1]
    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "apply", first)
        assert cli(*argv).code == 130
    return cli.written()[1] - before


def receipt(cli: Cli) -> dict[str, int]:
    """What the batch says became of its rows, without what became of none; they add up."""
    [(state, read, *counts)] = cli.db.rows(RECEIPT)
    assert (state, read) == ("done", sum(counts))
    names = ("applied", "replayed", "conflicting", "refused", "rejected", "duplicate")
    cli.db.check()
    assert cli("verify").code == 0
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def known(cli: Cli, user: str) -> None:
    """Make a user."""
    post(cli.db.connect("support1"), user, 1, key=f"first of {user}")


def test_what_is_timed_is_what_this_run_posted(cli: Cli) -> None:
    write(*(f"u{n},1,x,k{n}" for n in range(20)))
    asked = ("batch-import", "grants.csv", "--yes")
    before = cut_short(cli, *asked)
    assert 0 < before < 20
    finished = cli(*asked)
    assert f": 20 rows, 20 tokens granted, {20 - before} of them in " in finished.err
    undo = (
        "reverse",
        "--batch",
        cli.db.rows("SELECT batch_id FROM tokenctl.import_batches")[0][0],
        "--reason",
        "x",
        "--yes",
    )
    before = cut_short(cli, *undo)
    assert 0 < before < 20
    assert f": 20 entries, {20 - before} of them in " in cli(*undo).err


def test_what_an_earlier_run_posted_has_no_rate(cli: Cli) -> None:
    for rows, told in ((1, "posted before"), (2, "all of them posted before")):
        write(*(f"u{rows},1,x,{rows}k{n}" for n in range(rows)))
        whole: tuple[str, ...] = ("batch-import", "grants.csv", "--yes")
        for what in (f"{counted(rows, 'row')}, {counted(rows, 'token')} granted", counted(rows, "entry", "entries")):
            with cli.patch.context() as patch:
                patch.setattr(BatchStore, "finish", interrupted)
                assert cli(*whole).code == 130
            assert f": {what}, {told}\n" in cli(*whole).err
            batch = cli.db.rows("SELECT batch_id FROM tokenctl.import_batches ORDER BY started_at DESC")[0][0]
            whole = ("reverse", "--batch", batch, "--reason", "x", "--yes")
    assert cli("verify").code == 0


def test_a_user_made_between_the_runs_gets_his_row(cli: Cli) -> None:
    known(cli, "u1")
    write("u1,5,x,k1", "ghost,7,x,k2")
    cut_off(cli, *KNOWN)
    known(cli, "ghost")
    assert cli("batch-import", "grants.csv", "--yes", *KNOWN).code == 0
    assert receipt(cli) == {"applied": 2}
    assert cli.balance("ghost") == 8


def test_a_run_without_the_option_that_left_rows_out_posts_them(cli: Cli) -> None:
    known(cli, "u1")
    write("u1,5,x,k1", "u1,6,x,k3", "ghost,7,x,k2")
    cut_off(cli, *KNOWN)
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert receipt(cli) == {"applied": 3}
    assert (cli.balance("u1"), cli.balance("ghost")) == (12, 7)


def test_a_conflict_that_the_first_run_left_out_is_told_by_one_that_leaves_nothing_out(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u2", 9, key="k2")
    write("u1,5,x,k1", "u2,7,x,k2")
    cut_off(cli, "--partial")
    got = cli("batch-import", "grants.csv", "--yes")
    assert (got.code, "grants.csv:3: idempotency_key: was used with other content" in got.err) == (65, True)
    assert receipt(cli) == {"applied": 1, "conflicting": 1}


def test_rows_whose_reason_was_allowed_meanwhile_are_posted(cli: Cli) -> None:
    Path("config.toml").write_text('reasons = ["x"]\n')
    cli.patch.setenv("TOKENCTL_CONFIG", str(Path("config.toml").resolve()))
    write("u1,5,x,k1", "u2,7,y,k2")
    cut_off(cli, "--partial")
    Path("config.toml").write_text('reasons = ["x", "y"]\n')
    assert cli("batch-import", "grants.csv", "--yes", "--partial").code == 0
    assert receipt(cli) == {"applied": 2}


def test_rows_whose_reason_was_forbidden_meanwhile_are_not_disowned(cli: Cli) -> None:
    Path("config.toml").write_text('reasons = ["x", "y"]\n')
    cli.patch.setenv("TOKENCTL_CONFIG", str(Path("config.toml").resolve()))
    write("u1,5,x,k1", "u2,7,y,k2")
    cut_off(cli)
    Path("config.toml").write_text('reasons = ["x"]\n')
    assert cli("batch-import", "grants.csv", "--yes").code == 65
    got = cli("batch-import", "grants.csv", "--yes", "--partial")
    assert (got.code, "rows that this batch posted before it was cut off are left out now" in got.err) == (1, True)
    Path("config.toml").write_text('reasons = ["x", "y"]\n')
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert receipt(cli) == {"applied": 2}


def test_what_was_replayed_and_reversed_since_is_told_once(cli: Cli) -> None:
    support = cli.db.connect("support1")
    post(support, "u1", 5, reason="x", key="k1")
    write("u1,5,x,k1", "u1,6,x,k3", "u2,7,x,k2")
    cut_off(cli, "--partial")
    reverse(support, "u1", 1)
    assert cli("batch-import", "grants.csv", "--yes", "--partial").code == 65
    assert receipt(cli) == {"applied": 2, "rejected": 1}


def test_what_was_reversed_and_counts_again_is_replayed(cli: Cli) -> None:
    support = cli.db.connect("support1")
    post(support, "u1", 5, reason="x", key="k1")
    reverse(support, "u1", 1)
    write("u1,5,x,k1", "u2,7,x,k2")
    cut_off(cli, "--partial")
    reverse(support, "u1", 2)
    assert cli("batch-import", "grants.csv", "--yes", "--partial").code == 0
    assert receipt(cli) == {"applied": 1, "replayed": 1}


def test_one_cut_off_again_while_it_judges_anew_owns_what_it_posted(cli: Cli) -> None:
    first, second = neighbours(cli.db)
    known(cli, first)
    write(f"{first},5,x,k1", f"{second},7,x,k2")
    cut_off(cli, *KNOWN)

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "apply", interrupted)
        assert cli("batch-import", "grants.csv", "--yes").code == 130
    assert cli("verify").code == 0
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert receipt(cli) == {"applied": 2}


def test_the_command_that_finishes_it_has_the_options_of_the_one_that_began(cli: Cli) -> None:
    Path("config.toml").write_text("[limits]\nbatch_total = 10\n")
    cli.patch.setenv("TOKENCTL_CONFIG", str(Path("config.toml").resolve()))
    known(cli, "u1")
    write("u1,50,x,k1", "ghost,7,x,k2")
    asked = (*KNOWN, "--atomic", "--expect-rows", "2", "--expect-total", "57", "--reject-file", "a b.csv")
    cut_off(cli, *asked, "--reason", "other", "--format-in", "csv")
    [batch] = cli.db.rows("SELECT batch_id FROM tokenctl.import_batches")[0]
    data = cli("batches", "show", batch, "--json").json["data"]
    words = shlex.split(data["command"])
    assert set(asked) <= set(words)
    assert data["options"] == {"reason": "other"}
    Path("a b.csv").unlink()
    assert cli(*words[1:], "--yes").code == 65
    assert receipt(cli) == {"applied": 1, "rejected": 1}


def late(cli: Cli, change: Any) -> None:
    """Let `change` happen between what is found and what is left out for it."""
    plan = BatchStore.plan

    def overtaken(self: BatchStore, **options: Any) -> Plan:
        if options.get("drop") is not None:
            change()
        return plan(self, **options)

    cli.patch.setattr(BatchStore, "plan", overtaken)


def test_a_row_is_left_out_for_what_was_found_and_not_for_what_came_since(cli: Cli) -> None:
    write("u1,5,x,k1", "u1,6,x,k1", "u2,7,x,k2")
    late(cli, lambda: post(cli.db.connect("support1"), "u2", 9, key="k2"))
    got = cli("batch-import", "grants.csv", "--yes", "--partial")
    assert (got.code, "grants.csv:4: idempotency_key: was used with other content (u2:1)" in got.err) == (65, True)
    assert receipt(cli) == {"conflicting": 1, "rejected": 2}
    assert "3 rows were left out; 2 of them are in grants." in got.err  # what posting met is in no file
    assert "mend the rest in grants.csv and import it again" in got.err


def test_a_row_that_was_rejected_is_not_posted_after_all(cli: Cli) -> None:
    known(cli, "u1")
    write("u1,5,x,k1", "ghost,7,x,k2")
    late(cli, lambda: known(cli, "ghost"))
    assert cli("batch-import", "grants.csv", "--yes", *KNOWN).code == 65
    assert receipt(cli) == {"applied": 1, "rejected": 1}
    assert cli.balance("ghost") == 1


def test_a_plan_whose_answer_was_lost_is_not_counted_anew(cli: Cli) -> None:
    write("u1,5,x,k1", "u1,5,x,k1", "u2,7,x,k2")
    plan = BatchStore.plan
    cut: list[bool] = []

    def lost(self: BatchStore, **options: Any) -> Plan:
        execute = psycopg.Cursor.execute

        def once(cursor: psycopg.Cursor[Any], statement: Any, *rest: Any, **more: Any) -> Any:
            done = execute(cursor, statement, *rest, **more)
            if not cut and b"import_plan_v1" in (statement if isinstance(statement, bytes) else statement.encode()):
                if cursor.fetchone().duplicate:  # type: ignore[union-attr]  # its one row
                    cut.append(True)
                    cursor.connection.close()
                    raise psycopg.OperationalError("server closed the connection unexpectedly")
                return execute(cursor, statement, *rest, **more)
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psycopg.Cursor, "execute", once)
            return plan(self, **options)

    cli.patch.setattr(BatchStore, "plan", lost)
    assert cli("batch-import", "grants.csv", "--yes").code == 69
    assert cut == [True]
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert receipt(cli) == {"applied": 2, "duplicate": 1}


def test_who_lost_the_lock_does_not_post_what_another_run_has_planned(cli: Cli) -> None:
    known(cli, "u1")
    write("u1,5,x,k1", "ghost,7,x,k2")
    begin = BatchStore.begin
    rival = Client(cli.db, batch="")

    def overtaken(self: BatchStore, asked: Mapping[str, Any]) -> None:
        assert self._control is not None
        cli.db.rows("SELECT pg_terminate_backend(%s)", self._control.info.backend_pid)
        rival.batch = self._batch
        until(rival.lock, "the lock is free")
        digest = hashlib.sha256(Path("grants.csv").read_bytes()).hexdigest()
        rival.value("import_open_v1", self._batch, "grants.csv", digest, 1, "{}", 1, "another run", "me")
        rival.copy([Row("u1", 5, "k1", "x")])
        rival.seal()
        rival.plan()
        rival.die()
        begin(self, asked)

    with cli.patch.context() as patch:
        patch.setattr(BatchStore, "begin", overtaken)
        assert cli("batch-import", "grants.csv", "--yes").code == 75
    assert keys(cli) == ["first of u1"]
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert receipt(cli) == {"applied": 2}
