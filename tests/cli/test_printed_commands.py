"""Whatever is printed to be run goes to the ledger that its run was on, wherever it is pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, Ran
from tests.integration.test_generations import ID, capture, claim, opened
from tests.pg import post
from tokenctl.errors import OutcomeUnknown
from tokenctl.models import Grant
from tokenctl.storage.ledger import Ledger

COMMAND = re.compile(r'tokenctl [a-z][^"\n\t]*')
#: Neither "mistake" nor "lost" is one, which an undo gives where nothing is listed.
REASONS = ["goodwill", "misuse", "outage", "wrong"]


class Elsewhere:
    """A ledger that is no default: a command that does not name it goes where nobody answers.

    Each run is told of it by an option, or by a variable of this one run.
    """

    def __init__(self, cli: Cli, home: Path, by: str) -> None:
        self.cli = cli
        url = cli.db.conninfo("admin1")
        default, reasons = f'[profiles.default]\ndatabase = "{NOWHERE}"\n', f"reasons = {REASONS}\n"
        if by == "--profile":
            cli.patch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
        else:
            cli.patch.delenv("TOKENCTL_DATABASE_URL")
        if "PROFILE" in by.upper():
            self.told, name = "--profile other", "other"
            other = f'[profiles.other]\ndatabase = "{url}"\n'
            _write(home / "config" / "tokenctl" / "config.toml", reasons + default + other)
        else:
            self.told, name = f"--config {home / 'other.toml'}", "other.toml"
            _write(home / "config" / "tokenctl" / "config.toml", default)
            _write(home / "other.toml", f'{reasons}[profiles.default]\ndatabase = "{url}"\n')
        self.flags = (by, name) if by.startswith("-") else ()
        self.variables = {} if by.startswith("-") else {by: name}

    def __call__(self, *argv: str) -> Ran:
        with self.cli.patch.context() as patch:
            for variable, value in self.variables.items():
                patch.setenv(variable, value)
            return self.cli(*argv, *self.flags)

    def grant(self, *more: str) -> Ran:
        asked = ("--amount", "50", "--reason", "goodwill", "--ticket", "T1", "--new-user", "--yes")
        return self("grant-bonus", "u1", *asked, *more)

    def imported(self, *more: str) -> Ran:
        rows = "user_id,amount,reason,idempotency_key\nu1,5,outage,k1\nu2,6,outage,k2\n"
        Path("grants.csv").write_text(rows)
        return self("batch-import", "grants.csv", "--yes", *more)

    def batch(self) -> str:
        return str(self.imported("--json").json["data"]["batch_id"])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture(params=["--profile", "--config", "TOKENCTL_PROFILE", "TOKENCTL_CONFIG"])
def elsewhere(cli: Cli, home: Path, request: pytest.FixtureRequest) -> Elsewhere:
    return Elsewhere(cli, home, request.param)


def _receipt(at: Elsewhere) -> Ran:
    return at.grant()


def _json(at: Elsewhere) -> Ran:
    return at.grant("--json")


def _replay(at: Elsewhere) -> Ran:
    at.grant()
    return at.grant()


def _unknown(at: Elsewhere) -> Ran:
    def lost(*_: object) -> None:
        raise OutcomeUnknown("nobody knows")

    at.cli.patch.setattr(Ledger, "grant", lost)
    return at.grant()


def _interrupted(at: Elsewhere) -> Ran:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    at.cli.patch.setattr(Ledger, "grant", stopped)
    return at.grant()


def _reversal(at: Elsewhere) -> Ran:
    at.grant()
    return at("reverse", "u1:1", "--reason", "wrong", "--yes")


def _reversal_interrupted(at: Elsewhere) -> Ran:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    at.grant()
    at.cli.patch.setattr(Ledger, "reverse", stopped)
    return at("reverse", "u1:1", "--reason", "wrong", "--yes")


def _reversed_before(at: Elsewhere) -> Ran:
    _reversal(at)
    return at("reverse", "u1:1", "--reason", "wrong", "--idempotency-key", "k9", "--yes")


def _entry(at: Elsewhere) -> Ran:
    at.grant()
    return at("show", "u1:1")


def _no_entry(at: Elsewhere) -> Ran:
    at.grant()
    return at("show", "u1:9")


def _import(at: Elsewhere) -> Ran:
    return at.imported()


def _import_again(at: Elsewhere) -> Ran:
    at.imported()
    return at.imported("--json")


def _batch(at: Elsewhere) -> Ran:
    return at("batches", "show", at.batch())


def _batch_reversal(at: Elsewhere) -> Ran:
    return at("reverse", "--batch", at.batch(), "--reason", "wrong", "--yes")


def _batch_given_back(at: Elsewhere) -> Ran:
    batch = at.batch()
    done = at("reverse", "--batch", batch, "--reason", "wrong", "--yes", "--json").json["data"]["batch_id"]
    at("reverse", "--batch", str(done), "--reason", "wrong", "--yes")
    return at("reverse", "--batch", batch, "--reason", "wrong", "--yes")


def _batch_reversed(at: Elsewhere) -> Ran:
    batch = at.batch()
    at("reverse", "--batch", batch, "--reason", "wrong", "--yes")
    return at("batches", "show", batch)


def _file_reversed(at: Elsewhere) -> Ran:
    at("reverse", "--batch", at.batch(), "--reason", "wrong", "--yes")
    return at.imported()


def _no_batch(at: Elsewhere) -> Ran:
    return at("reverse", "--batch", "0123456789ab", "--reason", "wrong", "--yes")


def _history(at: Elsewhere) -> Ran:
    at.imported()
    at.grant()
    return at("history", "u1", "--limit", "1")


def _paid_hold(at: Elsewhere) -> Ran:
    support = at.cli.db.connect("support1")
    post(support, "u1", 100, key="opening")
    opened(support)
    claim(support)
    capture(support)
    return at("holds", "release", "u1", ID, "--reason", "wrong", "--yes")


def _no_hold(at: Elsewhere) -> Ran:
    return at("holds", "release", "u1", ID, "--reason", "wrong", "--yes")


def _no_generation(at: Elsewhere) -> Ran:
    return at("generate", "u1", "--resume", ID)


def _lost_image(at: Elsewhere) -> Ran:
    _paid_hold(at)
    return at("generate", "u1", "--resume", ID)


def _no_operator(at: Elsewhere) -> Ran:
    return at("reverse", "--operator", "nobody", "--since", "2026-01-01", "--reason", "misuse", "--yes")


PLACES: list[Callable[[Elsewhere], Ran]] = [
    _receipt, _json, _replay, _unknown, _interrupted, _reversal, _reversal_interrupted, _reversed_before, _entry,
    _no_entry, _import, _import_again, _batch, _batch_reversal, _batch_given_back, _batch_reversed, _file_reversed,
    _no_batch, _history, _paid_hold, _no_hold, _no_generation, _lost_image, _no_operator,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__.strip("_"))
def test_the_command_names_the_ledger(elsewhere: Elsewhere, place: Callable[[Elsewhere], Ran]) -> None:
    got = place(elsewhere)
    commands = COMMAND.findall(got.text + got.err)
    assert commands, got
    assert [one for one in commands if elsewhere.told not in one] == []
    assert set(re.findall(r"--reason (\S+)", " ".join(commands))) <= set(REASONS)


def test_an_undo_that_is_pasted_elsewhere_undoes_that(elsewhere: Elsewhere, tmp_path: Path) -> None:
    undo = shlex.split(elsewhere.grant("--json").json["data"]["undo"])
    elsewhere.cli.patch.chdir(tmp_path)
    assert elsewhere.cli(*undo[1:], "--yes").code == 0
    assert elsewhere.cli.balance() == 0


def test_what_settles_a_grant_above_the_limit_runs_where_nobody_can_type(elsewhere: Elsewhere) -> None:
    committed = Ledger.grant

    def lost(ledger: Ledger, grant: Grant) -> None:
        committed(ledger, grant)
        raise OutcomeUnknown("nobody knows")

    asked = ("--amount", "5001", "--reason", "goodwill", "--new-user", "--confirm-amount", "5001")
    with elsewhere.cli.patch.context() as patch:
        patch.setattr(Ledger, "grant", lost)
        unknown = elsewhere("grant-bonus", "u1", *asked)
    assert unknown.code == 75
    (again,) = COMMAND.findall(unknown.err)
    settled = elsewhere.cli(*shlex.split(again)[1:])
    assert (settled.code, elsewhere.cli.balance()) == (0, 5001), settled


def test_a_profile_that_an_address_beats_is_not_named(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_PROFILE", "other")
    assert cli.grant("u1", 5, "--json").json["data"]["undo"] == "tokenctl reverse u1:1 --reason mistake"


def test_what_the_usual_configuration_says_is_not_repeated(cli: Cli, home: Path) -> None:
    cli.patch.delenv("TOKENCTL_DATABASE_URL")
    url = cli.db.conninfo("admin1")
    _write(home / "config" / "tokenctl" / "config.toml", f'profile = "other"\n[profiles.other]\ndatabase = "{url}"\n')
    assert cli.grant("u1", 5, "--json").json["data"]["undo"] == "tokenctl reverse u1:1 --reason mistake"


def test_the_example_of_a_configuration_is_not_asked_of_the_wrong_one(cli: Cli, home: Path) -> None:
    _write(home / "wrong.toml", "limits = 1\n")
    (command,) = COMMAND.findall(cli("config", "check", "--config", "wrong.toml").err)
    assert cli(*shlex.split(command.removesuffix(" shows every key"))[1:]).code == 0
