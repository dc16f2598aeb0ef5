"""`batches`: imports and reversals as they stand, and what to do next."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.batch_driver import Client, Row
from tests.cli.running import Cli, environment, on_terminal, without_escapes
from tests.pg import reverse
from tests.waiting import until

GOOD = "user_id,amount,reason,idempotency_key\nu1,50,promo,k1\nu2,70,promo,k2\n"
BAD = "user_id,amount,reason\nu1,5,promo\nu2,1.000,promo\n"


@pytest.fixture
def imported(cli: Cli, home: Path) -> Cli:
    """A good file, then one with a bad row, both imported from the home folder."""
    cli.login("batch1")
    (home / "good.csv").write_text(GOOD, encoding="utf-8")
    (home / "bad.csv").write_text(BAD, encoding="utf-8")
    assert cli("batch-import", "good.csv", "--yes").code == 0
    assert cli("batch-import", "bad.csv", "--yes", "--partial", "--campaign", "spring").code == 65
    return cli


def ids(cli: Cli) -> list[str]:
    return [line[0] for line in cli("batches").lines]


def test_the_list_is_a_line_a_batch_the_newest_first(imported: Cli) -> None:
    got = imported("batches")
    assert (got.code, got.err) == (0, "")
    bad, good = got.lines
    digest = hashlib.sha256(GOOD.encode()).hexdigest()
    assert [len(bad), len(good)] == [12, 12]
    assert good[2:] == ["done", "good.csv", "2", "120", "", "import", "", "", "batch1", digest[:12]]
    assert bad[2:11] == ["done", "bad.csv", "1", "5", "1", "import", "", "", "batch1"]
    assert re.fullmatch(r"20\d\d-.*Z", good[1])


def test_list_is_what_batches_alone_means(imported: Cli) -> None:
    plain = imported("batches").out
    assert imported("batches", "list").out == plain
    assert imported("batches", "--limit", "20").out == imported("batches", "list", "--limit", "20").out == plain
    assert imported("batches", "--json").json["data"] == imported("batches", "list", "--json").json["data"]


def test_json_has_the_whole_digest_and_all_counts(imported: Cli) -> None:
    document = imported("batches", "--json").json
    assert (document["schema"], document["meta"]["more"]) == ("tokenctl.batches.v1", False)
    bad, good = document["data"]
    assert good["sha256"] == hashlib.sha256(GOOD.encode()).hexdigest()
    assert (good["size_bytes"], good["tokens"], good["options"]) == (len(GOOD), 120, {})
    assert good["rows"] == {
        "read": 2, "posted": 2, "replayed": 0, "conflicting": 0, "rejected": 0, "duplicate": 0, "refused": 0,
    }  # fmt: skip
    assert (bad["rows"]["rejected"], bad["options"]) == (1, {"campaign": "spring"})


def test_lines_and_csv(imported: Cli) -> None:
    *rows, summary = map(json.loads, imported("batches", "--format", "jsonl").text.splitlines())
    assert [row["schema"] for row in rows] == ["tokenctl.batches_row.v1"] * 2
    assert (summary["schema"], summary["rows"], summary["more"]) == ("tokenctl.batches_summary.v1", 2, False)
    table = list(csv.DictReader(io.StringIO(imported("batches", "--format", "csv").text)))
    assert [(row["file"], row["tokens"]) for row in table] == [("bad.csv", "5"), ("good.csv", "120")]


def test_limit_and_state_choose(imported: Cli) -> None:
    newest, oldest = ids(imported)
    got = imported("batches", "--limit", "1")
    assert [line[0] for line in got.lines] == [newest]
    assert got.err == "▸ there are older ones; --limit 10 shows more\n"
    assert imported("batches", "--limit", "1", "-q").err == ""
    assert imported("batches", "--limit", "1", "--json").json["meta"]["more"] is True
    assert imported("reverse", "--batch", oldest, "--reason", "wrong", "--yes").code == 0
    assert [line[0] for line in imported("batches", "--state", "reversed").lines] == [oldest]
    assert len(imported("batches", "list", "--state", "done").lines) == 2
    got = imported("batches", "--state", "running")
    assert (got.code, got.out, got.err) == (0, b"", "▸ no batch is like this\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--limit", "0"), "--limit: '0' is not a number of rows"),
        (("--state", "broken"), "--state: 'broken' is not one of"),
        (("show", "xyz"), "ID: 'xyz' is no batch"),
        (("show",), "missing argument 'ID'"),
        (("shwo", "xyz"), "no such command 'shwo'"),
    ],
)
def test_a_wrong_command_line_is_told(imported: Cli, flags: tuple[str, ...], words: str) -> None:
    got = imported("batches", *flags)
    assert (got.code, got.out) == (2, b"")
    assert words in got.err


def test_an_id_without_a_command_is_told_the_command(imported: Cli) -> None:
    got = imported("batches", "5f0c22ab9d10", "--json")
    assert (got.code, got.problem["hint"]) == (2, "tokenctl batches show 5f0c22ab9d10 --json")


def test_a_reversal_stands_beside_what_it_reversed(imported: Cli) -> None:
    _, good = ids(imported)
    assert imported("reverse", "--batch", good, "--reason", "wrong", "--note", "n", "--ticket", "T", "--yes").code == 0
    reversal, _, original = imported("batches").lines
    assert reversal[2:9] == ["done", "", "2", "-120", "", "reversal", ""]
    assert (reversal[9], original[2], original[8]) == (good, "reversed", reversal[0])
    shown = imported("batches", "show", good, "--json").json["data"]
    assert (shown["reversed_by"], shown["undo"]) == (reversal[0], None)
    assert f"batch {reversal[0]} reversed it" in shown["next"]
    table = imported("batches", "show", reversal[0], "--format", "table").text
    for line in (f" REVERSES   {good}", " REASON     wrong", " NOTE       n", " TICKET     T", " TOKENS     -120"):
        assert f"{line}\n" in table


def test_show_points_at_the_rejects_where_they_are(imported: Cli, home: Path) -> None:
    bad, good = ids(imported)
    document = imported("batches", "show", bad, "--json").json
    assert document["schema"] == "tokenctl.batch.v1"
    data = document["data"]
    assert (home / data["rejects"]).is_file()
    assert shlex.split(data["command"]) == ["tokenctl", "batch-import", data["rejects"], "--campaign", "spring"]
    assert data["undo"] == f"tokenctl reverse --batch {bad} --reason mistake"
    assert imported("batches", "show", good, "--json").json["data"]["rejects"] is None
    table = imported("batches", "show", bad, "--format", "table").text
    assert f" REJECTS    bad.{bad}.rejected.csv\n" in table
    assert " CAMPAIGN   spring\n" in table
    assert imported("batches", "show", bad, "--format", "value").out == b"done\n"
    assert {len(imported("batches", "show", one).lines[0]) for one in (bad, good)} == {29}


def test_show_points_at_the_rejects_where_they_were_asked_to_be(imported: Cli) -> None:
    asked = ("batch-import", "bad.csv", "--yes", "--partial", "--campaign", "may")
    assert imported(*asked, "--reject-file", "mine.csv").code == 65
    data = imported("batches", "show", ids(imported)[0], "--json").json["data"]
    assert (data["rejects"], data["command"]) == ("mine.csv", "tokenctl batch-import mine.csv --campaign may")
    again = imported(*asked, "--json")
    assert (again.code, again.json["data"]["reject_file"]) == (65, "mine.csv")
    assert "1 row was left out; it is in mine.csv" in imported(*asked).err


def test_a_file_that_left_rows_out_is_not_to_be_mended_once_it_is_done(imported: Cli) -> None:
    bad = ids(imported)[0]
    got = imported("batch-import", "bad.csv", "--yes", "--partial", "--campaign", "spring")
    assert got.code == 65
    assert got.err.endswith(
        f": 1 row was left out; it is in bad.{bad}.rejected.csv\n          mend it and import that file\n"
    )


def test_a_file_of_which_the_ledger_did_not_take_rows_is_not_to_be_mended_once_it_is_done(cli: Cli) -> None:
    cli.login("batch1")
    most = "999999999999999"
    rows = "".join(f"u1,{most},promo,k{n}\n" for n in range(10))
    for name, more, told in (
        ("full.csv", "u2,5,promo,k1\n", "10 rows were left out"),
        ("both.csv", "u2,x,promo,k1\n", "11 rows were left out; 1 of them is in both."),
    ):
        Path(name).write_text(f"user_id,amount,reason,idempotency_key\n{rows}{more}", encoding="utf-8")
        total = str(int(most) * 10 + (5 if name == "full.csv" else 0))
        asked = ("batch-import", name, "--yes", "--partial", "--expect-total", total)
        assert cli(*asked).code == 65
        got = cli(*asked)
        assert (got.code, told in got.err) == (65, True)
        assert got.err.endswith(f"tokenctl batches show {ids(cli)[0]} says what to do\n")
        assert "import it again" not in got.err
        assert "import the file again" not in got.err
    data = cli("batches", "show", ids(cli)[0], "--json").json["data"]
    assert data["next"].startswith("put the rows named below into a new file, mended, and import that; mend the rej")
    assert shlex.split(data["command"]) == ["tokenctl", "batch-import", data["rejects"]]


def test_the_printed_undo_and_command_do_what_they_say(imported: Cli) -> None:
    _, good = ids(imported)
    undo = imported("batches", "show", good, "--json").json["data"]["undo"]
    assert imported(*shlex.split(undo)[1:], "--yes").code == 0
    assert imported.balance("u2") == 0


def test_the_printed_command_takes_the_mended_rejects(imported: Cli, home: Path) -> None:
    bad, _ = ids(imported)
    data = imported("batches", "show", bad, "--json").json["data"]
    file = home / data["rejects"]
    file.write_text(file.read_text(encoding="utf-8").replace("1.000", "1000"), encoding="utf-8")
    assert imported(*shlex.split(data["command"])[1:], "--yes").code == 0
    assert imported.balance("u2") == 70 + 1000


def test_one_that_was_cut_off_says_how_to_finish_it(cli: Cli) -> None:
    client = Client(cli.db, slices=2)
    client.stage([Row(f"u{n}", 5, f"k{n}") for n in range(20)])
    client.begin()
    client.apply(client.lanes()[:3])
    client.die()
    until(lambda: cli("batches", "--state", "unfinished").lines, "the client's death was noticed")
    [line] = cli("batches").lines
    assert line[2] == "unfinished"
    assert 0 < int(line[4]) < 20
    data = cli("batches", "show", "a" * 12, "--json").json["data"]
    assert (data["state"], data["command"], data["undo"]) == ("unfinished", "tokenctl batch-import f.csv", None)
    table = cli("batches", "show", "a" * 12, "--format", "table").text
    assert f" STATE    unfinished ({line[4]} of 20 rows are in)\n" in table


@pytest.mark.parametrize(
    "asked",
    ["null", "[1]", '{"file": "x", "batch": 1}', '{"config": "/tmp/x", "yes": true, "partial": "no", "atomic": 1}'],
)
def test_no_login_puts_words_into_the_command_that_finishes_its_batch(cli: Cli, asked: str) -> None:
    client = Client(cli.db)
    client.stage([Row("u1", 5, "a")])
    client.value("import_begin_v1", client.batch, asked)
    client.die()
    cli.db.rows("UPDATE tokenctl.import_batches SET file_name = '--yes'")
    got = cli("batches", "show", client.batch, "--json")
    assert (got.code, got.json["data"]["command"]) == (0, "tokenctl batch-import ./--yes")


def test_rows_that_the_ledger_did_not_take_are_named(cli: Cli) -> None:
    client = Client(cli.db)
    client.stage([Row("x", 5, "same"), Row("y", 5, "y"), Row("z", 5, "z")])
    client.begin()
    other = Client(cli.db, batch="d" * 12, login="batch2")
    other.run([Row("x", 6, "same"), Row("z", 5, "z")])
    reverse(cli.db.connect("support1"), "z", 1)
    client.apply()
    client.close(3)
    got = cli("batches", "show", "a" * 12)
    assert got.err.splitlines() == [
        "f.csv:2: idempotency_key: was used with other content (x:1)",
        "f.csv:4: idempotency_key: was granted before (z:1) and then reversed",
    ]
    data = cli("batches", "show", "a" * 12, "--json").json["data"]
    assert data["next"] == "put the rows named below into a new file, mended, and import that"
    assert data["findings"] == [
        {"line": 2, "problem": "conflict", "user_id": "x", "id": "x:1"},
        {"line": 4, "problem": "reversed", "user_id": "z", "id": "z:1"},
    ]


def test_an_unknown_batch_is_1_with_a_hint(imported: Cli) -> None:
    got = imported("batches", "show", "0123456789ab", "--json")
    assert (got.code, got.problem["type"]) == (1, "urn:tokenctl:problem:not-found")
    assert got.problem["hint"] == "tokenctl batches lists them"


@pytest.mark.parametrize("columns", [100, 60, 40])
def test_ids_are_whole_on_every_terminal(imported: Cli, columns: int) -> None:
    env = environment(TERM="xterm", NO_COLOR="1", TOKENCTL_PAGER="cat")
    got = on_terminal("batches", columns=columns, env=env)
    assert got.code == 0
    for batch in ids(imported):
        assert re.search(rf"(?<!\S){batch}(?!\S)", got.text)
    assert ("no room here for" in got.text) == (columns != 40)


def test_state_and_file_have_room_before_all_else(imported: Cli) -> None:
    assert imported("reverse", "--batch", ids(imported)[1], "--reason", "wrong", "--yes").code == 0
    got = on_terminal("batches", columns=80, env=environment(TERM="xterm", NO_COLOR="1", TOKENCTL_PAGER="cat"))
    assert got.text.splitlines()[0].split() == ["BATCH", "STARTED", "STATE", "FILE", "ROWS", "TOKENS", "REJECTED"]
    assert "no room here for KIND, REVERSED BY, REVERSES, OPERATOR, SHA256; a wider" in got.text
    file = Path("a/folder/whose/name/is/grants.csv")
    file.parent.mkdir(parents=True)
    file.write_text("user_id,amount,reason,idempotency_key\nu9,5,x,k9\n")
    assert imported("batch-import", str(file), "--yes").code == 0
    got = on_terminal("batches", columns=80, env=environment(TERM="xterm", NO_COLOR="1", TOKENCTL_PAGER="cat"))
    heading, _, first, second, *_ = got.text.splitlines()
    at = heading.index("FILE")
    assert first[at:].split()[0] + second.strip() == str(file)  # over two lines, and whole


@pytest.mark.usefixtures("imported")
def test_the_list_goes_through_the_pager() -> None:
    got = on_terminal("batches", env=environment(TERM="xterm", TOKENCTL_PAGER="sed s/^/P:/"))
    assert len([line for line in got.text.splitlines() if line.startswith("P:")]) == 4


def test_text_of_the_ledger_steers_nothing(cli: Cli) -> None:
    hostile = "[/] \x1b]52;c;eA==\x07\u202e[red]\ntokenctl: forged"
    cli.db.rows(
        "INSERT INTO tokenctl.import_batches (batch_id, kind, state, file_name, file_sha256, file_size, options,"
        " slices, operator, claimed_by, request_id, rows_read, rejected, applied, applied_tokens, finished_at) VALUES"
        " ('0123456789ab', 'import', 'done', %s, 'f', 5, jsonb_build_object('campaign', %s::text, 'state', 'x'), 1, %s,"
        " %s, 'r', 5, 1, 4, 40, now())",
        hostile, hostile, hostile, hostile,
    )  # fmt: skip
    for argv in (("batches",), ("batches", "show", "0123456789ab")):
        for form in ("table", "tsv", "json"):
            got = cli(*argv, "--format", form)
            assert got.code == 0
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", got.text + got.err)
            assert "\ntokenctl: forged" not in got.text
    seen = without_escapes(on_terminal("batches", "show", "0123456789ab", columns=200).text)
    assert r"[/] \x1b]52;c;eA==\x07\u202e[red]\x0atokenctl: forged" in seen


def test_a_reader_may_look(imported: Cli) -> None:
    before = imported.written()
    imported.login("reader1")
    assert imported("batches").code == 0
    assert imported("batches", "show", ids(imported)[0]).code == 0
    assert imported.written() == before
