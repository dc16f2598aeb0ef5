"""What `tokenctl help TOPIC` and the manual say of all commands alike."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from tokenctl import errors, sources

Rows = list[tuple[str, str]]

_WIDTH, _NARROWEST = 80, 40
_INDENT = 4
#: What stands before the meaning in a row.
_LEAD = re.compile(r" *(?:\S+ {2,}|[0-9]+ +)?")


def exit_codes(command: str = "") -> Rows:
    """Code and meaning, of all commands or of `health`."""
    codes = errors.HEALTH_CODES if command == "health" else errors.EXIT_CODES
    return [(str(code), meaning) for code, meaning in codes.items()]


ENVIRONMENT: Rows = [(", ".join(names), meaning) for names, meaning in sources.VARIABLES]

FILES: Rows = [
    ("~/.config/tokenctl/config.toml", "The configuration. What it lacks is read from /etc/xdg/tokenctl/config.toml."),
    ("~/.local/share/tokenctl", "The data of the embedded PostgreSQL."),
    ("~/.local/state/tokenctl/state.db", "What commands learn from each other: breakers and rate limits."),
    ("~/.local/state/tokenctl/keys.db", "Which of Gemini's keys are disabled or were rejected; never a key."),
    ("~/.local/state/tokenctl/metrics.db", "What was counted and timed."),
    (
        "~/.local/state/tokenctl/recent",
        "User and batch ids for shell completion, while completion.remember_ids is set.",
    ),
    ("~/.cache/tokenctl", "Balances that are some seconds old."),
]


def topic(name: str, columns: int = _WIDTH) -> str:
    """The text of a topic, with a final newline, in lines of `columns` and at most 80 characters.

    Raises KeyError for another name.
    """
    width = max(min(columns, _WIDTH), _NARROWEST)
    paragraphs = TOPICS[name][1]().rstrip().split("\n\n")
    return "\n\n".join(_folded(one, width) for one in paragraphs) + "\n"


def _folded(paragraph: str, width: int) -> str:
    """Prose filled, rows folded below what they mean, and command lines as they are."""
    if not paragraph.startswith(" "):
        return textwrap.fill(paragraph, width, break_on_hyphens=False)
    return "\n".join(line if re.match(r" {4}\S", line) else _row(line, width) for line in paragraph.splitlines())


def _row(line: str, width: int) -> str:
    lead = _LEAD.match(line)
    pad = " " * (lead.end() if lead else 0)
    return textwrap.fill(line, width, subsequent_indent=pad, break_on_hyphens=False, break_long_words=False)


def listed() -> str:
    """The topics, for the end of the help."""
    rows = [(name, says) for name, (says, _) in TOPICS.items()]
    return "Topics (tokenctl help TOPIC):\n" + "".join(f"  {name:<12} {says}\n" for name, says in rows)


def _exit_codes() -> str:
    kinds = errors.kinds()
    parts = ["Exit codes say what to do next, the same in every command.\n\n"]
    for code, meaning in errors.EXIT_CODES.items():
        parts.append(_entry(str(code), meaning))
        parts += [_kind(kind) for kind in kinds.get(code, [])]
    parts.append("\nThe names below a code are those of JSON errors: urn:tokenctl:problem:NAME.\n")
    parts.append("\ntokenctl health speaks to monitoring systems, and has four:\n\n")
    parts += [_entry(str(code), meaning) for code, meaning in errors.HEALTH_CODES.items()]
    return "".join(parts)


def _environment() -> str:
    return "A variable that is empty is not set. A flag beats a variable, which beats a file.\n\n" + _list(ENVIRONMENT)


def _files() -> str:
    return (
        "All are for their user only (mode 0700, 0600). XDG_CONFIG_HOME and the like move\n"
        "them; `tokenctl config path` and `tokenctl doctor` show where they are here, and\n"
        "`tokenctl config init` writes a configuration to begin with.\n\n" + _list(FILES)
    )


def _formats() -> str:
    return """\
A command prints a table on a terminal and tab-separated lines elsewhere. --format chooses:

  table   for people; where it would be too wide, one record below the other
  tsv     for cut and awk: no heading, nothing cut, times as RFC 3339 in UTC
  json    one document of schema, data and meta; --json means the same
  jsonl   a line a row, each with its schema, and a summary at the end
  csv     for spreadsheets, with a heading: batches, export, history, statement
  value   the one number or name that scripts want

Not every command has them all, and others have formats of their own: --help names them.
The columns of tsv are the headings of the table in their order, with those that it leaves
out: in a list for want of room, which COLUMNS=999 gives it; of one thing what that lacks,
so that json, which names all, is the better choice for a program.

    tokenctl balance u_42 --format value
    tokenctl history u_42 --json | jq '.data[] | select(.amount < 0)'
    cut -f1 tickets.tsv | tokenctl balance - | awk -F'\\t' '$4 < 100'

Data goes to standard output, talk and errors to standard error. With JSON an error is an
object, too (RFC 9457), and standard output stays empty. Amounts are whole numbers up to
2^53 - 1; what is absent is null and never missing. `tokenctl schema NAME` prints the JSON
Schema of each document; within a version keys are added and none goes away.
"""


def _cron() -> str:
    return """\
Nothing is asked where no terminal is: what grants, imports, reverses or generates wants
--yes there, and ends with 2 before it connects when it is missing. With -q nothing is
said and a change prints no receipt, a repeated one neither, so that cron sends no mail
unless something is wrong; but a grant without --idempotency-key says that it was made
before. What only looks prints its result all the same, and verify --seal its head: keep
that mail, or send it with >> to where heads are kept, out of the database's reach. With
--format or --json the receipt is asked for, and printed.

    TOKENCTL_DATABASE_URL=service=tokens
    5 6 * * *    tokenctl batch-import /srv/in/daily.csv --yes -q
    */10 * * * * tokenctl holds reconcile -q
    15 3 * * *   tokenctl verify --since-last --seal -q
    * * * * *    tokenctl metrics --textfile /var/lib/prometheus/node-exporter/tokenctl.prom

Running it again is safe: the same file, or the same grant with its key, is posted once,
however often it is tried. A run that meets another one at work on the same file ends
with 75, at once. 75 and 69 mean later, with the same command; 65 means mend the file;
all others want a person (tokenctl help exit-codes).

A total above limits.batch_total needs --expect-total with the sum that you expect, which
refuses a file that was cut or doubled, too. TOKENCTL_TIMEOUT bounds each step.
"""


TOPICS: dict[str, tuple[str, Callable[[], str]]] = {
    "exit-codes": ("what each exit code tells cron and people", _exit_codes),
    "environment": ("every variable that means something", _environment),
    "formats": ("tables, TSV, JSON, and which when", _formats),
    "cron": ("how to run it where nobody is", _cron),
    "files": ("what is kept where", _files),
}


def _kind(kind: type[errors.TokenctlError]) -> str:
    return f"        {kind.code:<21} {errors.title(kind)}\n"


def _list(rows: Rows) -> str:
    return "\n".join(_entry(term, meaning) for term, meaning in rows)


def _entry(term: str, meaning: str) -> str:
    """A term, and below or beside it what it means."""
    if len(term) < _INDENT:
        return f"  {term:<{_INDENT}}{meaning}\n"
    return f"  {term}\n      {meaning}\n"
