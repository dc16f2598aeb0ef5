"""`reverse --batch` and `--operator`: what is reversed, what is left out, what must be confirmed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.running import Cli, environment, terminal
from tests.pg import hold, post, reverse

HEADER = "user_id,amount,reason,idempotency_key\n"
DONE = ("--reason", "mistake", "--yes")
LINKED = (
    "SELECT user_id, amount, reverses_seq, reason, note, ticket FROM tokenctl.token_transactions"
    " WHERE reverses_seq IS NOT NULL ORDER BY user_id, seq"
)


def batch_of(cli: Cli, *rows: str) -> str:
    """The id of a batch of these rows."""
    cli.login("batch1")
    Path("grants.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(cli("batch-import", "grants.csv", "--yes", "--json").json["data"]["batch_id"])


@pytest.fixture
def short(cli: Cli) -> tuple[Cli, str]:
    """A batch of three users, of whom u1 has 30 of 60 tokens held and u2 has spent all of 50."""
    batch = batch_of(cli, "u1,10,x,a", "u1,20,x,b", "u1,30,x,c", "u2,50,x,d", "u3,70,x,e")
    hold(cli.db, "u1", 30)
    cli.db.rows("SELECT tokenctl.post_one('u2', 'generation', -50, 'x', NULL, NULL, NULL, 'g', NULL, 'r', 'c', false)")
    return cli, batch


def test_without_partial_nothing_changes_and_each_user_is_named(short: tuple[Cli, str]) -> None:
    cli, batch = short
    before = cli.written()
    for flags in (DONE, ("--reason", "mistake", "--dry-run")):
        got = cli("reverse", "--batch", batch, *flags)
        assert (got.code, got.out) == (1, b"")
        assert "u1 lacks 30 (wanted 60, available 30)" in got.err
        assert "u2 lacks 50 (wanted 50, available 0)" in got.err
        assert f"batch {batch} cannot be reversed: 2 users lack 80 tokens" in got.err
        assert "nothing was changed; the tokens are spent or held; --partial reverses what can be" in got.err
    problem = cli("reverse", "--batch", batch, *DONE, "--json").problem
    assert (problem["type"], problem["missing"]) == ("urn:tokenctl:problem:insufficient-tokens", 80)
    assert problem["shortages"] == [
        {"user_id": "u1", "wanted": 60, "available": 30, "missing": 30},
        {"user_id": "u2", "wanted": 50, "available": 0, "missing": 50},
    ]
    assert cli.written() == before
    assert cli.db.rows("SELECT count(*) FROM tokenctl.import_batches") == [(1,)]


def test_partial_reverses_what_can_be_and_the_same_command_the_rest(short: tuple[Cli, str]) -> None:
    cli, batch = short
    planned = cli("reverse", "--batch", batch, "--reason", "mistake", "--partial", "--dry-run", "--json")
    data = planned.json["data"]
    assert (planned.code, data["rows"], data["taken"], data["refused"]) == (1, 3, 100, 2)
    assert "2 entries would not be reversed: the tokens are spent or held" in planned.err
    got = cli("reverse", "--batch", batch, *DONE, "--partial", "--expect-total", "100")
    assert got.code == 1
    assert got.lines == [["reversed", "3", "100", "0"], ["left out: spent or held", "2", "", ""]]
    assert "2 entries were not reversed: the tokens are spent or held" in got.err
    assert "left out: 2 entries of 2 users, 80 tokens that are spent or held" in got.err
    assert [cli.balance(user) for user in ("u1", "u2", "u3")] == [30, 0, 0]
    shown = cli("batches", "show", cli("batches", "--json").json["data"][0]["batch_id"], "--format", "table")
    assert "u1:3 was not reversed: its tokens are spent or held" in shown.err
    assert f"tokenctl reverse --batch {batch} --reason mistake" in shown.text
    advice = cli("batches", "show", batch, "--json").json["data"]
    assert "reversed it but for 2 entries; tokenctl batches show" in advice["next"]
    assert advice["command"] == f"tokenctl reverse --batch {batch} --reason mistake"
    rest = cli("reverse", "--batch", batch, *DONE)
    assert f"the rest of batch {batch} cannot be reversed: 2 users lack 80 tokens" in rest.err
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    post(cli.db.connect("support1"), "u2", 50, key="again")
    assert cli("reverse", "--batch", batch, *DONE, "--json").json["data"]["rows"] == 2
    again = cli("reverse", "--batch", batch, *DONE, "--partial")
    assert (again.code, "is already reversed by batch" in again.err) == (1, True)
    assert [cli.balance(user) for user in ("u1", "u2", "u3")] == [0, 0, 0]
    cli.db.check()


def test_a_batch_whose_entries_were_reversed_otherwise_is_told_so(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,a", "u2,20,x,b")
    assert cli("reverse", "--operator", "batch1", "--since", "2026-01-01", *DONE).code == 0
    got = cli("reverse", "--batch", batch, *DONE)
    assert got.code == 1
    assert f"nothing of batch {batch} is left to reverse: each of its entries was reversed already\n" in got.err
    assert got.err.endswith("nothing was changed; tokenctl history USER shows by whom\n")


def test_what_several_reversals_took_is_told_and_undone_one_by_one(short: tuple[Cli, str]) -> None:
    cli, batch = short
    whole = ("reverse", "--batch", batch, *DONE, "--partial")
    partly = cli(*whole)
    assert f"batch {batch} (grants.csv): 3 of 5 entries of 3 users, 100 tokens are taken back" in partly.err
    cli.db.rows("UPDATE tokenctl.token_holds SET state = 'released', settled_at = clock_timestamp()")
    post(cli.db.connect("support1"), "u2", 50, key="again")
    undo = cli(*whole, "--json").json["data"]["undo"]
    back = cli(*shlex.split(undo)[1:], "--yes", "--json").json["data"]
    # The first three entries are reversed still: the batch is no import that stands.
    again = cli("batch-import", "grants.csv", "--yes")
    assert (again.code, f"imported as batch {batch} and then reversed" in again.err) == (1, True)
    assert cli("batches", "show", batch, "--json").json["data"]["state"] == "reversed"
    told = cli(*whole)
    assert told.code == 1
    assert f"batch {batch} was reversed, and batch {back['batch_id']} reversed that" in told.err
    assert f"tokenctl reverse --batch {back['batch_id']} --reason mistake" in told.err
    first = cli("batches", "show", batch, "--json").json["data"]["reversed_by"]
    also = cli("reverse", "--batch", first, *DONE, "--json").json["data"]
    shown = cli("batches", "show", batch, "--json").json["data"]
    assert shown["state"] == "done"
    undo = [f"tokenctl reverse --batch {given['batch_id']} --reason mistake" for given in (also, back)]
    assert shown["undo"] == " && ".join(undo)
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    before = cli.balance("u1"), cli.balance("u2")
    for command in undo:
        assert cli(*shlex.split(command)[1:], "--yes").code == 0
    assert cli("batches", "show", batch, "--json").json["data"]["state"] == "reversed"
    assert sum(before) - cli.balance("u1") - cli.balance("u2") == 110, "all that the batch granted to them"
    cli.db.check()


def test_partial_of_nothing_at_all_is_refused(cli: Cli) -> None:
    batch = batch_of(cli, "u1,10,x,a")
    hold(cli.db, "u1", 10)
    got = cli("reverse", "--batch", batch, *DONE, "--partial")
    assert (got.code, "1 user lacks 10 tokens" in got.err, "--partial reverses" in got.err) == (1, True, False)
    assert cli.db.rows(LINKED) == []


def test_a_total_above_the_limit_needs_its_number(cli: Cli) -> None:
    batch = batch_of(cli, "u1,120000,x,a", "u2,70000,x,b")
    cli.patch.setenv("TOKENCTL_CONFIG", "limits.toml")
    Path("limits.toml").write_text("[limits]\nbatch_total = 189999\n", encoding="utf-8")
    got = cli("reverse", "--batch", batch, *DONE, "--json")
    assert (got.code, got.problem["type"]) == (2, "urn:tokenctl:problem:limit-not-confirmed")
    assert got.problem["hint"] == "to confirm add --expect-total 190000"
    planned = cli("reverse", "--batch", batch, "--reason", "mistake", "-n")
    assert (planned.code, "it will need --expect-total 190000" in planned.err) == (0, True)
    wrong = cli("reverse", "--batch", batch, *DONE, "--expect-total", "190001")
    assert (wrong.code, "comes to 190,000 tokens, --expect-total says 190,001" in wrong.err) == (2, True)
    assert cli.balance("u1") == 120000
    for typed, code in (("189999", 2), ("190,000", 0)):
        with terminal("reverse", "--batch", batch, "--reason", "mistake", env=environment(TERM="xterm")) as asked:
            asked.wait_for("type the total: ")
            asked.type(f"{typed}\n")
            got = asked.end()
        assert (got.code, cli.balance("u1")) == (code, 120000 if code else 0), got.text


def test_one_amount_above_the_limit_needs_its_number(cli: Cli) -> None:
    post(cli.db.connect("batch1"), "u1", 6000, kind="purchase")
    got = cli("reverse", "u1:1", *DONE, "--json")
    assert (got.code, got.problem["hint"]) == (2, "to confirm add --confirm-amount 6000")
    planned = cli("reverse", "u1:1", "--reason", "mistake", "-n")
    told = "  above the limit of 5,000 tokens for one reversal: it will need --confirm-amount 6000\n"
    assert (planned.code, planned.err.endswith(told)) == (0, True)
    assert "it will need" not in cli("reverse", "u1:1", "--reason", "mistake", "-n", "--confirm-amount", "6000").err
    got = cli("reverse", "u1:1", *DONE, "--confirm-amount", "6001")
    assert (got.code, "--confirm-amount 6001 is not 6000; nothing was changed" in got.err) == (2, True)
    assert cli.balance() == 6000
    assert cli("reverse", "u1:1", "--reason", "mistake", "--confirm-amount", "6000").code == 0
    assert cli.balance() == 0
    with terminal("reverse", "u1:2", "--reason", "mistake", env=environment(TERM="xterm")) as asked:
        asked.wait_for("6,000 is above the limit of 5,000 tokens for one reversal")
        asked.wait_for("type the amount: ")
        asked.type("6000\n")
        assert asked.end().code == 0
    assert cli.balance() == 6000


@pytest.fixture
def misuse(cli: Cli) -> Cli:
    """What support2 did among others' work: grants, one reversal of another's grant, one of his own."""
    one, two = cli.db.connect("support1"), cli.db.connect("support2")
    post(one, "u1", 100, key="a")
    post(two, "u1", 30, key="b", claimed_by="alice@desk")
    post(two, "u2", 50, key="c", claimed_by="alice@desk")
    reverse(two, "u1", 1, claimed_by="alice@desk")
    post(two, "u3", 5, key="d", claimed_by="alice@desk")
    reverse(two, "u3", 1, claimed_by="alice@desk")
    post(one, "u3", 7, key="e", claimed_by="alicex@desk")
    cli.login("batch1")
    return cli


@pytest.mark.parametrize("name", ["support2", "alice", "alice@desk"])
def test_all_that_an_operator_did_is_undone(misuse: Cli, name: str) -> None:
    flags = ("--operator", name, "--since", "2026-01-01", "--reason", "misuse", "--note", "n", "--ticket", "T")
    planned = misuse("reverse", *flags, "--dry-run", "--json").json["data"]
    assert planned["by_kind"] == {"bonus": {"entries": 3, "taken": 80, "given": 100}}
    assert (planned["rows"], planned["users"], planned["total"], planned["tokens"]) == (3, 2, 180, -20)
    got = misuse("reverse", *flags, "--yes")
    assert (got.code, got.lines) == (0, [["reversed", "3", "80", "100"]])
    # u1's grant of support1 counts again; u3's pair of grant and reversal had cancelled itself.
    assert [misuse.balance(user) for user in ("u1", "u2", "u3")] == [100, 0, 7]
    assert misuse.db.rows(LINKED) == [
        ("u1", -100, 1, "mistake", None, None),
        ("u1", 100, 3, "misuse", "n", "T"),
        ("u1", -30, 2, "misuse", "n", "T"),
        ("u2", -50, 1, "misuse", "n", "T"),
        ("u3", -5, 1, "mistake", None, None),
    ]
    again = misuse("reverse", *flags, "--yes")
    assert f"what {name} did since 2026-01-01 00:00 UTC is already reversed" in again.err
    misuse.db.check()


def test_the_reversal_of_an_operator_is_listed_and_can_be_undone(misuse: Cli) -> None:
    data = misuse("reverse", "--operator", "alice", "--since", "2026-01-01", *DONE, "--json").json["data"]
    listed = misuse("batches", "--json").json["data"][0]
    assert (listed["batch_id"], listed["kind"], listed["reverses_operator"]) == (data["batch_id"], "reversal", "alice")
    assert (
        " REVERSES   alice, 2026-01-01 00:00 UTC to 20"
        in misuse("batches", "show", data["batch_id"], "--format", "table").text
    )
    assert misuse("batches", "show", data["batch_id"]).lines[0][3] == "alice"  # no time in the form of people
    assert misuse(*shlex.split(data["undo"])[1:], "--yes").code == 0
    assert [misuse.balance(user) for user in ("u1", "u2", "u3")] == [30, 50, 7]
    misuse.db.check()


def test_the_time_chooses(misuse: Cli) -> None:
    times = dict(misuse.db.rows("SELECT user_id || ':' || seq, created_at::text FROM tokenctl.token_transactions"))
    since, until = (times[name].replace(" ", "T") + ":00" for name in ("u2:1", "u1:3"))
    got = misuse("reverse", "--operator", "alice", "--since", since, "--until", until, *DONE)
    assert (got.code, got.lines) == (0, [["reversed", "1", "50", "0"]])
    assert [misuse.balance(user) for user in ("u1", "u2", "u3")] == [30, 0, 7]
    got = misuse("reverse", "--operator", "alice", "--since", until, *DONE, "--json")
    assert (got.code, got.json["data"]["given"], misuse.balance("u1")) == (0, 100, 130)


def test_a_name_that_did_nothing_is_told(misuse: Cli) -> None:
    for name, since in (("alic", "2026-01-01"), ("alice", "2099-01-01"), ("u1", "2026-01-01")):
        got = misuse("reverse", "--operator", name, "--since", since, *DONE, "--json")
        assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:not-found")
        assert f"no entry was made by {name} since {since} 00:00 UTC" in got.problem["detail"]
    assert misuse.db.rows("SELECT count(*) FROM tokenctl.import_batches") == [(0,)]


def test_a_balance_below_zero_on_the_way_is_no_obstacle(cli: Cli) -> None:
    """What the operator took is given back first; in the order of the entries it would not fit."""
    two = cli.db.connect("support2")
    post(cli.db.connect("support1"), "u1", 100, key="a")
    post(two, "u1", 60, key="b")
    reverse(two, "u1", 1)
    hold(cli.db, "u1", 55)
    cli.login("batch1")
    got = cli("reverse", "--operator", "support2", "--since", "2026-01-01", *DONE)
    assert (got.code, cli.balance()) == (0, 100)
    cli.db.check()


def test_a_balance_above_the_limit_on_the_way_leaves_that_user_out(cli: Cli) -> None:
    most = 2**53 - 1
    support, admin = cli.db.connect("support1"), cli.db.connect("admin1")
    post(admin, "u1", 8, key="theirs")
    post(support, "u1", 10, key="ours")
    reverse(support, "u1", 1)
    post(admin, "u1", most - 15, key="more")
    post(support, "u2", 5, key="ours")
    cli.login("batch1")
    flags = ("--operator", "support1", "--since", "2026-01-01", *DONE)
    why = f"u1 has {most - 5:,}, would be given 8 back"
    before = cli.written()
    got = cli("reverse", *flags, "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:balance-too-large")
    assert "the balance of 1 user would pass 9,007,199,254,740,991 tokens\n" + why in got.problem["detail"]
    assert got.problem["hint"] == "nothing was changed; --partial reverses what can be"
    assert cli.written() == before
    planned = cli("reverse", *flags, "--partial", "--dry-run")
    assert (planned.code, "2 entries would not be reversed: the balance would pass 9,007" in planned.err) == (1, True)
    assert planned.lines == [
        ["would be reversed", "1", "5", "0"],
        ["  bonus", "3", "15", "8"],
        ["left out: balance too large", "2", "10", "8"],
    ]
    assert (
        f"left out: 2 entries of 1 user, whose balance would pass 9,007,199,254,740,991 tokens\n    {why}"
        in planned.err
    )
    got = cli("reverse", *flags, "--partial", "--expect-total", "5")
    assert (got.code, got.lines) == (1, [["reversed", "1", "5", "0"], ["left out: balance too large", "2", "", ""]])
    assert "2 entries were not reversed: the balance would pass 9,007,199,254,740,991 tokens" in got.err
    assert "spent" not in got.err
    assert [cli.balance(user) for user in ("u1", "u2")] == [most - 5, 0]
    assert cli.db.rows("SELECT state, applied, refused FROM tokenctl.import_batches") == [("done", 1, 2)]
    shown = cli("batches", "show", cli("batches", "--json").json["data"][0]["batch_id"], "--format", "table")
    assert "u1:2 was not reversed: the balance would pass 9,007,199,254,740,991 tokens" in shown.err
    cli.db.check()


def test_what_is_too_large_and_what_is_spent_are_told_apart(cli: Cli) -> None:
    most = 2**53 - 1
    support, admin = cli.db.connect("support1"), cli.db.connect("admin1")
    for user in ("u1", "u2", "u3"):
        post(admin, user, 8, key="theirs")
        post(support, user, 10, key="ours")
    for user in ("u1", "u2"):
        reverse(support, user, 1)
    post(admin, "u1", most - 15, key="more")
    hold(cli.db, "u3", 18)
    cli.login("batch1")
    flags = ("--operator", "support1", "--since", "2026-01-01", *DONE)
    data = cli("reverse", *flags, "--partial", "--dry-run", "--json").json["data"]
    assert (data["refused"], data["too_large"], data["taken"], data["given"]) == (3, 2, 10, 8)
    assert data["overflows"] == [{"user_id": "u1", "balance": most - 5, "given": 8, "entries": 2}]
    assert [short["user_id"] for short in data["shortages"]] == ["u3"]
    refused = cli("reverse", *flags)
    assert "1 user lacks 10 tokens, the balance of 1 user would pass" in refused.err
    got = cli("reverse", *flags, "--partial", "--json")
    assert (got.code, got.json["data"]["refused"], got.json["data"]["too_large"]) == (1, 3, 2)
    assert "1 entry was not reversed: the tokens are spent or held" in got.err
    assert "2 entries were not reversed: the balance would pass" in got.err
    assert [cli.balance(user) for user in ("u1", "u2", "u3")] == [most - 5, 8, 18]
    cli.db.check()


def test_support_may_not(misuse: Cli) -> None:
    misuse.login("support1")
    asked = ("reverse", "--operator", "alice", "--since", "2026-01-01", *DONE)
    assert misuse(*asked, "--dry-run").code == 77
    assert misuse.written()[2] == 0, "of a dry run nothing is kept"
    assert misuse(*asked).code == 77
    assert misuse.db.rows("SELECT action, outcome, subject FROM tokenctl.audit_log") == [
        ("reverse-many", "not_allowed", "alice")
    ]


def test_one_that_was_cut_off_keeps_its_end_its_reason_and_its_total(misuse: Cli) -> None:
    flags = ("--operator", "alice", "--since", "2026-01-01")
    misuse.db.rows(  # a slice that cannot be posted
        "ALTER TABLE tokenctl.token_transactions ADD CONSTRAINT stop CHECK (reason <> 'misuse' OR user_id <> 'u2')"
    )
    assert misuse("reverse", *flags, "--reason", "misuse", "--yes").code != 0
    misuse.db.rows("ALTER TABLE tokenctl.token_transactions DROP CONSTRAINT stop")
    [unfinished] = misuse("batches", "--state", "unfinished", "--json").json["data"]
    command = misuse("batches", "show", unfinished["batch_id"], "--json").json["data"]["command"]
    assert shlex.split(command)[1:] == [
        "reverse",
        "--operator",
        "alice",
        "--since",
        "2026-01-01T00:00:00Z",
        "--reason",
        "misuse",
    ]
    post(misuse.db.connect("support2"), "u2", 9, key="late", claimed_by="alice@desk")
    wrong = misuse("reverse", *flags, *DONE, "--expect-total", "181")
    assert (wrong.code, "was begun with 180 tokens" in wrong.err) == (2, True)
    got = misuse("reverse", *flags, *DONE, "--expect-total", "180", "--json")
    assert (got.code, got.json["data"]["batch_id"]) == (0, unfinished["batch_id"])
    reasons = misuse.db.rows("SELECT DISTINCT reason FROM tokenctl.token_transactions WHERE batch_id IS NOT NULL")
    assert (reasons, [misuse.balance(user) for user in ("u1", "u2", "u3")]) == ([("misuse",)], [100, 9, 7])
    assert misuse("reverse", *flags, *DONE, "--json").json["data"]["rows"] == 1  # the late one
    misuse.db.check()


@pytest.mark.parametrize(
    "flags",
    [
        ("--operator", "alice"),
        ("--operator", "alice", "--until", "2026-01-01"),
        ("--operator", "alice", "--since", "2026-01-02", "--until", "2026-01-01"),
        ("--operator", "alice", "--since", "soon"),
        ("--operator", " ", "--since", "2026-01-01"),
        ("--operator", "alice", "--since", "2026-01-01", "--batch", "0" * 12),
        ("--operator", "alice", "--since", "2026-01-01", "--idempotency-key", "k"),
        ("--operator", "alice", "--since", "2026-01-01", "--confirm-amount", "5"),
        ("--batch", "0" * 12, "--since", "2026-01-01"),
        ("--batch", "0" * 12, "--until", "2026-01-01"),
        ("u1:1", "--operator", "alice", "--since", "2026-01-01"),
        ("u1:1", "--partial"),
        ("u1:1", "--since", "2026-01-01"),
        ("u1:1", "--expect-total", "5"),
    ],
)
def test_what_does_not_go_together_is_refused(cli: Cli, flags: tuple[str, ...]) -> None:
    got = cli("reverse", *flags, *DONE)
    assert (got.code, got.out) == (2, b"")
    assert "Traceback" not in got.err


def test_json_lines_and_quiet(misuse: Cli) -> None:
    flags = ("reverse", "--operator", "alice", "--since", "2026-01-01", *DONE)
    got = misuse(*flags, "-q")
    assert (got.code, got.out, got.err) == (0, b"", "")
    value = misuse("batches", "--json").json["data"][0]["batch_id"]
    got = misuse("reverse", "--batch", value, *DONE, "--format", "value")
    assert got.code == 0
    assert len(got.text.strip()) == 12
    assert json.loads(misuse("batches", "show", got.text.strip(), "--json").text)["data"]["reverses"] == value
