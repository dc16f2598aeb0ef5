"""What of a database's address is secret, what tells it from others, and which mistakes would show a piece of it."""

from __future__ import annotations

import pytest
from psycopg import pq

from tokenctl import address


def test_every_parameter_that_libpq_hides_is_secret() -> None:
    """A new libpq may bring a new one."""
    hidden = {o.keyword.decode() for o in pq.Conninfo.get_defaults() if o.dispchar == b"*"}
    assert {"password", "sslpassword"} <= hidden
    assert [name for name in hidden if not address.is_secret(name)] == []
    assert address.is_secret("scram_client_key")
    assert not any(map(address.is_secret, ("passfile", "user", "sslkey", "dbname", "require_auth")))


@pytest.mark.parametrize("shape", [
    "postgresql://u:{}@h:1/x",
    "postgresql://u:{}@h1:1,h2:2/x?sslmode=require",
    "postgres://h/x?password={}&user=u",
    "postgres://h/x?user=u&sslpassword={}",
    "host=h password={} dbname=x",
    "host=h password = '{} it\\'s' dbname=x",
    "dbname=postgresql://u:{}@h/x",
])  # fmt: skip
def test_the_password_does_not_tell_one_address_from_another(shape: str) -> None:
    one, other = (address.without_secrets(shape.format(secret)) for secret in ("S3CRET", "canary"))
    assert one == other
    assert "u" in one or "h" in one
    assert address.without_secrets(shape.format("S3CRET").replace("h", "g")) != one


@pytest.mark.parametrize("conninfo", ["postgresql://u:S3CRET/x@h/y", "postgresql://u:S3C@RET@h:1/x"])
def test_of_an_address_whose_password_has_no_end_nothing_is_kept(conninfo: str) -> None:
    assert address.without_secrets(conninfo) == ""


@pytest.mark.parametrize("conninfo", [
    "postgresql://u:p@h:1/x",
    "postgresql://u:p%2F%40@h1:1,h2/x?target_session_attrs=primary",
    "postgresql://u:a?b:c@h/x",
    "postgresql:///x?host=/run/postgresql&user=me@realm",
    "postgresql://%2Frun%2Fpostgresql/x",
    "postgresql://[::1]:5432/x",
    "host=@abstract,/run dbname=x",
    "postgresql://h/x?oauth_issuer=https://issuer.example/a&options=-c%20password_encryption%3Dmd5",
    "service=ledger",
    "",
])  # fmt: skip
def test_what_is_well_formed_is_no_mistake(conninfo: str) -> None:
    assert address.mistake(conninfo, _parts(conninfo)) is None


@pytest.mark.parametrize(("conninfo", "why"), [
    ("postgresql://u:a/b@h/x", "%2F"),
    ("postgresql://u:a@b@h/x", "%40"),
    ("postgresql://u:a?b@c@h/x", "%40"),
    ("postgresql://u@h:S3CRET/x", "%3A"),
    ("postgresql://h/x@y", "%40"),
    ("dbname=postgresql://u:p@h/x", "where the dbname belongs"),
    ("postgresql://h/postgresql%3A%2F%2Fu:p%40h", "where the dbname belongs"),
    ("service=postgres://h/x", "where the service belongs"),
    ("host=h;pwd=S3CRET", "where the host belongs"),
    ("user='u password = x'", "where the user belongs"),
])  # fmt: skip
def test_a_mistake_is_told_with_its_remedy_and_not_with_the_address(conninfo: str, why: str) -> None:
    told = address.mistake(conninfo, _parts(conninfo))
    assert told is not None
    assert why in told
    assert "S3CRET" not in told


@pytest.mark.parametrize(("conninfo", "shown"), [
    ("postgresql://u:S3CRET@h/x", "postgresql://u@h/x"),
    ("host=h password='S3 CRET' dbname = x", "host=h  dbname = x"),
    ("service=tokens", "service=tokens"),
    ("host='a b' user=u", "host='a b' user=u"),
    ("nonsense S3CRET", ""),
    ("password=half S3CRET", ""),
    ("mysql://u:S3CRET@h/x", ""),
])  # fmt: skip
def test_people_see_an_address_only_when_it_is_one(conninfo: str, shown: str) -> None:
    assert address.for_people(conninfo) == shown


def test_a_value_is_told_unless_it_may_hold_a_secret() -> None:
    assert [address.told(value) for value in ("5s", -1, ["Good Will!"])] == ["'5s'", "-1", "['Good Will!']"]
    for value in ("postgresql://u:p@h", ["a=b"], "u@h", {"password": "x"}, "S3C/RET", "x" * 99):
        assert address.told(value) == "what stands there"


def _parts(conninfo: str) -> dict[str, str]:
    return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.parse(conninfo.encode()) if o.val}


@pytest.mark.parametrize("host", ["", "/run/postgresql", "@abstract", "localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine(host: str) -> None:
    assert address.is_local(host)


@pytest.mark.parametrize("host", ["db.internal", "10.0.0.1", "::2", "localhost.example", "128.0.0.1"])
def test_another_machine(host: str) -> None:
    assert not address.is_local(host)


@pytest.mark.parametrize(
    ("parts", "mode"),
    [
        ({}, None),
        ({"host": "/run/postgresql", "sslmode": "disable"}, None),
        ({"host": "db.internal"}, "prefer"),
        ({"host": "db.internal", "sslmode": "require"}, "require"),
        ({"host": "db.internal", "sslmode": "verify-full"}, None),
        ({"host": "db.internal", "sslrootcert": "system"}, None),
        ({"host": "db.internal", "hostaddr": "127.0.0.1"}, None),
        ({"host": "localhost", "hostaddr": "10.0.0.1"}, "prefer"),
        ({"host": "localhost,db.internal", "sslmode": "verify-ca"}, "verify-ca"),
        ({"host": "localhost,db.internal", "hostaddr": "127.0.0.1,"}, "prefer"),
    ],
)
def test_the_mode_by_which_another_host_is_believed(parts: dict[str, str], mode: str | None) -> None:
    assert address.believing(parts) == mode
