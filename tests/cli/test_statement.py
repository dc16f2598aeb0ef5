"""`statement`: a month of an account as Markdown, CSV, JSON and a page that is safe to open."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from tests.cli.running import Cli, environment, on_terminal
from tests.entries import Row, write
from tests.vandal import vandalize


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


ROWS = [
    Row(5000, "purchase", "shop", at=at("2025-10-31 23:59:59.999999"), batch="0123456789ab"),
    Row(500, "bonus", "goodwill", at=at("2025-11-01"), ticket="48121", note="Sorry, slow queue"),
    Row(-40, "generation", "generation", at=at("2025-11-12 18:04:09.123456")),
    Row(-500, "bonus", "mistake", reverses=2, at=at("2025-11-30 23:59:59.999999")),
    Row(7, "bonus", "goodwill", at=at("2025-12-01")),
]
HOSTILE = "</td><script>alert(1)</script> | **b** _i_ `c` [l](http://127.0.0.1) &amp; <b>\x1b[31m\u202e\nnext"

MARKDOWN = """\
# Statement of u_42

November 2025

|                 | tokens |
| --------------- | -----: |
| Opening balance |  5,000 |
| Added           |   +500 |
| Taken           |   -540 |
| Closing balance |  4,960 |

## 3 entries

| Date (UTC)       | Transaction | What                            | Note              | Tokens |   Balance |
| ---------------- | ----------- | ------------------------------- | ----------------- | -----: | --------: |
| **2025-11-01**   |             | **Opening balance**             |                   |        | **5,000** |
| 2025-11-01 00:00 | u_42:2      | bonus: goodwill                 | Sorry, slow queue |   +500 |     5,500 |
| 2025-11-12 18:04 | u_42:3      | generation                      |                   |    -40 |     5,460 |
| 2025-11-30 23:59 | u_42:4      | bonus: mistake, reverses u_42:2 |                   |   -500 |     4,960 |
| **2025-11-30**   |             | **Closing balance**             |                   |        | **4,960** |
"""


@pytest.fixture
def account(cli: Cli) -> Cli:
    write(cli.db, "u_42", ROWS)
    return cli


def test_markdown_is_a_document_with_a_line_for_each_entry(account: Cli) -> None:
    got = account("statement", "u_42", "--month", "2025-11", "--request-id", "r1")
    assert (got.code, got.err) == (0, "")
    text, foot = got.text.split("\n\nLedger env, read ")
    assert f"{text}\n" == MARKDOWN
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d \d\d:\d\d UTC, request r1\.\n\nAll amounts are tokens; all times are in UTC\.\n", foot
    )


def test_json_has_everything(account: Cli) -> None:
    document = account("statement", "u_42", "--month", "2025-11", "--json").json
    assert document["schema"] == "tokenctl.statement.v1"
    data = document["data"]
    entries, as_of = data.pop("entries"), data.pop("as_of")
    assert re.fullmatch(r"20\d\d-.*Z", as_of)
    assert data == {
        "user_id": "u_42", "month": "2025-11", "since": "2025-11-01T00:00:00.000000Z",
        "until": "2025-12-01T00:00:00.000000Z", "complete": True, "opening_balance": 5000, "added": 500,
        "taken": -540, "closing_balance": 4960,
    }  # fmt: skip
    assert [(e["id"], e["amount"], e["balance"], e["reversed_by"]) for e in entries] == [
        ("u_42:2", 500, 5500, "u_42:4"), ("u_42:3", -40, 5460, None), ("u_42:4", -500, 4960, None),
    ]  # fmt: skip


def test_csv_has_a_line_for_each_balance_and_makes_no_formula(cli: Cli) -> None:
    write(
        cli.db, "@u", [Row(50, at=at("2025-10-02"), note="x"), Row(-5, at=at("2025-11-02"), ticket="+1", note="=1+1")]
    )
    rows = list(csv.DictReader(io.StringIO(cli("statement", "@u", "--month", "2025-11", "--format", "csv").text)))
    assert list(rows[0]) == ["line", "at", "id", "kind", "reason", "note", "ticket", "reverses", "amount", "balance"]
    assert [list(row.values()) for row in rows] == [
        ["opening", "2025-11-01T00:00:00.000000Z", "", "", "", "", "", "", "", "50"],
        ["entry", "2025-11-02T00:00:00.000000Z", "'@u:2", "bonus", "test", "'=1+1", "'+1", "", "-5", "45"],
        ["closing", "2025-12-01T00:00:00.000000Z", "", "", "", "", "", "", "", "45"],
    ]


@pytest.mark.parametrize(
    ("month", "opening", "closing"),
    [
        ("2025-09", 0, 0),
        ("2025-10", 0, 5000),
        ("2025-11", 5000, 4960),
        ("2025-12", 4960, 4967),
        ("2026-01", 4967, 4967),
    ],
)
def test_months_follow_each_other(account: Cli, month: str, opening: int, closing: int) -> None:
    data = account("statement", "u_42", "--month", month, "--json").json["data"]
    assert (data["opening_balance"], data["closing_balance"], data["complete"]) == (opening, closing, True)
    assert data["opening_balance"] + data["added"] + data["taken"] == data["closing_balance"]
    assert data["closing_balance"] == (data["entries"][-1]["balance"] if data["entries"] else opening)


def test_a_month_that_is_not_over_says_so_and_one_to_come_is_refused(cli: Cli) -> None:
    cli.grant("u1", 500)
    [(now,)] = cli.db.rows("SELECT clock_timestamp() AT TIME ZONE 'UTC'")
    got = cli("statement", "u1", "--month", f"{now:%Y-%m}")
    assert f", so far: until {now:%Y-%m}-" in got.text
    assert re.search(r"\| Balance so far +\| +500 \|", got.text)
    assert cli("statement", "u1", "--month", f"{now:%Y-%m}", "--json").json["data"]["complete"] is False
    later = now.replace(day=1) + timedelta(days=40)
    got = cli("statement", "u1", "--month", f"{later:%Y-%m}")
    assert (got.code, got.out) == (2, b"")
    assert got.err.startswith(f"tokenctl: {later:%Y-%m} has not begun\n")


@pytest.mark.parametrize("month", ["2025-13", "2025-00", "2025-1", "November", "2025-11-01", "0999-01", "٢٠٢٥-11", ""])
def test_what_is_no_month_is_2(account: Cli, month: str) -> None:
    got = account("statement", "u_42", "--month", month, "--format", "csv")
    assert (got.code, got.out) == (2, b"")
    assert "is no month; write 2026-11" in got.err or "--month: is empty" in got.err


@pytest.mark.parametrize(
    "argv",
    [("u_42",), ("--month", "2025-11"), ("u_42", "--month=2025-11", "--format", "pdf"), ("u 1", "--month=2025-11")],
)
def test_a_wrong_command_line_is_2(account: Cli, argv: tuple[str, ...]) -> None:
    got = account("statement", *argv)
    assert (got.code, got.out) == (2, b"")


def test_an_unknown_user_is_67_with_the_nearest_id(account: Cli) -> None:
    got = account("statement", "u_24", "--month", "2025-11", "--json")
    assert (got.code, got.problem["nearest"]) == (67, ["u_42"])


def test_a_user_without_entries_has_a_statement_of_nothing(cli: Cli) -> None:
    write(cli.db, "fresh", [])
    data = cli("statement", "fresh", "--month", "2025-11", "--json").json["data"]
    assert (data["opening_balance"], data["closing_balance"], data["entries"]) == (0, 0, [])
    assert "## No entries\n" in cli("statement", "fresh", "--month", "2025-11").text


def test_entries_that_do_not_add_up_make_no_statement(account: Cli) -> None:
    vandalize(account.db, "UPDATE @T SET amount = -41 WHERE seq = 3")
    got = account("statement", "u_42", "--month", "2025-11", "--format", "html")
    assert (got.code, got.out) == (1, b"")
    assert "tokenctl verify --user u_42 says where" in got.err
    assert account("statement", "u_42", "--month", "2025-12").code == 0, "what is before it is not on it"


def test_a_reader_may_and_nothing_is_written(account: Cli) -> None:
    before = account.written()
    account.login("reader1")
    assert account("statement", "u_42", "--month", "2025-11").code == 0
    assert account.written() == before


@pytest.mark.usefixtures("account")
def test_a_terminal_shows_the_document_too() -> None:
    seen = on_terminal("statement", "u_42", "--month", "2025-11", env=environment(TERM="xterm"))
    assert seen.code == 0
    assert seen.text.startswith("# Statement of u_42\n")


# --- the page ---------------------------------------------------------------------------


class Page(HTMLParser):
    """A page taken apart: its tags in order, its attributes, its table's cells; every tag must be closed."""

    VOID = frozenset({"meta", "wbr"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_page_is_one_file_that_runs_and_fetches_nothing(account: Cli) -> None:
    source = account("statement", "u_42", "--month", "2025-11", "--format", "html").text
    page = Page(source)
    assert source.startswith('<!DOCTYPE html>\n<html lang="en">\n')
    assert source.isascii()
    assert set(page.tags) == {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "dl", "div", "dt", "dd", "table", "wbr",
        "caption", "thead", "tbody", "tr", "th", "td", "footer",
    }  # fmt: skip
    assert {name for name, _ in page.attributes} == {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "scope",
    }
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert not re.search(r"url\(|@import|https?:|//|<script|<link|<img|\son\w+=|javascript:", source, re.IGNORECASE)
    assert "@page" in source
    assert "@media print" in source
    assert page.rows == [
        ["Date (UTC)", "Transaction", "What", "Note", "Tokens", "Balance"],
        ["2025-11-01", "", "Opening balance", "", "", "5,000"],
        ["2025-11-01 00:00", "u_42:2", "bonus: goodwill", "Sorry, slow queue", "+500", "5,500"],
        ["2025-11-12 18:04", "u_42:3", "generation", "", "-40", "5,460"],
        ["2025-11-30 23:59", "u_42:4", "bonus: mistake, reverses u_42:2", "", "-500", "4,960"],
        ["2025-11-30", "", "Closing balance", "", "", "4,960"],
    ]
    assert "support1" not in source, "who granted it is the house's business"


def test_a_word_that_is_too_long_for_a_page_may_be_broken(cli: Cli) -> None:
    user = "u" * 100
    write(cli.db, user, [Row(5, at=at("2025-11-02"))])
    source = cli("statement", user, "--month", "2025-11", "--format", "html").text
    assert f"<td>{'u' * 24}<wbr>{'u' * 24}<wbr>{'u' * 24}<wbr>{'u' * 24}<wbr>uuuu:1</td>" in source
    assert Page(source).rows[2][1] == f"{user}:1"


def test_text_of_the_ledger_is_text_in_every_format(cli: Cli) -> None:
    write(cli.db, "u1", [Row(5, reason="<i>x|y</i>", note=HOSTILE + "日本", at=at("2025-11-02"))])
    shown = HOSTILE.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").replace("\n", r"\x0a") + "日本"
    page = Page(cli("statement", "u1", "--month", "2025-11", "--format", "html").text)
    assert page.rows[2][2:4] == ["bonus: <i>x|y</i>", shown]
    assert "script" not in page.tags
    text = cli("statement", "u1", "--month", "2025-11").text
    [line] = [line for line in text.splitlines() if line.startswith("| 2025-11-02 ")]
    # Nothing is left that Markdown would read: every mark has its backslash.
    assert not re.search(r"(?<!\\)[`*\[\]<>~&!]", line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 7
    assert re.sub(r"\\(?=[\\`*\[\]<>|~&#!_])", "", line).count(shown) == 1
    for form in ("md", "csv", "json", "html"):
        text = cli("statement", "u1", "--month", "2025-11", "--format", form).text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
