"""A million rows imported, beside psql's copy of the same file into an unlogged table.

    python -m benchmarks.bench_import [--rows N] [--users N] [--rounds N]

Each round imports a file of its own; the ledger grows, so the first round is the
empty ledger and the third has two rounds before it. Between them the ledger comes to
rest: what autovacuum and the checkpointer owe the last round is not charged to the next.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.stand import Ledger, grants, ledger, spread

RAW = "CREATE UNLOGGED TABLE IF NOT EXISTS raw (user_id text, amount bigint, reason text, idempotency_key text)"


def one(at: Ledger, folder: Path, number: int, rows: int, users: int) -> tuple[float, float, float, float]:
    """Seconds of psql's copy, of the import, and of the same file again; the client's peak in MB."""
    file = folder / f"grants-{number}.csv"
    expect = grants(file, rows=rows, users=users, seed=number)
    at.psql("VACUUM ANALYZE", "CHECKPOINT", RAW)
    copies = [at.psql("TRUNCATE raw", f"\\copy raw from '{file}' with (format csv, header)").seconds for _ in range(3)]
    imported = at.tokenctl("batch-import", str(file), "--yes", "-q", *expect)
    again = at.tokenctl("batch-import", str(file), "--yes", "-q", *expect)
    copy = sorted(copies)[1]
    print(
        f"ledger of {(number - 1) * rows:>9,}: copy {spread(copies)}; import {imported.seconds:.2f} s,"
        f" {rows / imported.seconds:,.0f} rows/s, {imported.seconds / copy:.1f} x copy,"
        f" client {imported.peak_mb:.0f} MB;"
        f" same file again {again.seconds:.2f} s"
    )
    return copy, imported.seconds, again.seconds, imported.peak_mb


def main() -> None:
    """Run the rounds and say what is in the ledger afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with ledger() as at, tempfile.TemporaryDirectory() as folder:
        for number in range(1, args.rounds + 1):
            one(at, Path(folder), number, args.rows, args.users)


if __name__ == "__main__":
    main()
