"""Which secrets are found in an address, and that none of them is left in a text."""

from __future__ import annotations

import string
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenctl import address as address_of_database
from tokenctl.telemetry import redaction

#: Characters that one way of quoting or another writes differently.
PASSWORDS = st.text(alphabet=string.ascii_letters + "!#$%&'()*+,./:;<=>?@[\\]^`{|}~\" äé漢\u202e", min_size=6)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    yield
    redaction.forget()


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("postgresql://u:S3CRET@h/x", "S3CRET"),
        ("postgres://u:S3C%52ET@h/x", "S3C%52ET"),
        ("postgresql://:S3CRET@h1:1,h2:2/x?sslmode=disable", "S3CRET"),
        ("postgresql://u:S3C/RE@T@h/x", "S3C/RE@T"),
        ("postgresql://u:S3C@RET@h/x", "S3C@RET"),
        ("postgresql://h/x?password=S3CRET&sslmode=disable", "S3CRET"),
        ("postgresql:///x?sslpassword=S3CRET", "S3CRET"),
        ("host=h password=S3CRET dbname=x", "S3CRET"),
        ("host=h password=S3C&RET dbname=x", "S3C&RET"),
        (r"host=h password = 'it\'s S3CRET' dbname=x", "it's S3CRET"),
        (r"host=h password=it\'s\ S3CRET dbname=x", "it's S3CRET"),
        ("password=S3CRET", "S3CRET"),
        ("host=h oauth_client_secret=S3CRET", "S3CRET"),
        ("host=h scram_client_key=S3CRET", "S3CRET"),
        ("pASSWORD=S3CRET nonsense", "S3CRET"),
        ("host=h pasword=S3CRET", "S3CRET"),
        ("host=h passwd=S3CRET", "S3CRET"),
        ("dbname=postgresql://u:S3CRET@h/x", "S3CRET"),
    ],
)
def test_passwords_are_found_in_every_kind_of_address(address: str, secret: str) -> None:
    assert secret in address_of_database.secrets_of(address)
    redaction.hide_address(address)
    assert secret not in redaction.filtered(address)
    assert redaction.filtered(f"-{secret}-") == "-[hidden]-"


@pytest.mark.parametrize(
    "address", ["postgresql://u@h:1/x", "host=h dbname=x passfile=/p", "service=x", "http://h/x", "", "password="]
)
def test_an_address_without_a_password_stays_as_it_is(address: str) -> None:
    assert address_of_database.secrets_of(address) == set()
    redaction.hide_address(address)
    assert redaction.filtered(address) == address


@given(PASSWORDS)
def test_a_password_is_found_however_it_is_quoted(password: str) -> None:
    encoded = quote(password, safe="")
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    addresses = (
        f"postgresql://u:{encoded}@h/x",
        f"postgresql://h/x?sslmode=disable&password={encoded}",
        f"host=h password='{escaped}' dbname=x",
    )
    for address in addresses:
        redaction.forget()
        redaction.hide_address(address)
        for spelled in (password, encoded, encoded.lower(), repr(password)[1:-1], ascii(password)[1:-1], escaped):
            assert redaction.filtered(f"<{spelled}>") == "<[hidden]>"


def test_what_is_too_short_to_be_told_from_a_word_is_left() -> None:
    for word in ("", "a", "abc", "%41%42"):
        redaction.hide(word)
    assert redaction.filtered("a abc AB ab") == "a abc AB ab"
    redaction.hide("abcd")
    redaction.hide("abcdefgh")
    assert redaction.filtered("abc abcd abcdefgh ABCD") == "abc [hidden] [hidden] [hidden]"
