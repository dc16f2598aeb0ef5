"""Where the SQL is: named queries, functions and migrations, as files.

They lie in `sql/` inside an installed package and beside it in a checkout.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def sql_root() -> Path:
    """The directory that holds bootstrap.sql, migrations/, functions/ and queries/."""
    inside = _PACKAGE / "sql"
    return inside if inside.is_dir() else _PACKAGE.parent / "sql"


def query(name: str) -> bytes:
    """The text of sql/queries/<name>.sql; bytes, because psycopg takes those without a cast."""
    return (sql_root() / "queries" / f"{name}.sql").read_bytes()
