"""sql/schema.sql, made from the migrations by the embedded PostgreSQL's pg_dump.

    python -m tests.schema_dump > sql/schema.sql     (make schema)

The partitions are left out: they are alike, and how many there are is decided when a
database is made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from tokenctl.storage import migrations
from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer, binaries

HEADER = "-- Made by `make schema` from sql/migrations and sql/functions; read it, do not edit it.\n\n"


def dump(conninfo: str) -> str:
    """The schemas of the database at `conninfo`, without partitions."""
    program = binaries.programs_dir(None) / "pg_dump"
    words = [
        str(program), "--schema-only", "--schema=tokenctl", "--schema=tokenctl_staging", "--restrict-key=tokenctl",
        "--exclude-table=tokenctl.*_(0|1|2|3)", "--dbname", conninfo,
    ]  # fmt: skip
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    kept = [line for line in text.splitlines() if not line.startswith("-- Dumped ")]
    return HEADER + "\n".join(kept).strip() + "\n"


def main() -> None:
    """Migrate a new database and print its schema."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(EmbeddedPaths(Path(folder) / "postgres"))
        server.ensure_running(deadline_s=60)
        try:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                migrations.migrate(connection, partitions=4)
            sys.stdout.write(dump(server.conninfo()))
        finally:
            server.stop("immediate", deadline_s=60)


if __name__ == "__main__":
    main()
