"""`verify` from the command line: every option, what cron sees of it, and seals that are kept elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.running import Cli, on_terminal, shell, without_escapes
from tests.integration.tampered_seals import PROJECTION, later, rewrite_seals
from tests.pg import post
from tests.vandal import ENTRIES, USERS, fill, inspecting, vandalize

HEAD = re.compile(r"[0-9a-f]{64}")
LOOKED = f"{ENTRIES} entries of {USERS} users"


@pytest.fixture
def books(cli: Cli) -> Cli:
    """A ledger with everything in it, looked at by somebody who may only read."""
    fill(cli.db)
    cli.login("reader1")
    return cli


def sealed(books: Cli) -> str:
    """The head of a new seal, as it would be kept elsewhere."""
    books.login("admin1")
    got = books("verify", "--seal", "--format", "value", "-q")
    books.login("reader1")
    assert (got.code, got.err) == (0, "")
    assert HEAD.fullmatch(got.text.removesuffix("\n"))
    return got.text.strip()


def last_line(file: Path, event: str) -> dict[str, object]:
    """The newest log line of an event."""
    lines: list[dict[str, object]] = [json.loads(line) for line in file.read_text().splitlines()]
    return next(line for line in reversed(lines) if line["event"] == event)


# --- without a finding --------------------------------------------------------------


def test_books_that_are_right_print_nothing_but_that(books: Cli) -> None:
    got = books("verify")
    assert (got.code, got.out, got.err) == (0, b"", f"✓ {LOOKED}: no finding\n")
    got = books("verify", "-q")
    assert (got.code, got.out, got.err) == (0, b"", "")
    assert books("verify", "--format", "value").text == "0\n"


def test_json_says_what_was_looked_at(books: Cli) -> None:
    document = books("verify", "--deep", "--json", "--request-id", "r7").json
    assert document["schema"] == "tokenctl.verify.v1"
    assert document["data"] == {
        "ok": True, "scope": "all", "user_id": None, "deep": True, "users": USERS, "entries": ENTRIES,
        "balances": 274, "funds": {"bonus": -299, "generation": 25}, "findings_total": 0, "findings_by_rule": {},
        "findings": [], "verified_head": None, "seals_checked": 0, "seal": None, "sealed": False,
    }  # fmt: skip
    assert document["meta"]["request_id"] == "r7"


def test_one_user(books: Cli) -> None:
    assert books("verify", "--user", "u1").err == "✓ 6 entries of 1 user: no finding\n"
    data = books("verify", "--user", "u1", "--json").json["data"]
    assert (data["scope"], data["user_id"], data["users"], data["entries"]) == ("user", "u1", 1, 6)
    got = books("verify", "--user", "u11", "--json")
    assert (got.code, got.problem["type"]) == (67, "urn:tokenctl:problem:user-not-found")


def test_since_the_last_seal(books: Cli) -> None:
    assert books("verify", "--since-last").err.startswith(f"✓ {LOOKED}, all: there is no seal yet: no finding")
    sealed(books)
    later(books.db)
    got = books("verify", "--since-last")
    assert got.err == "✓ 10 entries of 3 users with entries since seal 1: no finding\n"
    assert books("verify", "--since-last", "--json").json["data"]["scope"] == "since-last"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--user", "u1", "--since-last"), "--user is one user; --since-last is about all of them"),
        (("--user", "u1", "--seal"), "--user is one user; --seal is about all of them"),
        (("--user", "-"), "--user: "),
        (("--user", ""), "--user: is empty (an unset variable?)"),
        (("--head", "abc"), "--head: 'abc' is no head of a seal"),
        (("--head", "A" * 64), "--head: "),
        (("--head", "0" * 63), "--head: "),
        (("--head", ""), "--head: is empty"),
        (("--deep", "--deep"), "--deep is given twice"),
        (("u1",), "got unexpected extra argument"),
        (("--format", "csv"), "'csv' (--format) is not a format of this command"),
    ],
)
def test_a_wrong_command_line_is_2(books: Cli, flags: tuple[str, ...], words: str) -> None:
    got = books("verify", *flags)
    assert (got.code, got.out) == (2, b"")
    assert got.err.removeprefix("tokenctl: ").startswith(words)


# --- with findings --------------------------------------------------------------------


def test_findings_are_rows_and_the_end_is_1_with_what_to_do(books: Cli) -> None:
    vandalize(books.db, "UPDATE @T SET amount = 31 WHERE user_id = 'u1' AND seq = 3")
    got = books("verify")
    assert got.code == 1
    assert got.lines == [
        ["all users", "trial-balance", "all users have 274, all funds -275: together they are not zero"],
        ["u1", "balance", "the account says 125, its entries make 126"],
        ["u1:3", "running-sum", "balance_after is 60, but 30 and +31 make 61"],
    ]
    first, second, *hints = got.err.splitlines()
    assert first == f"▸ {LOOKED}: 3 findings"
    assert second == "tokenctl: 3 findings"
    assert len(hints) == 3
    assert any(line.strip().startswith("balance: the entries decide") for line in hints)
    assert books("verify", "--format", "value").text == "3\n"


def test_findings_as_json_are_a_report_and_a_problem(books: Cli) -> None:
    vandalize(books.db, "DELETE FROM @T WHERE user_id = 'u3'")
    got = books("verify", "--json")
    assert got.code == 1
    data = got.json["data"]
    assert (data["ok"], data["findings_total"]) == (False, 3)
    assert data["findings_by_rule"] == {"balance": 1, "last-seq": 1, "trial-balance": 1}
    [lost] = [finding for finding in data["findings"] if finding["rule"] == "last-seq"]
    assert (lost["name"], lost["user_id"], lost["seq"]) == ("u3:1", "u3", None)
    assert lost["what"] == "is missing: the account counts up to 1"
    assert lost["hint"].startswith("the entries decide")
    problem = json.loads(got.err.splitlines()[-1])
    assert (problem["type"], problem["exit_code"], problem["findings"]) == ("urn:tokenctl:problem:ledger-broken", 1, 3)


def test_quiet_is_silent_on_success_only(books: Cli) -> None:
    vandalize(books.db, "UPDATE @A SET balance = 6 WHERE user_id = 'u3'")
    got = books("verify", "--user", "u3", "-q")
    assert (got.code, [row[:2] for row in got.lines]) == (1, [["u3", "balance"]])
    assert got.err.startswith("tokenctl: 1 finding\n")


def test_more_than_a_hundred_findings_say_so(cli: Cli) -> None:
    support = cli.db.connect("support1")
    for n in range(101):
        post(support, f"u{n:03}", 5)
    vandalize(cli.db, "UPDATE @A SET balance = 6")
    got = cli("verify")
    assert (got.code, len(got.lines)) == (1, 100)
    assert "tokenctl: 102 findings; the first 100 are shown\n" in got.err


def test_only_deep_judges_forms_and_triggers(books: Cli) -> None:
    vandalize(books.db, "UPDATE @T SET reason = 'Bad One' WHERE user_id = 'u3'")
    books.db.rows("ALTER TABLE tokenctl.audit_log DISABLE TRIGGER append_only")
    assert books("verify").code == 0
    got = books("verify", "--deep")
    assert (got.code, [row[:2] for row in got.lines]) == (1, [["audit_log", "trigger"], ["u3:1", "form"]])


# --- seals ------------------------------------------------------------------------------


def test_a_seal_is_printed_whole(books: Cli) -> None:
    books.login("admin1")
    got = books("verify", "--seal", "--json")
    data = got.json["data"]
    seal = data["seal"]
    assert (got.code, data["sealed"], data["ok"]) == (0, True, True)
    assert (seal["seal_no"], seal["users"], seal["entries"], seal["tokens"]) == (1, USERS, ENTRIES, 274)
    assert seal["operator"] == "admin1"
    assert [(seal["head"],)] == books.db.rows("SELECT head FROM tokenctl.seals")
    later(books.db)
    got = books("verify", "--seal")
    [[number, head, entries, users, at, by]] = got.lines
    assert (number, entries, users, by) == ("2", "3", "3", "admin1")
    assert HEAD.fullmatch(head)
    assert at.endswith("Z")
    assert got.err == "✓ 23 entries of 8 users: no finding\n✓ sealed 3 entries of 3 users as seal 2\n"


def test_a_head_is_printed_with_quiet_too(books: Cli) -> None:
    books.login("admin1")
    for again in (False, True):
        got = books("verify", "--since-last", "--seal", "--quiet")
        assert (got.code, got.err) == (0, ""), again
        assert [(row[1],) for row in got.lines] == books.db.rows("SELECT head FROM tokenctl.seals"), again
    later(books.db)
    got = books("verify", "--since-last", "--seal", "--quiet")
    assert (got.code, got.err, got.lines[0][0]) == (0, "", "2")
    vandalize(books.db, "UPDATE @A SET balance = 1 WHERE user_id = 'u2'")
    got = books("verify", "--seal", "--quiet")
    assert (got.code, HEAD.search(got.text)) == (1, None)


def test_sealing_twice_seals_once_and_answers_the_same_head(books: Cli) -> None:
    head = sealed(books)
    books.login("admin1")
    got = books("verify", "--seal", "--format", "value")
    assert (got.code, got.text.strip()) == (0, head)
    assert got.err.splitlines()[-1] == "  nothing is new since seal 1; its head stands"
    assert books("verify", "--seal", "--json").json["data"]["sealed"] is False
    assert books.db.rows("SELECT count(*) FROM tokenctl.seals") == [(1,)]
    assert books.db.rows("SELECT count(*) FROM tokenctl.audit_log WHERE action = 'seal'") == [(1,)]


def test_an_empty_ledger_has_nothing_to_seal(cli: Cli) -> None:
    cli.login("admin1")
    got = cli("verify", "--seal")
    assert (got.code, got.out) == (0, b"")
    assert got.err == "✓ 0 entries of 0 users: no finding\n  there is nothing to seal yet\n"
    assert cli("verify", "--seal", "--json").json["data"]["seal"] is None


@pytest.mark.parametrize("login", ["reader1", "support1", "batch1"])
def test_everybody_may_verify_and_only_an_admin_seals(books: Cli, login: str) -> None:
    before = books.written()
    books.login(login)
    assert books("verify", "--deep").code == 0
    got = books("verify", "--seal", "--json")
    assert (got.code, got.problem["type"]) == (77, "urn:tokenctl:problem:not-allowed")
    assert got.problem["detail"] == "only tokenctl_admin may seal"
    assert got.problem["hint"] == "without --seal, tokenctl_reader will do"
    assert books.written() == before
    assert books.db.rows("SELECT count(*) FROM tokenctl.seals") == [(0,)]


def test_a_stranger_may_neither(books: Cli) -> None:
    books.login("stranger")
    assert books("verify").code == 77


def test_who_seals_while_another_does_is_told_to_come_back(books: Cli) -> None:
    books.login("admin1")
    with inspecting(books.db, "admin1") as (other, _):
        other.open(sealing=True)
        got = books("verify", "--seal", "--json")
        assert (got.code, got.problem["type"], got.problem["retryable"]) == (75, "urn:tokenctl:problem:lock-held", True)
        assert books("verify").code == 0, "looking needs no lock"


def test_with_a_finding_nothing_is_sealed_and_no_head_is_printed(books: Cli) -> None:
    head = sealed(books)
    later(books.db)
    vandalize(books.db, "UPDATE @A SET balance = 1 WHERE user_id = 'u2'")
    books.login("admin1")
    got = books("verify", "--seal", "--format", "value")
    assert (got.code, got.text) == (1, "2\n"), "a number, which no --head takes for a head"
    assert "tokenctl: 2 findings; nothing was sealed\n" in got.err
    assert books.db.rows("SELECT head FROM tokenctl.seals") == [(head,)]


def test_a_receipt_that_cannot_be_written_says_what_was_sealed(books: Cli) -> None:
    books.login("admin1")
    got = shell("tokenctl verify --seal > /dev/full")
    assert got.code == 74
    [(head,)] = books.db.rows("SELECT head FROM tokenctl.seals")
    assert f"committed: seal 1, head {head}; only the receipt could not be written" in got.err


# --- a head that was kept ----------------------------------------------------------------


def test_a_kept_head_proves_what_was_sealed_under_it(books: Cli) -> None:
    first = sealed(books)
    later(books.db)
    second = sealed(books)
    post(books.db.connect("support1"), "u2", 1, key="not sealed")
    assert books("verify", "--head", first).err.endswith("users, 1 seal made anew: no finding\n")
    got = books("verify", "--head", second, "--json")
    data = got.json["data"]
    assert (got.code, data["verified_head"], data["seals_checked"], data["seal"]["seal_no"]) == (0, second, 2, 2)


@pytest.mark.parametrize(
    ("statements", "row"),
    [
        (("UPDATE @T SET note = 'other' WHERE user_id = 'u3'",), ["u3:1", "sealed-rows"]),
        (("UPDATE @T SET reason = 'other' WHERE user_id = 'u1' AND seq = 4",), ["u1:1-6", "sealed-rows"]),
        (("DELETE FROM @T WHERE user_id = 'u3'", PROJECTION), ["u3:1", "sealed-rows"]),
        (
            ("DELETE FROM @T WHERE user_id = 'u3'", "DELETE FROM @A WHERE user_id = 'u3'"),
            ["u3:1", "sealed-rows"],
        ),
    ],
    ids=["edited", "edited in the middle", "cut off", "gone"],
)
def test_whatever_was_changed_under_a_head_is_named(books: Cli, statements: tuple[str, ...], row: list[str]) -> None:
    head = sealed(books)
    vandalize(books.db, *statements)
    got = books("verify", "--head", head)
    assert got.code == 1
    assert row in [line[:2] for line in got.lines]
    assert "sealed rows were changed: compare with a backup" in got.err
    rewrite_seals(books.db)
    assert books("verify", "--deep").code == 0, "whoever kept no head is deceived"
    got = books("verify", "--head", head)
    assert got.code == 1
    assert [line[:2] for line in got.lines] == [[f"head {head[:12]}…", "head-missing"]]


def test_a_head_of_another_ledger_is_a_finding(books: Cli) -> None:
    sealed(books)
    got = books("verify", "--head", "0" * 64)
    assert got.code == 1
    assert got.lines[0][:2] == ["head 000000000000…", "head-missing"]
    assert "is it a head of this ledger?" in got.err


# --- what others see of it ------------------------------------------------------------------


def test_metrics_say_how_and_when_it_went(books: Cli) -> None:
    def metrics() -> list[str]:
        return [line for line in books("metrics", "--format", "prometheus").text.splitlines() if "verify_" in line]

    books("verify", "--user", "u1")
    assert 'tokenctl_verify_rows_total{scope="user"} 6.0' in metrics()
    assert not [line for line in metrics() if line.startswith("tokenctl_verify_findings{")], "one user is no news"
    assert books("verify").code == 0
    assert 'tokenctl_verify_findings{scope="all"} 0.0' in metrics()
    assert f'tokenctl_verify_rows_total{{scope="all"}} {float(ENTRIES)}' in metrics()
    [good] = [line for line in metrics() if line.startswith("tokenctl_verify_last_success")]
    vandalize(books.db, "UPDATE @A SET balance = 6 WHERE user_id = 'u3'")
    assert books("verify").code == 1
    assert 'tokenctl_verify_findings{scope="all"} 2.0' in metrics()
    assert good in metrics(), "the last success stays when it was"


def test_one_log_line_tells_cron(books: Cli, home: Path) -> None:
    log = home / "log"
    books.patch.setenv("TOKENCTL_LOG_FILE", str(log))
    head = sealed(books)
    line = last_line(log, "verified")
    assert (line["level"], line["scope"], line["findings"], line["rules"]) == ("info", "all", 0, [])
    assert (line["users"], line["entries"], line["seal_no"], line["head"]) == (USERS, ENTRIES, 1, head)
    vandalize(books.db, "UPDATE @A SET balance = 6 WHERE user_id = 'u3'")
    assert books("verify", "-q").code == 1
    line = last_line(log, "verified")
    assert (line["level"], line["findings"], line["rules"]) == ("warning", 2, ["balance=1", "trial-balance=1"])
    assert last_line(log, "done")["outcome"] == "ledger-broken"


def test_progress_is_drawn_on_a_terminal_only(books: Cli) -> None:
    assert not re.search(r"[\r\x1b━]", books("verify", "--deep").err)
    seen = on_terminal("verify", "--deep")
    assert seen.code == 0
    assert "verifying" in seen.text
    for silent in (("-q",), ("--json",)):
        assert "verifying" not in on_terminal("verify", *silent).text


@pytest.mark.parametrize("columns", [100, 60, 40])
def test_a_terminal_shows_findings_whole(books: Cli, columns: int) -> None:
    vandalize(books.db, "UPDATE @A SET balance = 6 WHERE user_id = 'u3'")
    seen = without_escapes(on_terminal("verify", "--user", "u3", columns=columns).text)
    assert "the account says 6, its entries make 5" in seen
    assert "tokenctl: 1 finding" in seen
