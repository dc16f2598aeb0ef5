"""`history`: every flag down to the byte, lists that end and go on, and terminals of all widths."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.running import Cli, environment, on_terminal, run, shell, terminal, without_escapes
from tests.entries import NOW, Row, hours, write

ROWS = [
    Row(5000, "purchase", "shop", at=hours(72), operator="batch1", batch="0123456789ab"),
    Row(500, "bonus", "goodwill", at=hours(48), ticket="48121", note="Sorry, slow queue"),
    Row(-40, "generation", "generate", at=hours(24), operator="app"),
    Row(-500, "bonus", "mistake", reverses=2, at=hours(2)),
]
LINES = [
    "u1:4\t2026-11-23T16:04:09.123456Z\t-500\t4960\tbonus\tmistake\t\tu1:2\t\tsupport1\t\t",
    "u1:3\t2026-11-22T18:04:09.123456Z\t-40\t5460\tgeneration\tgenerate\t\t\t\tapp\t\t",
    "u1:2\t2026-11-21T18:04:09.123456Z\t500\t5500\tbonus\tgoodwill\tu1:4\t\t48121\tsupport1\t\tSorry, slow queue",
    "u1:1\t2026-11-20T18:04:09.123456Z\t5000\t5000\tpurchase\tshop\t\t\t\tbatch1\t0123456789ab\t",
]
PLAIN = {"TERM": "xterm", "TOKENCTL_PAGER": "cat", "NO_COLOR": "1"}


@pytest.fixture
def account(cli: Cli) -> Cli:
    write(cli.db, "u1", ROWS)
    write(cli.db, "u2", [Row(7)])
    return cli


def test_it_is_one_line_an_entry_the_newest_first(account: Cli) -> None:
    got = account("history", "u1")
    assert (got.code, got.err) == (0, "")
    assert got.text == "".join(f"{line}\n" for line in LINES)
    assert {len(cells) for cells in got.lines} == {12}


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (("--since", "2026-11-22"), [4, 3]),
        (("--since", "2026-11-22T18:04:09.123456Z"), [4, 3]),
        (("--since", "2026-11-22T18:04:09.123457Z"), [4]),
        (("--since", "2026-11-22T20:04:09.123456+02:00"), [4, 3]),
        (("--until", "2026-11-21"), [2, 1]),
        (("--until", "2026-11-21 18:04 UTC"), [1]),
        (("--until", "2026-11-21T18:04:09.123456Z"), [1]),
        (("--since", "2026-11-21", "--until", "2026-11-22"), [3, 2]),
        (("--kind", "bonus"), [4, 2]),
        (("--kind", "purchase"), [1]),
        (("--kind", "generation"), [3]),
        (("--kind", "adjustment"), []),
        (("--kind", "bonus", "--until", "2026-11-22"), [2]),
        (("--limit", "4"), [4, 3, 2, 1]),
        (("--limit", "3"), [4, 3, 2]),
        (("--since", "2999-01-01"), []),
    ],
)
def test_each_flag_chooses_its_entries(account: Cli, flags: tuple[str, ...], seen: list[int]) -> None:
    got = account("history", "u1", *flags)
    assert got.code == 0
    assert got.text == "".join(f"{LINES[4 - seq]}\n" for seq in seen)


def test_json_has_everything_of_each_entry(account: Cli) -> None:
    document = account("history", "u1", "--limit", "3", "--json", "--request-id", "r9").json
    assert list(document) == ["schema", "data", "meta"]
    assert document["schema"] == "tokenctl.history.v1"
    assert document["data"][2] == {
        "id": "u1:2", "user_id": "u1", "seq": 2, "at": "2026-11-21T18:04:09.123456Z", "amount": 500,
        "balance_before": 5000, "balance": 5500, "kind": "bonus", "reason": "goodwill", "note": "Sorry, slow queue",
        "ticket": "48121", "campaign": None, "operator": "support1", "claimed_by": "anna@desk7",
        "request_id": "request-2", "idempotency_key": "key-2", "batch_id": None, "reverses": None,
        "reversed_by": "u1:4",
    }  # fmt: skip
    assert (document["data"][0]["reverses"], document["data"][0]["reversed_by"]) == ("u1:2", None)
    meta = document["meta"]
    assert (meta["request_id"], meta["profile"], meta["dry_run"], meta["warnings"]) == ("r9", "env", False, [])
    assert re.fullmatch(r"2-[0-9a-f]{8}", meta["next_cursor"])
    assert account("history", "u1", "--json").json["meta"]["next_cursor"] is None


def test_json_lines_end_with_a_summary(account: Cli) -> None:
    got = account("history", "u1", "--limit", "2", "--format", "jsonl")
    first, second, summary = map(json.loads, got.text.splitlines())
    assert (first["schema"], first["id"], second["id"]) == ("tokenctl.history_row.v1", "u1:4", "u1:3")
    assert (summary["schema"], summary["rows"]) == ("tokenctl.history_summary.v1", 2)
    assert summary["next_cursor"].startswith("3-")
    assert got.err == ""


def test_csv_is_for_spreadsheets(account: Cli) -> None:
    got = account("history", "u1", "--format", "csv")
    heading, *rows = csv.reader(io.StringIO(got.text))
    assert ",".join(heading) == "id,at,amount,balance,kind,reason,reversed_by,reverses,ticket,operator,batch,note"
    assert rows == [line.split("\t") for line in LINES]
    assert '"Sorry, slow queue"' in got.text


def test_csv_makes_no_formula_of_a_text_and_keeps_numbers(cli: Cli) -> None:
    write(cli.db, "@u", [Row(50, note='=HYPERLINK("http://127.0.0.1")'), Row(-5, ticket="+1", note="-1")])
    got = cli("history", "@u", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(got.text)))
    assert [(row["id"], row["amount"], row["ticket"], row["note"]) for row in rows] == [
        ("'@u:2", "-5", "'+1", "'-1"), ("'@u:1", "50", "", "'=HYPERLINK(\"http://127.0.0.1\")"),
    ]  # fmt: skip


def test_a_list_that_ends_early_says_how_to_go_on(account: Cli) -> None:
    flags = ("--since", "2026-11-01", "--until", "2026-11-30", "--limit", "1", "--format", "tsv")
    got = account("history", "u1", *flags)
    seen = got.text
    for _ in range(3):
        [line] = got.err.splitlines()
        assert line.startswith("more: tokenctl history u1 --since 2026-11-01T00:00:00.000000Z --until 2026-12-01T")
        got = account(*shlex.split(line.removeprefix("more: tokenctl ")))
        assert got.code == 0
        seen += got.text
    assert seen == "".join(f"{line}\n" for line in LINES)
    assert got.err == ""


def test_what_is_posted_between_two_pages_moves_nothing(cli: Cli) -> None:
    for n in range(7):
        cli.grant("u1", 5, "--idempotency-key", f"k{n}")
    seen: list[str] = []
    cursor: tuple[str, ...] = ()
    while True:
        page = cli("history", "u1", "--limit", "3", *cursor, "--json").json
        seen += [row["id"] for row in page["data"]]
        if page["meta"]["next_cursor"] is None:
            break
        cursor = ("--cursor", page["meta"]["next_cursor"])
        cli.grant("u1", 9, "--idempotency-key", f"between-{len(seen)}")
        assert cli("reverse", "u1:1", "--reason", "x", "--yes").code == (0 if len(seen) == 3 else 1)
    assert seen == [f"u1:{seq}" for seq in range(7, 0, -1)]


def test_quiet_and_json_say_no_more(account: Cli) -> None:
    assert account("history", "u1", "--limit", "1", "-q").err == ""
    assert account("history", "u1", "--limit", "1", "--json").err == ""
    assert account("history", "u1", "--kind", "adjustment").err == "▸ no entry of u1 is like this\n"
    assert account("history", "u1", "--kind", "adjustment", "-q").err == ""


def test_the_limit_is_fifty_unless_somebody_says_otherwise(cli: Cli) -> None:
    write(cli.db, "u1", [Row(1)] * 60)
    got = cli("history", "u1")
    assert len(got.lines) == 50
    assert re.fullmatch(r"more: tokenctl history u1 --cursor 11-[0-9a-f]{8}\n", got.err)


@pytest.mark.parametrize("cursor", ["3-00000000", "x", "3", "3-", "-3", "0-12345678", "9" * 30 + "-12345678", "٣-1"])
def test_a_cursor_that_is_not_ours_is_refused(account: Cli, cursor: str) -> None:
    got = account("history", "u1", f"--cursor={cursor}")
    assert (got.code, got.out) == (2, b"")
    assert got.err.startswith("tokenctl: --cursor: this is no cursor of this list\n")


def test_a_cursor_of_another_user_or_filter_is_refused(account: Cli) -> None:
    cursor = account("history", "u1", "--limit", "2", "--json").json["meta"]["next_cursor"]
    assert account("history", "u1", "--cursor", cursor).text == f"{LINES[2]}\n{LINES[3]}\n"
    assert account("history", "u2", "--cursor", cursor).code == 2
    assert account("history", "u1", "--cursor", cursor, "--kind", "bonus").code == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--since", "yesterday"), "--since: 'yesterday' is no time; write 2026-11-23 or 2026-11-23T18:04:00Z, in UTC"),
        (("--until", "2026-02-30"), "--until: '2026-02-30' is not on the calendar or the clock"),
        (("--since", "2026-11-23", "--until", "2026-11-22"), "--since is not before --until"),
        (("--kind", "gift"), "--kind: 'gift' is not one of"),
        (("--limit", "0"), "--limit: '0' is not a number of rows; 1 to 100000, digits only"),
        (("--limit", "100001"), "--limit: '100001' is not a number of rows"),
        (("--limit", "1_000"), "--limit: '1_000' is not a number of rows"),
        (("--limit", "5", "--limit", "6"), "--limit is given twice"),
        (("--cursor", ""), "--cursor: is empty"),
        (("--format", "value"), "'value' (--format) is not a format of this command"),
    ],
)
def test_a_wrong_flag_is_told_and_nothing_is_printed(account: Cli, flags: tuple[str, ...], words: str) -> None:
    got = account("history", "u1", *flags)
    assert (got.code, got.out) == (2, b"")
    assert got.err.startswith(f"tokenctl: {words}")


def test_an_unknown_user_is_67_with_the_nearest_id(account: Cli) -> None:
    write(account.db, "user_42", [Row(1)])
    got = account("history", "user_24", "--json")
    assert got.code == 67
    assert (got.problem["nearest"], got.problem["hint"]) == (["user_42"], "did you mean user_42?")
    assert account("history", "user_24", "--since", "2999-01-01").code == 67


def test_a_user_without_entries_is_an_empty_list(cli: Cli) -> None:
    write(cli.db, "fresh", [])
    got = cli("history", "fresh", "--json")
    assert (got.code, got.json["data"], got.json["meta"]["next_cursor"]) == (0, [], None)
    assert cli("history", "fresh").out == b""
    assert cli("history", "fresh", "--format", "csv").text.count("\n") == 1


def test_reading_needs_the_reader_s_role_only_and_writes_nothing(account: Cli) -> None:
    before = account.written()
    account.login("reader1")
    assert account("history", "u1").code == 0
    account.login("stranger")
    assert account("history", "u1").code == 77
    assert account.written() == before


def test_zone_and_locale_change_nothing(account: Cli) -> None:
    here = account("history", "u1", "--json").json["data"]
    tokyo = run("history", "u1", "--json", env=environment(TZ="Asia/Tokyo", LC_ALL="de_DE.UTF-8"))
    assert tokyo.json["data"] == here


TABLE = """\
 BALANCE  ▁█▇▁  4,960 to 5,500, now 4,960

 ID    AT                    AMOUNT  BALANCE  KIND        REASON    REVERSED BY  REVERSES
──────────────────────────────────────────────────────────────────────────────────────────
 u1:4  2026-11-23 16:04 UTC    -500    4,960  bonus       mistake   ─            u1:2
 u1:3  2026-11-22 18:04 UTC     -40    5,460  generation  generate  ─            ─
 u1:2  2026-11-21 18:04 UTC    +500    5,500  bonus       goodwill  u1:4         ─
 u1:1  2026-11-20 18:04 UTC  +5,000    5,000  purchase    shop      ─            ─
▸ no room here for TICKET, OPERATOR, BATCH, NOTE; a wider terminal or --format tsv shows all
"""


@pytest.mark.usefixtures("account")
def test_a_terminal_shows_a_table_under_a_line_of_the_balance() -> None:
    got = on_terminal("history", "u1", columns=90, env=environment(**PLAIN))
    assert (got.code, got.text) == (0, TABLE)


@pytest.mark.usefixtures("account")
def test_what_has_no_room_is_named() -> None:
    got = on_terminal("history", "u2", columns=60, env=environment(**PLAIN))
    assert "no room here for OPERATOR; a wider" in got.text
    assert all(len(line) <= 60 for line in got.text.splitlines() if not line.startswith(("▸", "more")))


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_an_entry_that_was_reversed_never_looks_like_one_that_counts(columns: int) -> None:
    got = on_terminal("history", "u1", columns=columns, env=environment(**PLAIN)).text
    assert "REVERSED BY" in got.partition("▸")[0]
    if columns < 80:  # one below the other
        assert re.search(r" ID +u1:2\n.* REVERSED BY +u1:4\n", got, re.DOTALL)
    else:
        assert re.search(r"^ u1:2 .*\+500 .*goodwill +u1:4", got, re.MULTILINE)
        assert all(len(line) <= columns for line in got.splitlines() if not line.startswith(("▸", "more")))


@pytest.mark.parametrize("columns", [60, 40])
def test_ids_and_amounts_are_whole_on_narrow_terminals(account: Cli, columns: int) -> None:
    write(account.db, "user_" + "x" * 60, [Row(1_234_567_890)])
    for user, amount in [("u1", "+5,000"), ("user_" + "x" * 60, "+1,234,567,890")]:
        got = on_terminal("history", user, columns=columns, env=environment(**PLAIN))
        assert got.code == 0
        assert f"{user}:1" in got.text
        assert amount in got.text
        assert "…" not in got.text
    if columns == 40:
        records = on_terminal("history", "u1", columns=40, env=environment(**PLAIN)).text
        assert " NOTE         Sorry, slow queue\n" in records
        assert records.count(" REVERSES ") == 1  # where there is none it is left out


@pytest.mark.usefixtures("account")
def test_a_terminal_without_unicode_gets_ascii() -> None:
    got = on_terminal("history", "u1", columns=90, env=environment(**PLAIN, PYTHONIOENCODING="ascii"))
    assert got.code == 0
    assert got.text.isascii()
    assert got.text.startswith(" BALANCE  _#+_  4,960 to 5,500, now 4,960\n\n ID    AT ")


def test_a_pipe_has_no_line_of_the_balance(account: Cli) -> None:
    assert "now 4,960" not in account("history", "u1", "--format", "table").text
    assert re.search(r"16:04 UTC", account("history", "u1", "--format", "table").text)


def marking(**more: str) -> dict[str, str]:
    """A terminal whose pager marks every line."""
    return environment(TERM="xterm", NO_COLOR="1", **{"TOKENCTL_PAGER": "sed s/^/P:/", **more})


@pytest.mark.usefixtures("account")
def test_a_terminal_has_a_pager() -> None:
    got = on_terminal("history", "u1", env=marking())
    assert got.code == 0
    paged = [line for line in got.text.splitlines() if line.startswith("P:")]
    assert [line.split()[1] for line in paged[-4:]] == ["u1:4", "u1:3", "u1:2", "u1:1"]
    assert paged[0].startswith("P: BALANCE")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ({"TOKENCTL_PAGER": "cat"}, ()),
        ({"TOKENCTL_PAGER": "", "PAGER": "cat"}, ()),
        ({"TERM": "dumb"}, ()),
        ({}, ("--no-input",)),
        ({"TOKENCTL_NO_INPUT": "1"}, ()),
        ({"TOKENCTL_PAGER": "no-such-pager"}, ()),
        ({"TOKENCTL_PAGER": "'"}, ()),
        ({}, ("--format", "tsv")),
    ],
)
def test_where_there_is_no_pager(variables: dict[str, str], flags: tuple[str, ...]) -> None:
    got = on_terminal("history", "u1", *flags, env=marking(PAGER="sed s/^/P:/") | variables)
    assert got.code == 0
    assert "P:" not in got.text
    assert "u1:4" in got.text


@pytest.mark.usefixtures("account")
def test_the_general_pager_counts_where_ours_is_not_set() -> None:
    got = on_terminal("history", "u1", env=marking(TOKENCTL_PAGER="", PAGER="sed s/^/G:/"))
    assert "G: u1:4" in got.text


@pytest.mark.usefixtures("account")
def test_a_pipe_never_has_a_pager() -> None:
    got = run("history", "u1", "--format", "table", env=marking(PAGER="sed s/^/P:/"))
    assert "P:" not in got.text
    assert got.lines[-1][0].startswith(" u1:1")


def test_a_pager_that_is_left_early_is_no_failure(cli: Cli) -> None:
    write(cli.db, "u1", [Row(1)] * 5000)
    got = on_terminal("history", "u1", "--limit", "5000", env=marking(TOKENCTL_PAGER="head -n 3"))
    assert got.code == 0
    assert "Traceback" not in got.text
    assert len(got.text.splitlines()) < 10


def test_an_interrupt_is_the_pager_s_as_in_less(cli: Cli, tmp_path: Path) -> None:
    write(cli.db, "u1", [Row(1)] * 50)
    pager = tmp_path / "pager.py"
    pager.write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'not I\\n'))\n"
        "lines = sys.stdin.read().count(chr(10))\n"
        "print('ready', flush=True)\n"
        "open('/dev/tty').readline()\n"
        "print('left after', lines)\n",
        encoding="utf-8",
    )
    with terminal("history", "u1", env=marking(TOKENCTL_PAGER=f"{sys.executable} {pager}")) as opened:
        opened.wait_for("ready")
        opened.type("\x03")
        opened.wait_for("not I")
        opened.type("\n")
        opened.wait_for("left after 54")
        assert opened.end().code == 0


def test_a_long_list_is_printed_while_it_is_read(cli: Cli) -> None:
    write(cli.db, "u1", [Row(1)] * 9000)
    got = shell("tokenctl history u1 --limit 9000 | head -n 2 | cut -f 1")
    assert got.out == b"u1:9000\nu1:8999\n"
    assert got.err == ""
    for form, lines in [("tsv", 9000), ("csv", 9001), ("jsonl", 9001)]:
        every = cli("history", "u1", "--limit", "9000", "--format", form)
        assert (every.code, every.text.count("\n")) == (0, lines)
    whole = cli("history", "u1", "--limit", "9000", "--json").json
    assert [row["seq"] for row in whole["data"]] == list(range(9000, 0, -1))


HOSTILE = "[/] \x1b]52;c;eA==\x07\u202e[red]:x:\n\t=1+1"


@pytest.mark.parametrize("form", ["table", "tsv", "json", "jsonl", "csv"])
def test_text_of_the_ledger_steers_nothing(cli: Cli, form: str) -> None:
    write(cli.db, "u1", [Row(5, reason="[/]\x1b[31m", ticket=HOSTILE, note=HOSTILE, operator=HOSTILE, at=NOW)])
    got = cli("history", "u1", "--format", form)
    assert got.code == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", got.text)
    if form in ("tsv", "jsonl", "csv"):
        assert got.text.count("\n") == (1 if form == "tsv" else 2)
    if form == "json":
        assert got.json["data"][0]["note"] == HOSTILE  # whole, for programs
    seen = without_escapes(on_terminal("history", "u1", columns=200, env=environment(**PLAIN)).text)
    assert r"[/] \x1b]52;c;eA==\x07\u202e[red]:x:\x0a\x09=1+1" in seen
