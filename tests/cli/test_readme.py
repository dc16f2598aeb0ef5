"""Every block of the README is run, or read, as it stands; `make test`, which runs this, aside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.cli.running import Cli, environment, terminal
from tests.gemini_server import image, serving
from tests.pg import LedgerDB, post
from tests.pictures import png
from tokenctl.__main__ import main
from tokenctl.cli.app import assemble
from tokenctl.storage import migrations

ROOT = Path(__file__).parents[2]
BLOCKS: list[str] = re.findall(r"^```(?:\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
#: What stands for something that only the reader has.
TEST_DATABASE = '"postgresql://ops@db.example.org/tokens?sslrootcert=system"'


def _block(beginning: str) -> str:
    (found,) = (block for block in BLOCKS if block.startswith(beginning))
    return found


def _shell(script: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a block in bash, as typed at the top of the checkout, with the tests' own tokenctl in PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    clean = {"PATH": path, "HOME": str(home), **environ}
    return subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_block_is_known_here() -> None:
    assert [block.splitlines()[0] for block in BLOCKS] == [
        "$ tokenctl grant-bonus u_30873 --amount 50 --reason goodwill --ticket 48711",
        "make demo",
        ". .demo/env",
        "make test",
        "user_id,amount,reason,idempotency_key,note,ticket",
        "[prices]",
        "export GEMINI_API_KEY=the-key-that-google-gave-you",
        "export TOKENCTL_DATABASE_URL=" + TEST_DATABASE,
        "5 6 * * *  tokenctl batch-import /srv/in/daily.csv --yes -q",
        "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions",
    ]


def test_the_session_looks_as_printed(cli: Cli) -> None:
    cli.login("batch1")
    examples = str(ROOT / "examples" / "november-bonuses.csv")
    assert cli("batch-import", examples, "--expect-total", "497150", "--yes", "-q").code == 0
    cli.login("support1")
    columns = 100 - len("tokenctl_local") + len("support1")  # the same room for what stands beside a name
    plain, seen = environment(TERM="xterm", TOKENCTL_PAGER="cat"), ""
    for line in _block("$ tokenctl grant-bonus").splitlines():
        if line.startswith("$ tokenctl "):
            with terminal(*line.split()[2:], columns=columns, env=plain) as opened:
                if "grant-bonus" in line:
                    opened.wait_for("[y/N]: ")
                    opened.type("y\n")
                got = opened.end()
            assert got.code == 0, got.text
            seen += line + "\n" + got.text
    assert _gist(seen) == _gist(_block("$ tokenctl grant-bonus"))


def _gist(text: str) -> list[str]:
    """The words of a session, without who ran it, when, and how wide a table was for that."""
    text = re.sub(r"\x1b\[[0-9;]*m|─{2,}", "", text)
    text = re.sub(r"^▸ .* · operator .*$", "▸ banner", text, flags=re.MULTILINE)
    text = re.sub(r"tokenctl_local|support1|batch1", "OPERATOR", text)
    text = re.sub(r"\(\S+@\S+\)", "(PERSON)", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME", text)
    text = re.sub(r"grant:\d{8}:[0-9a-f]{20}|--cursor \S+", "KEY", text)
    return re.sub(r"\b\d+ (s|min)\b", "AGE", text).split()


def test_the_demo_and_what_follows_it(home: Path) -> None:
    first = _shell(_block("make demo"), home)
    assert first.returncode == 0, first.stderr
    assert "u_30873" in first.stdout
    by_hand = _shell(_block(". .demo/env") + "tokenctl db stop -q\n", home)
    assert by_hand.returncode == 0, by_hand.stderr
    assert by_hand.stdout.startswith("u_30873\t")


def test_completion_is_put_where_shells_look(home: Path) -> None:
    done = _shell(_block("mkdir -p"), home)
    assert (done.returncode, done.stderr) == (0, "")
    places = {
        ".local/share/bash-completion/completions/tokenctl": "tokenctl.bash",
        ".zfunc/_tokenctl": "_tokenctl",
        ".config/fish/completions/tokenctl.fish": "tokenctl.fish",
    }
    for place, file in places.items():
        assert (home / place).read_text() == (ROOT / "completions" / file).read_text()


def test_the_grant_file_can_be_imported(ledger_db: LedgerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "readme.csv"
    file.write_text(_block("user_id,amount"))
    monkeypatch.setenv("TOKENCTL_DATABASE_URL", ledger_db.conninfo("batch1"))
    assert main(["batch-import", str(file), "--yes", "-q"]) == 0
    assert ledger_db.rows("SELECT user_id, amount, ticket FROM tokenctl.token_transactions") == [
        ("u_30873", 50, "48711")
    ]


def test_the_cron_line_imports_in_silence_however_often(ledger_db: LedgerDB, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "daily.csv"
    file.write_text(_block("user_id,amount"))
    line = _block("5 6 * * *").removeprefix("5 6 * * *").replace("/srv/in/daily.csv", str(file))
    for _ in range(2):
        done = _shell(line, home, TOKENCTL_DATABASE_URL=ledger_db.conninfo("batch1"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ledger_db.rows("SELECT count(*) FROM tokenctl.token_transactions") == [(1,)]


def test_a_database_of_ones_own(ledger_db: LedgerDB, home: Path) -> None:
    ledger_db.rows("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    script = _block("export TOKENCTL_DATABASE_URL").replace(TEST_DATABASE, f"'{ledger_db.conninfo('postgres')}'")
    done = _shell(script, home)
    assert done.returncode == 0, done.stderr
    assert ledger_db.rows("SELECT max(version) FROM tokenctl.schema_migrations") == [
        (len(migrations.migration_files()),)
    ]


def test_an_image_is_made_by_a_server_of_ones_own(ledger_db: LedgerDB, home: Path, tmp_path: Path) -> None:
    post(ledger_db.connect("support1"), "u_30873", 100)
    config = home / ".config" / "tokenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(_block("[prices]"))
    with serving(image(png(1024, 1024))) as server:
        script = _block("export GEMINI_API_KEY").replace("https://gemini.example.org", server.url)
        script = script.replace("images/", str(tmp_path))
        done = _shell(script, home, TOKENCTL_DATABASE_URL=ledger_db.conninfo("support1"))
        assert done.returncode == 0, done.stderr
        assert server.keys == ["the-key-that-google-gave-you"]
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert ledger_db.rows("SELECT amount, idempotency_key FROM tokenctl.token_holds") == [(40, "order-48711")]
    assert ledger_db.rows("SELECT balance FROM tokenctl.token_accounts") == [(60,)]


def test_every_command_in_the_table_exists() -> None:
    text = (ROOT / "README.md").read_text()
    words = {re.split("[ `]", line)[3] for line in text.splitlines() if line.startswith("| `tokenctl ")}
    assert words == set(typer.main.get_command(assemble()).commands)  # type: ignore[attr-defined]  # it is a group
    for word in words:
        assert main([word, "--help"]) == 0
