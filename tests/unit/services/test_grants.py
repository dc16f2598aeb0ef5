"""The command that grants the same once more: printed when an outcome is unknown, so it must be exact."""

from __future__ import annotations

import shlex

import pytest

from tokenctl.errors import LimitNotConfirmed, UsageError
from tokenctl.models import Grant
from tokenctl.services import grants
from tokenctl.settings import Flags, Settings, load


@pytest.fixture
def settings(tmp_path: object) -> Settings:
    return load({"XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}, Flags())


def test_the_command_has_everything_and_the_key() -> None:
    grant = Grant("u1", 500, "goodwill", "it's $HOME; `x`", "T#1", None, "grant:1", new_user=True)
    assert shlex.split(grants.command(grant, limit=500)) == [
        "tokenctl", "grant-bonus", "u1", "--amount", "500", "--reason", "goodwill", "--note", "it's $HOME; `x`",
        "--ticket", "T#1", "--idempotency-key", "grant:1", "--new-user", "--yes",
    ]  # fmt: skip


def test_a_campaign_is_the_key_and_none_is_added() -> None:
    words = shlex.split(grants.command(Grant("u1", 5, "x", campaign="spring", key="bonus:spring"), limit=5))
    assert "--idempotency-key" not in words
    assert words[-3:] == ["--campaign", "spring", "--yes"]


def test_an_amount_above_the_limit_is_confirmed() -> None:
    words = shlex.split(grants.command(Grant("u1", 501, "x", key="k1"), limit=500))
    assert words[-4:] == ["--idempotency-key", "k1", "--confirm-amount", "501"]


@pytest.mark.parametrize(
    ("amount", "confirmed", "typed"), [(5000, None, False), (5001, None, True), (5001, 5001, False)]
)
def test_when_the_amount_must_be_typed(settings: Settings, amount: int, confirmed: int | None, typed: bool) -> None:
    assert grants.check(Grant("u", amount, "x"), settings, confirm_amount=confirmed) is typed


def test_what_is_refused_without_the_database(settings: Settings) -> None:
    with pytest.raises(LimitNotConfirmed, match="5000 is not --amount 500;"):
        grants.check(Grant("u", 500, "x"), settings, confirm_amount=5000)
    with pytest.raises(UsageError, match="one claim per user"):
        grants.check(Grant("u", 500, "x", campaign="c", key="k"), settings, confirm_amount=None)
