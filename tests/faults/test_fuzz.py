"""Whatever comes in ends in a sentence: files, options, configurations and cursors that chance made.

Good inputs are damaged rather than made up, so that the damage reaches what lies behind the
first check. Each run has another seed, which a failure prints; `make soak` tries more.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.cli.running import Cli, CommandLine
from tests.pg import post
from tests.scale import chosen_seed, scaled
from tests.unit.grantfile.good_files import GOOD_FILES
from tests.unit.grantfile.opened import Row, blocks_of, rows_of
from tokenctl import settings
from tokenctl.clients import keyfile
from tokenctl.errors import TokenctlError
from tokenctl.grantfile.check import CheckOptions
from tokenctl.settings import Flags

T = TypeVar("T")

#: Bytes and texts that mean something to somebody on the way.
TOKENS = [
    b'"', b'""', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\x1b[31m", b"\xff", b"\xc3", b"\xef\xbb\xbf",
    b"\\N", b"\\.", b"{", b"}", b"[", b"null", b"true", b"1e5", b"-1", b"+5", b"05", b"5.0", b"1_000", b"0", b"9" * 30,
    b"NaN", b"'", b"=cmd()", "\u202e".encode(), "\u2028".encode(), "\u0663".encode(), b"\\ud800", b"\\u0000",
    b"x" * 5000, b"[" * 2000, b"9" * 5000, b"user_id", b"key", b"$HOME", b"../../etc/passwd", b"%s", b"{0}",
    b"'; DROP TABLE token_accounts; --", b"-", b"--yes", b"",
]  # fmt: skip
RARELY, HALF, MOSTLY = 0.05, 0.5, 0.8
USER = re.compile(r"[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}")
KEY = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some pieces taken out, put in, doubled or exchanged."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + rng.randrange(1, 9)] = b""
            case 1:
                data[at:at] = rng.choice(TOKENS)
            case 2:
                data[at : at + rng.randrange(1, 9)] = rng.choice(TOKENS)
            case 3:
                data[at:at] = data[max(0, at - rng.randrange(1, 40)) : at]
            case _:
                if at < len(data):
                    data[at] = rng.randrange(256)
    return bytes(data)


def tried(work: Callable[[], T]) -> tuple[T | None, TokenctlError | None]:
    """What it answers, or the error that is for people; any other one fails the test."""
    try:
        return work(), None
    except TokenctlError as error:
        return None, error


def is_good(row: Row) -> bool:
    """Judged by plain words, and not by the rules of tokenctl's own."""
    texts = [row.note or "", row.ticket or "", row.reason, row.kind]
    return bool(
        USER.fullmatch(row.user_id)
        and KEY.fullmatch(row.idempotency_key)
        and 1 <= row.amount <= 999_999_999_999_999
        and row.kind in {"bonus", "purchase"}
        and re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", row.reason)
        and not any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for text in texts for c in text)
        and all(len(text) <= 500 for text in texts)
    )


def test_a_damaged_file_is_refused_or_read_as_what_it_says(tmp_path: Path) -> None:
    rng = random.Random(chosen_seed())  # noqa: S311 — a repeatable search
    refused = 0
    for _ in range(scaled(3000)):
        good = rng.choice(GOOD_FILES)
        content = damaged(good.content, rng)
        if rng.random() < RARELY:
            content = damaged(gzip.compress(content), rng)
        blocks, error = tried(partial(blocks_of, content, tmp_path, CheckOptions(**good.options)))
        if blocks is None:
            assert error is not None
            assert error.exit_code in {2, 65, 66}, content
            assert error.detail, content
            refused += 1
            continue
        rows = rows_of(blocks)
        assert all(map(is_good, rows)), content
        assert len(rows) == sum(block.rows for block in blocks), content
        assert sum(row.amount for row in rows) == sum(block.tokens for block in blocks), content
        # No amount is made up: its digits stand in the file.
        text = content if content[:2] != b"\x1f\x8b" else gzip.decompress(content)
        assert all(str(row.amount).encode() in text for row in rows), content
    assert refused > 0


@pytest.mark.parametrize("value", ["[" * 5000, "{a=" * 2000, "9" * 5000], ids=["lists", "tables", "digits"])
def test_a_configuration_that_python_cannot_bear(tmp_path: Path, value: str) -> None:
    """Its parser gives up with errors that are none of TOML's."""
    path = tmp_path / "config.toml"
    path.write_text(f"timeout = {value}\n")
    with pytest.raises(TokenctlError) as raised:
        settings.load({"HOME": str(tmp_path), "TOKENCTL_CONFIG": str(path)}, Flags())
    assert raised.value.exit_code == 78
    path.write_text(f"[[key]]\nid = {value}\n")
    path.chmod(0o600)
    with pytest.raises(TokenctlError) as raised:
        keyfile.load(path, None)
    assert raised.value.exit_code == 78


CONFIG = """\
timeout = 5
reasons = ["goodwill", "promo"]
profile = "prod"
[limits]
grant = 100
batch_total = 5000
[cache]
ttl_s = 3.5
[rate_limits.grant-bonus]
limit = 5
window_s = 60
[log]
file = "x.log"
level = "info"
max_bytes = 1000
[gemini]
base_url = "https://example.org/v1"
[profiles.prod]
database = "postgresql://u@127.0.0.1:1/x"
protected = true
"""


def test_a_damaged_configuration_is_told_with_its_place(tmp_path: Path) -> None:
    rng = random.Random(chosen_seed())  # noqa: S311 — a repeatable search
    path = tmp_path / "config.toml"
    environ = {"HOME": str(tmp_path), "TOKENCTL_CONFIG": str(path)}
    fine = 0
    for _ in range(scaled(1500)):
        content = damaged(CONFIG.encode(), rng)
        path.write_bytes(content)
        found, error = tried(partial(settings.load, environ, Flags()))
        if found is None:
            assert error is not None
            assert error.exit_code in {2, 78}, content
            assert str(path) in error.detail or "config" in error.detail or error.hint, (content, error.detail)
            continue
        fine += 1
        assert found.limits.grant >= 1, content
        assert found.timeout_s is None or found.timeout_s > 0, content
    assert fine > 0


def word(rng: random.Random) -> str:
    """A text as somebody may type it, or paste it."""
    text = rng.choice([b"u1", b"u1:1", b"5", b"goodwill", b"2026-11-23", b"k1", b"0123456789ab"])
    made = damaged(text, rng) if rng.random() < MOSTLY else rng.choice(TOKENS)
    return made.decode("utf-8", "surrogateescape").replace("\0", "")


def either(rng: random.Random, fine: str) -> str:
    """A good value as often as any."""
    return word(rng) if rng.random() < HALF else fine


def grant(rng: random.Random) -> list[str]:
    more = rng.choice(["--note", "--ticket", "--idempotency-key", "--campaign"])
    amount, reason = either(rng, "5"), either(rng, "goodwill")
    return ["grant-bonus", word(rng), "--amount", amount, "--reason", reason, more, word(rng), "--new-user", "--yes"]


def history(rng: random.Random) -> list[str]:
    return ["history", "u1", rng.choice(["--cursor", "--since", "--until", "--kind", "--limit"]), word(rng)]


LINES: dict[str, Callable[[random.Random], list[str]]] = {
    "grant-bonus": grant,
    "reverse": lambda rng: ["reverse", word(rng), "--reason", "mistake", "--idempotency-key", word(rng), "--yes"],
    "history": history,
    "show": lambda rng: ["show", word(rng)],
    "balance": lambda rng: ["balance", word(rng), word(rng)],
    "batches": lambda rng: ["batches", "show", word(rng)],
}


@pytest.mark.parametrize("name", LINES)
def test_any_words_end_in_a_sentence_and_in_what_they_say(cli: Cli, name: str) -> None:
    rng = random.Random(chosen_seed())  # noqa: S311 — a repeatable search
    post(cli.db.connect("support1"), "u1", 1_000_000, key="opening")
    quiet = "".join(f"[rate_limits.{command}]\nlimit = 0\n" for command in ("grant-bonus", "reverse"))
    Path("config.toml").write_text(quiet)
    cli.patch.setenv("TOKENCTL_CONFIG", str(Path("config.toml").resolve()))
    ends = set()
    for _ in range(scaled(25)):
        argv = [*LINES[name](rng), "--json"]
        got = cli(*argv)
        ends.add(got.code)
        assert got.code in {0, 1, 2, 65, 67}, (argv, got)
        assert "Traceback" not in got.err, argv
        if got.code == 0 and name == "grant-bonus":
            said = got.json["data"]
            row = cli.db.rows(
                "SELECT amount::text, reason, coalesce(note, ''), coalesce(ticket, ''), idempotency_key,"
                " coalesce(campaign, '') FROM tokenctl.token_transactions WHERE user_id = %s AND seq = %s",
                said["user_id"], said["seq"],
            )[0]  # fmt: skip
            assert argv[1] == said["user_id"], argv
            assert argv[3] == row[0], argv
            assert argv[5] == row[1], argv
            # The note is no part of what makes two grants the same, so a replay has that of the first.
            assert argv[7] in row[2:] or (argv[6], got.json["meta"]["replayed"]) == ("--note", True), argv
        elif got.code and "--" not in argv:  # after which --json is no option
            problem = json.loads(got.err.splitlines()[-1])
            assert problem["exit_code"] == got.code, (argv, got)
            assert problem["detail"], (argv, got)
    assert ends - {0}
    cli.db.check()


def test_any_words_end_in_a_sentence_without_a_database(offline: CommandLine) -> None:
    rng = random.Random(chosen_seed())  # noqa: S311 — a repeatable search
    for _ in range(scaled(40)):
        argv = [*rng.choice(list(LINES.values()))(rng), word(rng), "--timeout", "0.05"]
        got = offline(*argv)
        assert got.code in {0, 2, 65, 69, 75}, (argv, got)
        assert "Traceback" not in got.err, argv
