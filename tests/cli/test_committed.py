"""Every command that changes something says so when its output cannot be written: nothing is told as undone."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from generators.surface import surface
from tests import gemini_server as fake
from tests.cli.generating import KEY, PRICES, configure
from tests.cli.running import Cli
from tests.cli.test_breaker import breaker
from tests.gemini_server import serving
from tests.integration.test_generations import ID, OTHER, opened
from tests.pg import post
from tests.pictures import REAL, png
from tokenctl.output import printer
from tokenctl.storage import local

#: A line that changes something for each command that can, and for each of its ways to say so.
CHANGES = {
    "grant-bonus": ("grant-bonus u1 --amount 5 --reason goodwill --yes",),
    "batch-import": ("batch-import good.csv --yes",),
    "reverse": (
        "reverse u3:1 --reason mistake --yes",
        "reverse --operator support2 --since 2020-01-01 --reason mistake --yes",
    ),
    "generate": ("generate u1 --prompt cat --quality 1K --image a.png --image a.png --image a.png --yes",),
    "holds release": (f"holds release u1 {ID} --reason stuck --yes",),
    "holds reconcile": ("holds reconcile",),
    "verify": ("verify --seal",),
    "breaker reset": ("breaker reset --all", "breaker reset gemini"),
    "cache clear": ("cache clear",),
    "config init": ("config init new.toml",),
    "db start": ("db start",),
    "db stop": ("db stop",),
    "db migrate": ("db migrate",),
    "keys test": ("keys test k1", "keys test k2"),
    "keys disable": ("keys disable k1",),
    "keys enable": ("keys enable k1",),
}
#: These change nothing, or nothing before all of their output is written: psql is a program of its own.
LOOKS = {
    "balance", "explain", "history", "show", "statement", "batches list", "batches show", "holds list", "health",
    "export", "metrics", "breaker list", "cache stats", "doctor", "config show", "config path", "config check",
    "db status", "db url", "db psql", "keys list", "completion", "schema", "help",
}  # fmt: skip


class Full(io.RawIOBase):
    """Takes no byte."""

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture
def full(cli: Cli, home: Path) -> Iterator[Cli]:
    """Where standard output takes nothing: a ledger on which each of the lines has something to do."""
    for user, login in (("u1", "support1"), ("u2", "support1"), ("u3", "support2")):
        post(cli.db.connect(login), user, 100, key="opening")
    opened(cli.db.connect("support1"))
    opened(cli.db.connect("support1"), user="u2", id=OTHER)
    cli.db.rows("UPDATE tokenctl.token_holds SET expires_at = now() - interval '1 s' WHERE user_id = 'u2'")
    (home / "good.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,test,k1\n")
    (home / "a.png").write_bytes(REAL["png"])
    breaker(home / "state" / "tokenctl" / "state.db", "gemini").failed("unavailable")
    keys = home / "keys.toml"
    keys.write_text("".join(f'[[key]]\nid = "{n}"\nproject = "p"\nsecret = "{KEY}{n}"\n' for n in ("k1", "k2")))
    keys.chmod(0o600)
    cli.login("postgres")
    cli.patch.setattr(local, "prepare", lambda *_: None)
    cli.patch.setattr(printer, "_silence", lambda _fd: None)  # pytest itself prints there
    with serving() as gemini:
        gemini.by_key[KEY + "k2"] = fake.rejected()
        gemini.script.append(fake.image(png(1024, 1024)))
        configure(home, f'gemini = {{ keys_file = "{keys}", base_url = "{gemini.url}" }}\n{PRICES}')
        yield cli


@pytest.mark.parametrize("line", [line for lines in CHANGES.values() for line in lines])
def test_what_was_changed_is_told_when_the_output_cannot_be_written(full: Cli, line: str) -> None:
    if line in ("db start", "db stop"):
        full.patch.delenv("TOKENCTL_DATABASE_URL")
    if line == "db migrate":
        full.db.rows("UPDATE tokenctl.schema_functions SET checksum = 'older'")
    with full.patch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8"))
        got = full(*line.split())
    assert got.code == 74, got
    assert "tokenctl: committed: " in got.err
    assert "do not run it again" in got.err
    assert "nothing was changed" not in got.err


def test_of_every_command_it_is_known_whether_it_changes_something() -> None:
    """A new one belongs into one of the two lists above, and gets its line when it changes something."""
    assert {one.name for one in surface().all() if not one.commands} == CHANGES.keys() | LOOKS
    assert not CHANGES.keys() & LOOKS
