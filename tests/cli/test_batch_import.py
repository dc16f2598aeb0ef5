"""`batch-import` from the command line to the rows: every option, every receipt."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import pytest

from tests.batch_driver import staged_tables
from tests.cli.running import Cli, on_terminal, terminal
from tests.pg import post

HEADER = "user_id,amount,reason,idempotency_key"
ROWS = (
    "SELECT user_id, seq, amount, kind, reason, note, ticket, campaign, idempotency_key"
    " FROM tokenctl.token_transactions ORDER BY user_id, seq"
)
EVERYTHING = ("token_accounts", "token_transactions", "token_holds", "import_batches", "import_lanes", "audit_log")


@pytest.fixture(autouse=True)
def _batch_role(cli: Cli) -> None:
    cli.login("batch1")


def write(*rows: str, name: str = "grants.csv", header: str = HEADER) -> str:
    Path(name).write_text("".join(f"{line}\n" for line in (header, *rows)))
    return name


def keys(cli: Cli) -> list[str]:
    return [str(row[-1]) for row in cli.db.rows(ROWS)]


def untouched(cli: Cli) -> bool:
    """Whether the database holds nothing at all but its schema."""
    empty = all(cli.db.rows(f"SELECT count(*) FROM tokenctl.{table}") == [(0,)] for table in EVERYTHING)  # noqa: S608
    return empty and staged_tables(cli.db) == []


def test_every_column_reaches_its_row(cli: Cli) -> None:
    file = write(
        'u1,5,outage,k1,"sorry, really",T#1,purchase',
        "u2,7,outage,k1,,,",
        header=f"{HEADER},note,ticket,kind",
    )
    got = cli("batch-import", file, "--yes")
    assert got.code == 0
    assert cli.db.rows(ROWS) == [
        ("u1", 1, 5, "purchase", "outage", "sorry, really", "T#1", None, "k1"),
        ("u2", 1, 7, "bonus", "outage", None, None, None, "k1"),
    ]
    assert got.lines == [["granted", "2", "12"]]
    cli.db.check()


def test_the_longest_row_goes_through(cli: Cli) -> None:
    user, reason, key, note, ticket = "u" * 128, "referral", "k" * 128, "🎄" * 500, "t" * 64
    file = write(f"{user},999999999999999,{reason},{key},{note},{ticket}", header=f"{HEADER},note,ticket")
    got = cli("batch-import", file, "--yes", "--expect-total", "999999999999999")
    assert got.code == 0
    assert cli.db.rows(ROWS) == [(user, 1, 999999999999999, "bonus", reason, note, ticket, None, key)]
    cli.db.check()


def test_the_receipt_names_the_batch_and_its_undo(cli: Cli) -> None:
    write("u1,5,x,k1", "u1,5,x,k1", "u2,7,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", "--json", "--request-id", "r7")
    data, meta = got.json["data"], got.json["meta"]
    assert got.json["schema"] == "tokenctl.import.v1"
    assert data["rows"] == {
        "read": 3, "applied": 2, "posted": 2, "replayed": 0, "conflicting": 0, "rejected": 0, "duplicate": 1,
        "refused": 0,
    }  # fmt: skip
    assert data["new_users"] == 2
    assert (data["tokens"], data["outcome"], data["file"]) == (12, "applied", "grants.csv")
    assert (meta["dry_run"], meta["replayed"], meta["request_id"]) == (False, False, "r7")
    assert re.fullmatch(r"[0-9a-f]{12}", data["batch_id"])
    assert data["undo"] == f"tokenctl reverse --batch {data['batch_id']} --reason mistake"
    assert data["undo"] in got.err
    stored = cli.db.rows("SELECT batch_id, file_name, operator, request_id, state FROM tokenctl.import_batches")
    assert stored == [(data["batch_id"], "grants.csv", "batch1", "r7", "done")]
    undone = cli("reverse", "--batch", data["batch_id"], "--reason", "mistake", "--yes", "--json").json["data"]
    assert (undone["rows"], undone["tokens"], undone["reverses_batch"]) == (2, 12, data["batch_id"])
    assert cli.db.rows("SELECT sum(balance) FROM tokenctl.token_accounts") == [(0,)]


@pytest.mark.parametrize("rows", [(), ("u1,x,outage,k1",)], ids=["a header alone", "bad rows alone"])
def test_what_posted_nothing_has_no_undo(cli: Cli, rows: tuple[str, ...]) -> None:
    asked = ("batch-import", write(*rows), "--yes", "--partial")
    got = cli(*asked)
    assert (got.code, "undo:" in got.err) == (65 if rows else 0, False)
    data = cli(*asked, "--json").json["data"]
    assert (data["outcome"], data["undo"]) == ("already", None)
    undone = cli("reverse", "--batch", data["batch_id"], "--reason", "mistake", "--yes")
    assert undone.code == 1
    assert f"batch {data['batch_id']} posted nothing: there is nothing to reverse\n" in undone.err


def test_reason_is_for_rows_that_name_none(cli: Cli) -> None:
    write("u1,5,own,k1", "u2,5,,k2")
    assert cli("batch-import", "grants.csv", "--yes", "--reason", "spring").code == 0
    assert [row[4] for row in cli.db.rows(ROWS)] == ["own", "spring"]


def test_campaign_is_one_claim_per_user(cli: Cli) -> None:
    cli.grant("u1", 5, "--campaign", "spring", reason="promo")
    write("u1,5,promo", "u2,5,promo", header="user_id,amount,reason")
    got = cli("batch-import", "grants.csv", "--yes", "--campaign", "spring")
    assert got.lines == [["granted", "1", "5"], ["already imported", "1", ""]]
    assert [(row[0], row[7], row[8]) for row in cli.db.rows(ROWS)] == [
        ("u1", "spring", "bonus:spring"),
        ("u2", "spring", "bonus:spring"),
    ]


def test_format_in_beats_what_the_content_looks_like(cli: Cli) -> None:
    Path("grants").write_text('{"user_id": "u1", "amount": 5, "reason": "x", "key": "k"}\n')
    assert cli("batch-import", "grants", "--yes", "--format-in", "csv").code == 65
    assert untouched(cli)
    assert cli("batch-import", "grants", "--yes", "--format-in", "jsonl").code == 0
    assert keys(cli) == ["k"]


def test_stdin_and_gzip_are_read(cli: Cli) -> None:
    content = f"{HEADER}\nu1,5,x,k1\n".encode()
    assert cli("batch-import", "-", "--yes", stdin=content).code == 0
    assert cli("batch-import", "-", "--yes", stdin=gzip.compress(content.replace(b"k1", b"k2"))).code == 0
    Path("grants.csv.gz").write_bytes(gzip.compress(content.replace(b"k1", b"k3")))
    assert cli("batch-import", "grants.csv.gz", "--yes").code == 0
    assert keys(cli) == ["k1", "k2", "k3"]


def test_the_same_content_is_the_same_batch_whatever_it_is_called(cli: Cli) -> None:
    write("u1,5,x,k1")
    write("u1,5,x,k1", name="copy.csv")
    first = cli("batch-import", "grants.csv", "--yes", "--json").json["data"]
    packed = gzip.compress(Path("grants.csv").read_bytes())
    for argv, stdin in ((("grants.csv",), b""), (("copy.csv",), b""), (("-",), packed)):
        again = cli("batch-import", *argv, "--yes", "--json", stdin=stdin)
        assert again.code == 0
        assert again.json["data"]["outcome"] == "already"
        assert again.json["data"]["batch_id"] == first["batch_id"]
        data = again.json["data"]
        assert (data["rows"]["applied"], data["rows"]["posted"], data["new_users"]) == (1, 1, None)
        assert f"already imported as batch {first['batch_id']}" in again.err
    assert cli.balance() == 5


def test_a_file_that_was_imported_is_told_without_loading_what_checks_it(cli: Cli) -> None:
    assert cli("batch-import", write("u1,5,x,k1"), "--yes").code == 0
    cli.patch.delitem(sys.modules, "tokenctl.grantfile.check")
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    assert "tokenctl.grantfile.check" not in sys.modules


def test_an_option_that_changes_rows_makes_another_batch(cli: Cli) -> None:
    write("u1,5,,k1")
    ids = [
        cli("batch-import", "grants.csv", "-n", "--json", "--reason", *options).json["data"]["batch_id"]
        for options in (["a"], ["a", "--partial"], ["a", "--atomic"], ["b"])
    ]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    write("u1,5,x", header="user_id,amount,reason")
    one, other = (
        cli("batch-import", "grants.csv", "-n", "--json", "--campaign", name).json["data"]["batch_id"] for name in "ab"
    )
    assert one != other


def test_bad_rows_stop_everything_and_are_named_by_line(cli: Cli) -> None:
    write("u1,5,x,k1", "u2,1_000,x,k2", "u 3,5,x,k3", "u4,5,x,k4")
    got = cli("batch-import", "grants.csv", "--yes")
    assert (got.code, got.out) == (65, b"")
    places = [line for line in got.err.splitlines() if line.startswith("grants.csv:")]
    assert [re.match(r"grants\.csv:([0-9]+): ([a-z_]+): \S", line).groups() for line in places] == [  # type: ignore[union-attr]  # fails when None
        ("3", "amount"),
        ("4", "user_id"),
    ]
    assert "2 of 4 rows are bad; nothing was imported" in got.err
    assert untouched(cli)


def test_bad_rows_are_data_for_programs(cli: Cli) -> None:
    write("u1,-5,x,k1")
    got = cli("batch-import", "grants.csv", "--yes", "--json")
    assert (got.code, got.problem["type"]) == (65, "urn:tokenctl:problem:bad-data")
    assert (got.problem["rejected"], got.problem["rows"][0]["line"]) == (1, 2)


def test_partial_writes_a_reject_file_that_can_be_mended_and_fed_again(cli: Cli) -> None:
    post(cli.db.connect("support1"), "u5", 1, key="taken")
    write("u1,5,x,k1", "u2,1_000,x,k2", "u3,5,x,k3", "u3,6,x,k3", "u5,5,x,taken")
    got = cli("batch-import", "grants.csv", "--yes", "--partial", "--json")
    assert got.code == 65
    data = got.json["data"] if got.out else {}
    assert data["rows"] | {"replayed": 0} == data["rows"]
    assert (data["rows"]["read"], data["rows"]["applied"], data["rows"]["rejected"]) == (5, 1, 4)
    rejects = Path(data["reject_file"])
    assert rejects.name == f"grants.{data['batch_id']}.rejected.csv"
    written = rejects.read_text()
    assert written.splitlines()[0] == f"{HEADER},error"
    assert len(written.splitlines()) == 5
    mended = written.replace("1_000", "1000").replace("u3,6,x,k3", "u3,6,x,k3b").replace("taken", "free")
    rejects.write_text(mended)
    again = cli("batch-import", str(rejects), "--yes")
    assert (again.code, again.lines) == (0, [["granted", "4", "1016"]])
    assert sorted(keys(cli)) == ["free", "k1", "k2", "k3", "k3b", "taken"]
    cli.db.check()


def test_reject_file_goes_where_it_is_asked_to_and_overwrites_nothing(cli: Cli) -> None:
    write("u1,5,x,k1", "u2,oops,x,k2")
    Path("mine.csv").write_text("precious\n")
    refused = cli("batch-import", "grants.csv", "--yes", "--partial", "--reject-file", "mine.csv")
    assert refused.code == 73
    assert untouched(cli)
    assert Path("mine.csv").read_text() == "precious\n"
    assert cli("batch-import", "grants.csv", "--yes", "--partial", "--reject-file", "rejects.csv").code == 65
    assert Path("rejects.csv").read_text().splitlines()[1].startswith("u2,oops,x,k2,")
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["grants.csv", "mine.csv", "rejects.csv"]


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_bad_rows_are_named_in_the_order_of_the_file_whoever_found_them(cli: Cli, flag: str) -> None:
    write("u1,5,outage,k1")
    assert cli("batch-import", "grants.csv", "--yes").code == 0
    write("u1,6,outage,k1", "u2,x,outage,k2", "u3,1,outage,k3", "u1,7,outage,k1", "u4,y,outage,k4")
    got = cli("batch-import", "grants.csv", flag, "--partial")
    told = [line.split(":")[1] for line in got.err.splitlines() if line.startswith("grants.csv:")]
    assert (got.code, told) == (65, ["2", "3", "5", "6"])


def test_stdin_with_partial_needs_a_reject_file(cli: Cli) -> None:
    content = f"{HEADER}\nu1,5,x,k1\nu2,oops,x,k2\n".encode()
    got = cli("batch-import", "-", "--yes", "--partial", stdin=content)
    assert (got.code, "--reject-file" in got.err) == (2, True)
    assert untouched(cli)
    assert cli("batch-import", "-", "--yes", "--partial", "--reject-file", "r.csv", stdin=content).code == 65
    assert keys(cli) == ["k1"]


def test_a_dry_run_makes_no_reject_file_and_needs_no_place_for_one(cli: Cli) -> None:
    content = f"{HEADER}\nu1,5,x,k1\nu2,oops,x,k2\n".encode()
    got = cli("batch-import", "-", "--partial", "--dry-run", stdin=content)
    assert (got.code, got.lines) == (65, [["would be granted", "1", "5"], ["rejected", "1", ""]])
    assert "-:3: amount: " in got.err
    cli.patch.setattr("tokenctl.services.imports.RejectFile", None)
    write("u1,5,x,k1", "u2,oops,x,k2")
    assert cli("batch-import", "grants.csv", "--partial", "--dry-run").code == 65
    assert untouched(cli)


def test_known_users_only_refuses_the_others(cli: Cli) -> None:
    cli.grant("u1", 1)
    write("u1,5,x,k1", "nobody,5,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", "--known-users-only")
    assert got.code == 65
    assert "grants.csv:3: user_id: no user 'nobody' in the ledger" in got.err
    assert cli.balance() == 1
    assert cli("batch-import", "grants.csv", "--yes", "--known-users-only", "--partial").code == 65
    assert cli.balance() == 6
    assert cli("balance", "nobody").code == 67


@pytest.mark.parametrize("order", [[], ["--atomic"]])
def test_a_conflict_is_a_bad_row(cli: Cli, order: list[str]) -> None:
    cli.grant("u1", 1, "--idempotency-key", "k1")
    write("u1,5,x,k1", "u2,5,x,k2")
    got = cli("batch-import", "grants.csv", "--yes", *order)
    assert got.code == 65
    assert "grants.csv:2: idempotency_key: was used with other content (u1:1)" in got.err
    assert cli.db.rows("SELECT count(*) FROM tokenctl.token_accounts") == [(1,)]
    assert cli("batch-import", "grants.csv", "--yes", "--partial", *order).code == 65
    assert keys(cli) == ["k1", "k2"]


def test_atomic_posts_the_same_rows(cli: Cli) -> None:
    write(*(f"u{n % 50},{n + 1},x,k{n}" for n in range(500)))
    assert cli("batch-import", "grants.csv", "--yes", "--atomic").lines == [["granted", "500", "125250"]]
    cli.db.check()


def test_a_dry_run_counts_and_leaves_nothing(cli: Cli) -> None:
    write("u1,5,b,k1", "u1,5,b,k1", "u2,7,a,k2")
    for stdin_answers in (b"", b"y\n"):
        got = cli("batch-import", "grants.csv", "--dry-run", "--json", stdin=stdin_answers)
        assert got.code == 0
        data, meta = got.json["data"], got.json["meta"]
        assert (data["outcome"], meta["dry_run"], data["undo"], data["new_users"]) == ("planned", True, None, 2)
        assert (data["rows"]["applied"], data["rows"]["duplicate"], data["tokens"]) == (2, 1, 12)
        assert data["rows"]["posted"] == 0
        assert data["by_reason"] == {"a": {"rows": 1, "tokens": 7}, "b": {"rows": 2, "tokens": 10}}
        assert untouched(cli)
    assert "would be granted" in cli("batch-import", "grants.csv", "-n", "--format", "table").text


def test_a_dry_run_names_bad_rows_with_their_exit_code(cli: Cli) -> None:
    write("u1,5,x,k1", "u2,oops,x,k2")
    assert cli("batch-import", "grants.csv", "-n").code == 65
    got = cli("batch-import", "grants.csv", "-n", "--partial", "--format", "jsonl")
    assert got.code == 65
    lines = [json.loads(line) for line in got.text.splitlines()]
    assert [line["schema"] for line in lines] == ["tokenctl.import_row.v1", "tokenctl.import_summary.v1"]
    assert (lines[0]["line"], lines[0]["column"]) == (3, "amount")
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["grants.csv"]
    assert untouched(cli)


def test_quiet_is_silent_on_success(cli: Cli) -> None:
    write("u1,5,x,k1")
    for _ in range(2):
        got = cli("batch-import", "grants.csv", "--yes", "-q")
        assert (got.code, got.out, got.err) == (0, b"", "")
    asked_for = cli("batch-import", "grants.csv", "--yes", "-q", "--format", "value")
    assert re.fullmatch(r"[0-9a-f]{12}\n", asked_for.text)


@pytest.mark.parametrize(("form", "expected"), [("value", r"[0-9a-f]{12}\n"), ("tsv", "granted\t1\t5\n")])
def test_formats(cli: Cli, form: str, expected: str) -> None:
    write("u1,5,x,k1")
    assert re.fullmatch(expected, cli("batch-import", "grants.csv", "--yes", "--format", form).text)


def test_progress_is_drawn_on_a_terminal_only(cli: Cli) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(2000)))
    piped = cli("batch-import", "grants.csv", "-n")
    assert not re.search(r"[\r\x1b\u2501]", piped.text + piped.err)
    assert "checking" in on_terminal("batch-import", "grants.csv", "-n").text
    quiet = on_terminal("batch-import", "grants.csv", "--yes", "-q")
    assert (quiet.code, quiet.text) == (0, "")
    cli.db.check()


@pytest.mark.parametrize("argv", [("batch-import", "grants.csv", "--yes"), ("verify",)])
def test_every_line_of_the_log_names_its_run_whichever_thread_wrote_it(cli: Cli, argv: tuple[str, ...]) -> None:
    write(*(f"u{n},5,x,k{n}" for n in range(100)))
    Path("debug.toml").write_text('[log]\nfile = "run.log"\nlevel = "debug"\n', encoding="utf-8")
    assert cli(*argv, "--config", "debug.toml", "--request-id", "r1").code == 0
    lines = [json.loads(line) for line in Path("run.log").read_text(encoding="utf-8").splitlines()]
    assert {(line["request_id"], line["operation"]) for line in lines} == {("r1", argv[0])}


def test_a_question_is_asked_and_answered(cli: Cli) -> None:
    write("u1,5,x,k1")
    with terminal("batch-import", "grants.csv") as asked:
        assert "Import 1 row?" in asked.wait_for("[y/N]")
        asked.type("n\n")
        assert asked.end().code == 1
    assert untouched(cli)
    with terminal("batch-import", "grants.csv") as asked:
        asked.wait_for("[y/N]")
        asked.type("y\n")
        assert asked.end().code == 0
    assert cli.balance() == 5


def test_a_dry_run_tells_which_total_the_run_will_want(cli: Cli) -> None:
    write("u1,150000,x,k1", "u2,50001,x,k2")
    got = cli("batch-import", "grants.csv", "-n")
    told = "  above the limit of 200,000 tokens in one import: it will need --expect-total 200001\n"
    assert (got.code, got.err.endswith(told)) == (0, True)
    assert "it will need" not in cli("batch-import", "grants.csv", "-n", "--expect-total", "200001").err
    write("u1,150000,x,k1", "u2,50000,x,k2")
    assert "it will need" not in cli("batch-import", "grants.csv", "-n").err


def test_a_total_above_the_limit_is_typed(cli: Cli) -> None:
    write("u1,150000,x,k1", "u2,150000,x,k2")
    for typed, code in (("y", 2), ("300,001", 2), ("300,000", 0)):
        with terminal("batch-import", "grants.csv", "--yes") as asked:
            asked.wait_for("type the total")
            asked.type(f"{typed}\n")
            assert asked.end().code == code
        assert untouched(cli) == (code != 0)
    assert cli.balance() == 150000


@pytest.mark.parametrize("end", [("--yes", "--reject-file", "bad.csv"), ("--dry-run",)])
def test_of_many_rows_that_are_left_out_it_is_told_that_not_all_are_named(cli: Cli, end: tuple[str, ...]) -> None:
    for bad, is_told in ((100, False), (101, True)):
        write(*(f"u{n},oops,x,k{n}" for n in range(bad)), f"u1,5,x,{bad}")
        got = cli("batch-import", "grants.csv", "--partial", *end)
        assert (got.code, got.err.count(": amount: ")) == (65, 100)
        assert ("; the first 100 problems are named\n" in got.err) == is_told
        Path("bad.csv").unlink(missing_ok=True)
