"""Secrets where none belong, and addresses where other values belong: the spellings that people get wrong.

What libpq or the configuration takes for a host, a name or a number is shown in errors, so here every
such piece is a canary.
"""

from __future__ import annotations

import pytest

from tests.cli.searched import CANARY, ENCODED, SHOWING, Searched
from tokenctl.errors import ConfigError, HealthUnknown


@pytest.mark.parametrize("url", [
    "postgresql://u:S3CRET/canary@127.0.0.1:1/x",
    "postgresql://u:S3CRET@canary@127.0.0.1:1/x",
    "postgresql://u:12345/S3CRET@127.0.0.1:1/canary",
    "postgresql://u:S3CRET?canary@h@127.0.0.1:1/x",
    "postgresql://u:S3CRET:canary/x@127.0.0.1:1/x",
    "postgresql://u:S3CRET%2/canary@127.0.0.1:1/x",
    f"postgresql://u@127.0.0.1:{CANARY}/x",
    f"postgresql://u:p@127.0.0.1:1,u:{CANARY}@127.0.0.1:2/x",
    f"postgresql://127.0.0.1:1/postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/postgresql%3A%2F%2Fu%3A{CANARY}%40h",
    f"host=127.0.0.1 port=1 dbname=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"host=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"host=127.0.0.1;port=1;password={CANARY};dbname=x",
    f"host=127.0.0.1 port=1 dbname='x pwd={CANARY}'",
    f"host=127.0.0.1 port=1 user='u password = {CANARY}'",
    f"host=127.0.0.1 port={CANARY} dbname=x",
    f"service=postgresql://u:{CANARY}@127.0.0.1:1/x",
    f"postgresql://127.0.0.1:1/x?sslpassword={CANARY}",
    f"postgresql://127.0.0.1:1/x?oauth_client_secret={CANARY}",
    f"postgresql://127.0.0.1:1/x?scram_client_key={CANARY}",
    f"postgresql://127.0.0.1:1/x?scram_server_key={ENCODED}",
    f"host=127.0.0.1 port=1 sslpassword='{CANARY}'",
    f"jdbc:postgresql://127.0.0.1:1/x?user=u&password={CANARY}",
    f"postgresql+psycopg://u:{CANARY}@127.0.0.1:1/x",
    f" postgresql://u:{CANARY}@127.0.0.1:1/x",
])  # fmt: skip
def test_a_password_where_none_belongs(nowhere: Searched, url: str) -> None:
    """One that is not percent-encoded, a URI for a name, and the secrets that are not called password."""
    nowhere.address(url)
    nowhere.every_command(only=SHOWING)


@pytest.mark.parametrize("name", ["PGDATABASE", "PGHOST", "PGUSER", "PGPORT", "PGSERVICE"])
def test_an_address_in_a_variable_of_libpq(nowhere: Searched, name: str) -> None:
    nowhere.cli.patch.delenv("TOKENCTL_DATABASE_URL", raising=False)
    nowhere.cli.patch.setenv("PGHOST", "127.0.0.1")
    nowhere.cli.patch.setenv("PGPORT", "1")
    nowhere.cli.patch.setenv(name, f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    nowhere.every_command(only=SHOWING)


@pytest.mark.parametrize("name", [
    "TOKENCTL_PROFILE", "TOKENCTL_TIMEOUT", "TOKENCTL_FORMAT", "TOKENCTL_REQUEST_ID", "TOKENCTL_CONFIG",
    "TOKENCTL_LOG_FILE", "TOKENCTL_OPERATOR", "TOKENCTL_CACHE_DIR",
])  # fmt: skip
@pytest.mark.parametrize("url", [f"postgresql://u:{CANARY}@127.0.0.1:1/x", f"host=127.0.0.1 password={CANARY}"])
def test_an_address_in_a_variable_of_ours(nowhere: Searched, name: str, url: str) -> None:
    nowhere.cli.patch.setenv("PGHOST", "127.0.0.1")
    nowhere.cli.patch.setenv("PGPORT", "1")
    nowhere.cli.patch.setenv(name, url)
    nowhere.every_command(only=SHOWING, codes=(ConfigError.exit_code, HealthUnknown.exit_code))


@pytest.mark.parametrize("text", [
    f'[profiles.p]\ndatabase = ["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    '[profiles.p]\ndatabase = ["S3CRET", "canary"]\n',
    f'[profiles.p.database]\nurl = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'profile = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[profiles."postgresql://u:{CANARY}@127.0.0.1:1/x"]\nprotected = true\n',
    f'["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    f'"postgresql://u:{CANARY}@127.0.0.1:1/x" = 1\n"postgresql://u:{CANARY}@127.0.0.1:1/x" = 2\n',
    f'["postgresql://u:{CANARY}@h/x"]\na = 1\n["postgresql://u:{CANARY}@h/x"]\nb = 1\n',
    f'timeout = "host=h password={CANARY}"\n',
    f'reasons = ["postgresql://u:{CANARY}@127.0.0.1:1/x"]\n',
    f'[limits]\ngrant = {{ database = "postgresql://u:{CANARY}@h/x" }}\n',
    f'[gemini]\nbase_url = "https://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[log]\nlevel = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
    f'[rate_limits.balance]\nlimit = "postgresql://u:{CANARY}@127.0.0.1:1/x"\n',
])  # fmt: skip
def test_an_address_where_another_value_belongs(nowhere: Searched, text: str) -> None:
    nowhere.config(text)
    nowhere.every_command(only=SHOWING)
