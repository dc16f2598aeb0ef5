"""`tokenctl generate` as the tests run it: on a ledger with a user who has tokens, and Gemini on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Cli, Ran
from tests.gemini_server import GeminiServer
from tests.pg import LedgerDB, post
from tests.pictures import REAL
from tokenctl.clients import generator

#: Secrets that may come out nowhere; each is one word that nothing else says.
KEY = "AIzaSy-canaryofthekey-k0a1"
PROMPT = "a picture of the canaryoftheprompt at sea"
PRICES = '[prices]\nversion = "2026-11"\n1K = 40\n2K = 60\n4K = 120\n'
#: What u1 has.
TOKENS = 500


@dataclass
class Studio:
    """Whatever a run of `generate` needs; `out` is where its images go."""

    cli: Cli
    server: GeminiServer
    home: Path
    out: Path

    def words(self, *more: str, quality: str = "1K", prompt: str = PROMPT, key: str | None = "k1") -> list[str]:
        """The command line of a good run."""
        images = [word for name in ("a.png", "b.jpg", "c.webp") for word in ("--image", str(self.home / name))]
        keyed = [] if key is None else ["--idempotency-key", key]
        said = ["generate", "u1", "--prompt", prompt, "--quality", quality, "--out", str(self.out), "--yes"]
        return [*said, *images, *keyed, *more]

    def __call__(self, *more: str, quality: str = "1K", prompt: str = PROMPT, key: str | None = "k1") -> Ran:
        return self.cli(*self.words(*more, quality=quality, prompt=prompt, key=key))

    @property
    def db(self) -> LedgerDB:
        return self.cli.db

    def charges(self) -> list[int]:
        """What u1 paid for images, in the order of the payments."""
        rows = self.db.rows("SELECT amount FROM tokenctl.token_transactions WHERE kind = 'generation' ORDER BY seq")
        return [-int(row[0]) for row in rows]

    def holds(self) -> list[str]:
        """The states of all holds."""
        return [str(row[0]) for row in self.db.rows("SELECT state FROM tokenctl.token_holds ORDER BY created_at")]

    def files(self) -> list[str]:
        """What is in the folder of the images, hidden files too."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.exists() else []

    def nothing_happened(self) -> None:
        """Not paid, not held, no image; and the ledger keeps its rules."""
        assert (self.charges(), self.files()) == ([], [])
        assert "open" not in self.holds()
        assert self.cli.balance() == TOKENS
        self.db.check()


def prepared(cli: Cli, server: GeminiServer, home: Path) -> Studio:
    """A studio on this ledger and this Gemini."""
    post(cli.db.connect("support1"), "u1", TOKENS, key="opening")
    for name, kind in {"a.png": "png", "b.jpg": "jpeg", "c.webp": "webp lossy"}.items():
        (home / name).write_bytes(REAL[kind])
    configure(home, PRICES)
    cli.patch.delenv("GEMINI_API_KEYS_FILE", raising=False)
    cli.patch.setenv("GEMINI_API_KEY", KEY)
    cli.patch.setenv("TOKENCTL_GEMINI_BASE_URL", server.url)
    return Studio(cli, server, home, home / "images")


def configure(home: Path, text: str) -> None:
    """Make this the configuration."""
    file = home / "config" / "tokenctl" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def impatient(patch: pytest.MonkeyPatch, call_s: float = 60.0) -> None:
    """No pauses between calls, and not longer than `call_s` seconds for one."""
    patch.setattr(generator, "_BASE_S", 0.0)
    for quality in generator.CALL_S:
        patch.setitem(generator.CALL_S, quality, call_s)


def keys(home: Path, *projects: str) -> list[str]:
    """A file of keys, one for each of these projects; their secrets."""
    secrets = [f"{KEY}{number}" for number in range(len(projects))]
    tables = [
        f'[[key]]\nid = "key{number}"\nproject = "{project}"\nsecret = "{secrets[number]}"\n'
        for number, project in enumerate(projects)
    ]
    file = home / "keys.toml"
    file.write_text("\n".join(tables))
    file.chmod(0o600)
    return secrets


def problem(ran: Ran) -> dict[str, Any]:
    """The error of a run with --json."""
    found: dict[str, Any] = ran.problem
    return found
