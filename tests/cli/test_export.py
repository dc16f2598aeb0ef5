"""`export`: what hledger makes of the journal, rows for programs, and files that are never half there."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import require
from tests.cli.running import ENOUGH_S, TOKENCTL, Cli, environment, on_terminal, shell
from tests.entries import NOW, Row, hours, write
from tests.pg import post
from tests.vandal import ENTRIES, USERS, fill, inspecting, vandalize
from tests.waiting import until
from tokenctl.models import Entry
from tokenctl.storage.exports import BLOCK_ROWS, Export


@pytest.fixture
def books(cli: Cli) -> Cli:
    """A ledger with everything in it, exported by somebody who may only read."""
    fill(cli.db)
    cli.login("reader1")
    return cli


def hledger(journal: Path, *words: str) -> str:
    """What hledger says; it adds up everything, and fails when an asserted balance is not what comes out."""
    argv = [require.tool("hledger"), "-f", str(journal), *words]
    env = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=ENOUGH_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def balances(journal: Path) -> dict[str, int]:
    """Every account's balance, by hledger's own sums."""
    hledger(journal, "check")
    written = hledger(journal, "balance", "--flat", "--empty", "--no-total", "--output-format", "csv")
    return {row["account"]: int(row["balance"].removesuffix(" TOKEN")) for row in csv.DictReader(io.StringIO(written))}


def ours(cli: Cli, until: datetime | None = None, user: str | None = None) -> dict[str, int]:
    """The same from the ledger: users as they stood before `until`, and funds."""
    rows = cli.db.rows(
        "SELECT 'users:' || replace(user_id, ':', '%%3A'), sum(amount)::bigint FROM tokenctl.token_transactions"
        " WHERE (%s::timestamptz IS NULL OR created_at < %s) AND (%s::text IS NULL OR user_id = %s) GROUP BY 1"
        " UNION ALL SELECT 'funds:' || kind, -sum(amount)::bigint FROM tokenctl.token_transactions"
        " WHERE (%s::timestamptz IS NULL OR created_at < %s) AND (%s::text IS NULL OR user_id = %s) GROUP BY 1",
        *[until, until, user, user] * 2,
    )
    return dict(rows)


# --- the journal ----------------------------------------------------------------------------


def test_hledger_comes_to_every_balance(books: Cli, home: Path) -> None:
    got = books("export", "-o", "books.journal")
    assert (got.code, got.out) == (0, b"")
    assert got.err == f"✓ {ENTRIES} entries of {USERS} users, 274 tokens, in books.journal\n"
    journal = home / "books.journal"
    found = balances(journal)
    assert found == ours(books)
    accounts = dict(books.db.rows("SELECT 'users:' || user_id, balance FROM tokenctl.token_accounts"))
    assert {name: tokens for name, tokens in found.items() if name.startswith("users:")} == accounts
    assert sum(found.values()) == 0
    assert hledger(journal, "print", "u4", "--output-format", "csv").count("u4") >= 5


def test_an_entry_is_a_transaction_between_a_user_and_a_fund(cli: Cli) -> None:
    write(cli.db, "u_42", [
        Row(500, "bonus", "goodwill", at=hours(5), ticket="48121", note="Sorry, slow", batch="0123456789ab"),
        Row(-500, "bonus", "mistake", reverses=1, at=hours(2)),
    ])  # fmt: skip
    head, body = cli("export").text.split("commodity 1000. TOKEN\n")
    assert head.startswith("; The ledger env as a journal for hledger, as it was at 20")
    expected = r"""
2026-11-23 (u_42:1) goodwill | Sorry\x2c slow  ; time:13:04:09.123456Z, by:support1, ticket:48121, batch:0123456789ab
    users:u_42  500 TOKEN = 500 TOKEN
    funds:bonus  -500 TOKEN

2026-11-23 (u_42:2) mistake  ; time:16:04:09.123456Z, by:support1, reverses:u_42:1
    users:u_42  -500 TOKEN = 0 TOKEN
    funds:bonus  500 TOKEN

; end: 2 entries of 1 user, 0 tokens
"""
    assert body == expected


def account(cli: Cli) -> None:
    """Users with a past, one without, and one who has nothing left."""
    write(
        cli.db, "u1", [Row(100, at=hours(50)), Row(30, "purchase", at=hours(40)), Row(-20, "generation", at=hours(3))]
    )
    write(cli.db, "u2", [Row(7, at=hours(3)), Row(5, at=hours(2))])
    write(cli.db, "u3", [Row(9, at=hours(60)), Row(-9, reverses=1, at=hours(59))])
    write(cli.db, "a:b", [Row(1, "adjustment", at=hours(60)), Row(2, at=hours(1))])


@pytest.mark.parametrize(
    ("since", "user"),
    [
        *((since, None) for since in (None, hours(100), hours(45), hours(40), hours(3), hours(0))),
        *((hours(40), user) for user in ("u1", "u2", "u3", "a:b")),
    ],
)
def test_a_part_of_the_journal_begins_with_what_there_was(
    cli: Cli, home: Path, user: str | None, since: datetime | None
) -> None:
    account(cli)
    mine = () if user is None else ("--user", user)
    begin = () if since is None else ("--since", f"{since:%Y-%m-%dT%H:%M:%S.%fZ}")
    assert cli("export", *mine, *begin, "-o", "part.journal").code == 0
    assert balances(home / "part.journal") == ours(cli, None, user)


def test_until_ends_it(cli: Cli, home: Path) -> None:
    account(cli)
    end = hours(2.5)
    flags = ("--since", "2026-11-22", "--until", f"{end:%Y-%m-%dT%H:%M:%S.%fZ}", "-o", "part.journal")
    assert cli("export", *flags).code == 0
    assert balances(home / "part.journal") == ours(cli, end)


def test_any_user_is_an_account_of_its_own(cli: Cli, home: Path) -> None:
    for user in (":", "::", "a:b", "a::b", "a:", ":b", "@x", "a-b", ".", "a.b_c", "U", "u", "a", "b"):
        write(cli.db, user, [Row(len(user)), Row(4, at=NOW + timedelta(days=2))])
    assert cli("export", "-o", "books.journal").code == 0
    assert balances(home / "books.journal") == ours(cli)


HOSTILE = (
    "\n2026-01-01 forged\n    users:u1  1000000 TOKEN\n    funds:bonus",
    "; a comment | a payee, date:2020-01-01, date2:x",
    "(code) * ! = 2020-01-01 [2020-01-01=2021]",
    "\r\n\t  two  blanks \\n \\x0a",
    "\u2028\u0085\x0c\x0b\x1b[31m",
    "Grüße 😀 日本語",
)


def test_no_text_breaks_the_journal(cli: Cli, home: Path) -> None:
    rows = [Row(5, reason=text[:20], note=text, ticket=text[:60], operator=text, batch=text[:40]) for text in HOSTILE]
    cli.db.rows("ALTER TABLE tokenctl.token_transactions DROP CONSTRAINT reason_length")
    write(cli.db, "u1", rows)
    assert cli("export", "-o", "books.journal").code == 0
    journal = home / "books.journal"
    assert balances(journal) == {**ours(cli), "users:u1": 5 * len(HOSTILE)}
    printed = list(csv.DictReader(io.StringIO(hledger(journal, "print", "--output-format", "csv"))))
    assert {row["code"] for row in printed} == {f"u1:{n}" for n in range(1, len(HOSTILE) + 1)}
    assert {row["date"] for row in printed} == {"2026-11-23"}
    notes = {row["description"].partition(" | ")[2] for row in printed}
    assert {re.sub(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})", lambda m: chr(int(m[1] or m[2], 16)), n) for n in notes} == {
        text.rstrip(" ") for text in HOSTILE
    }


def test_a_wrong_balance_is_found_by_hledger(books: Cli, home: Path) -> None:
    vandalize(books.db, "UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3")
    assert books("export", "-o", "books.journal").code == 0
    with pytest.raises(AssertionError, match="balance assertion"):
        balances(home / "books.journal")


# --- rows -------------------------------------------------------------------------------------


def test_json_lines_have_everything_and_an_end(books: Cli) -> None:
    got = books("export", "--format", "jsonl", "--request-id", "r1")
    assert (got.code, got.err) == (0, "")
    *rows, summary = map(json.loads, got.text.splitlines())
    kept = books.db.rows(
        "SELECT user_id, seq, amount, balance_after, kind, reason, note, ticket, campaign, operator, claimed_by,"
        " request_id, idempotency_key, batch_id FROM tokenctl.token_transactions ORDER BY 1, 2"
    )
    names = (
        "user_id", "seq", "amount", "balance", "kind", "reason", "note", "ticket", "campaign", "operator", "claimed_by",
        "request_id", "idempotency_key", "batch_id",
    )  # fmt: skip
    assert [tuple(row[name] for name in names) for row in rows] == kept
    assert {row["schema"] for row in rows} == {"tokenctl.export_row.v1"}
    assert [row["reverses"] for row in rows if row["id"] == "u2:3"] == ["u2:1"]
    assert (summary["schema"], summary["rows"], summary["users"], summary["tokens"]) == (
        "tokenctl.export_summary.v1", ENTRIES, USERS, 274,
    )  # fmt: skip
    assert (summary["request_id"], summary["user_id"], summary["since"]) == ("r1", None, None)
    document = books("export", "--json").json
    assert [{"schema": "tokenctl.export_row.v1", **row} for row in document["data"]] == rows
    assert document["meta"]["tokens"] == 274


def test_csv_is_for_spreadsheets(cli: Cli) -> None:
    write(cli.db, "@u", [Row(50, note="=1+1"), Row(-5, ticket="+1", note="-1", reverses=1)])
    rows = list(csv.DictReader(io.StringIO(cli("export", "--format", "csv").text)))
    assert rows[1] == {
        "id": "'@u:2", "user_id": "'@u", "seq": "2", "at": "2026-11-23T18:04:09.123456Z", "kind": "bonus",
        "amount": "-5", "balance": "45", "reason": "test", "note": "'-1", "ticket": "'+1", "campaign": "",
        "operator": "support1", "claimed_by": "anna@desk7", "request_id": "request-2", "idempotency_key": "key-2",
        "reverses": "'@u:1", "batch": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        ((), ["a:b:1", "a:b:2", "u1:1", "u1:2", "u1:3", "u2:1", "u2:2", "u3:1", "u3:2"]),
        (("--user", "u2"), ["u2:1", "u2:2"]),
        (("--since", f"{hours(3):%Y-%m-%dT%H:%M:%S.%fZ}"), ["a:b:2", "u1:3", "u2:1", "u2:2"]),
        (("--until", f"{hours(3):%Y-%m-%dT%H:%M:%S.%fZ}"), ["a:b:1", "u1:1", "u1:2", "u3:1", "u3:2"]),
        (("--user", "u1", "--since", "2026-11-22", "--until", "2026-11-22"), ["u1:2"]),
        (("--since", "2999-01-01"), []),
    ],
)
def test_each_flag_chooses_its_entries(cli: Cli, flags: tuple[str, ...], seen: list[str]) -> None:
    account(cli)
    lines = cli("export", "--format", "jsonl", *flags).text.splitlines()
    assert [json.loads(line)["id"] for line in lines[:-1]] == seen


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--user", "u11"), 67), (("--user", "-"), 2), (("--since", "2026-11-23", "--until", "2026-11-22"), 2),
        (("--since", "yesterday"), 2), (("--format", "xml"), 2), (("-o", ""), 2), (("u1",), 2),
        (("-o", "no/such/folder/x"), 73), (("-o", "."), 73), (("-o", "/dev/null"), 73),
    ],
)  # fmt: skip
def test_what_is_refused(books: Cli, home: Path, flags: tuple[str, ...], code: int) -> None:
    got = books("export", *flags)
    assert (got.code, got.out) == (code, b"")
    assert not [one for one in home.iterdir() if one.suffix in ("", ".tmp") and one.is_file()]


# --- one moment, little memory, whole files -----------------------------------------------------


FETCHED = "SELECT query FROM pg_stat_activity WHERE query LIKE 'FETCH%%' AND datname = %s"


def test_it_is_of_one_moment_and_a_block_at_a_time(cli: Cli) -> None:
    write(cli.db, "u1", [Row(1)] * (BLOCK_ROWS + 10))
    with inspecting(cli.db) as (_, ledger):
        export = Export(ledger._database)  # noqa: SLF001 — a database by that login
        export.open()
        entries = export.entries(None, None, None)
        first = next(entries)
        [(fetched,)] = cli.db.rows(FETCHED, cli.db.name)
        assert f"FORWARD {BLOCK_ROWS} " in fetched
        post(cli.db.connect("support1"), "u1", 5)
        post(cli.db.connect("support1"), "u0", 5)
        assert [first.seq, *(entry.seq for entry in entries)] == list(range(1, BLOCK_ROWS + 11))
        export.close()
    assert len(cli("export", "--format", "csv").lines) == 1 + BLOCK_ROWS + 12


def test_a_reader_may_and_nothing_is_written(books: Cli) -> None:
    before = books.written()
    assert books("export").code == 0
    books.login("stranger")
    assert books("export").code == 77
    assert books.written() == before


def test_the_file_is_for_one_person_and_takes_its_place_at_once(books: Cli, home: Path) -> None:
    file = home / "books.journal"
    file.write_text("old")
    file.chmod(0o644)
    reader = file.open()
    assert books("export", "-o", str(file), "-q").err == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert reader.read() == "old"
    reader.close()
    assert file.read_text().splitlines()[-1].startswith("; end: ")
    assert books("export", "-o", "-").text.splitlines()[-1].startswith("; end: ")


WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'FETCH%%' AND datname = %s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_is_killed_leaves_the_old_file(books: Cli, home: Path, number: signal.Signals) -> None:
    file = home / "books.journal"
    file.write_text("old")
    locker = books.db.connect("postgres")
    locker.execute("BEGIN")
    locker.execute("LOCK TABLE tokenctl.token_transactions IN ACCESS EXCLUSIVE MODE")
    child = subprocess.Popen([*TOKENCTL, "export", "-o", str(file)], env=environment(), stderr=subprocess.DEVNULL)
    try:
        until(lambda: books.db.rows(WAITING, books.db.name), "the export waits for the lock")
        child.send_signal(number)
        code = child.wait(ENOUGH_S)
    finally:
        child.kill()
        child.wait()
        locker.execute("ROLLBACK")
    assert code == -number
    assert file.read_text() == "old"
    left = [one.name for one in home.iterdir() if one.name.startswith(".books")]
    assert len(left) == (0 if number == signal.SIGTERM else 1)


def test_a_lost_connection_leaves_the_old_file(books: Cli, home: Path) -> None:
    write(books.db, "u9", [Row(1)] * (3 * BLOCK_ROWS))
    file = home / "books.journal"
    file.write_text("old")
    read = Export.entries

    def cut(export: Export, *asked: Any) -> Iterator[Entry]:
        entries = read(export, *asked)
        yield next(entries)
        assert books.db.rows(CUT, books.db.name) == [(True,)]
        yield from entries

    books.patch.setattr(Export, "entries", cut)
    got = books("export", "-o", str(file))
    assert got.code == 69
    assert file.read_text() == "old"
    assert not [one for one in home.iterdir() if one.name.endswith(".tmp")]


def test_a_full_disk_and_a_closed_pipe(books: Cli) -> None:
    write(books.db, "u9", [Row(1)] * (2 * BLOCK_ROWS))
    assert shell("tokenctl export > /dev/full").code == 74
    got = shell("tokenctl export | head -1")
    assert (got.code, got.err) == (0, "")
    assert got.text.startswith("; The ledger env")


@pytest.mark.usefixtures("books")
def test_on_a_terminal_it_is_the_journal_too() -> None:
    seen = on_terminal("export", "--user", "u3").text
    assert "    users:u3  5 TOKEN = 5 TOKEN\n" in seen


def test_memory_is_flat(cli: Cli) -> None:
    write(cli.db, "u1", [Row(1)])
    small = peak_mb()
    write(cli.db, "u2", [Row(1, note="x" * 400)] * (12 * BLOCK_ROWS))
    assert peak_mb() - small < 40


def peak_mb() -> float:
    """Megabytes that an export took at most."""
    child = subprocess.Popen([*TOKENCTL, "export", "-o", "flat.journal", "-q"], env=environment())
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss / 1024
