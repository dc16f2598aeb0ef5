"""What support does all day, on a ledger of 100,000 transactions and again on one of two million.

    python -m benchmarks.bench_support [--rows N] [--users N] [--rounds N]

One user has 10,000 of them. Prints cold times of history, explain and show with the scans of
their plans, which must not grow with the ledger; then verify, seals and exports with their rates,
and whether hledger comes to the same balance for every user and fund.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.stand import Ledger, grants, ledger, spread
from tokenctl.storage.queries import query

BUSY, BUSY_ENTRIES, SMALL = "u_busy", 10_000, 100_000
TOP = 2**63 - 1
COMMANDS = {
    "history": ("history", BUSY),
    "explain": ("explain", BUSY),
    "show": ("show", f"{BUSY}:{BUSY_ENTRIES // 2}"),
}
#: The statement behind each, and what it is asked with.
STATEMENTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "history": ("history", {"account": BUSY, "below": TOP, "until": None, "kind": None, "rows": 51}),
    "explain": ("account_parts", {"account": BUSY, "holds": 20}),
    "show": ("reversal_chain", {"account": BUSY, "seq": BUSY_ENTRIES // 2}),
}
#: Kinds of scans in a plan; where a whole table is read, which one.
SCAN = re.compile(r"(?:-> +|^)((?:Parallel )?(?:Index Only Scan|Index Scan|Bitmap Heap Scan|Seq Scan on \w+))")
BALANCES = """
SELECT 'users:' || user_id, balance FROM tokenctl.token_accounts
UNION ALL SELECT 'funds:' || fund, balance::bigint FROM tokenctl.token_funds
"""


def load(at: Ledger, *, rows: int, users: int, seed: int) -> None:
    """Import random grants."""
    file = at.home / "grants.csv"
    expect = grants(file, rows=rows, users=users, seed=seed)
    taken = at.tokenctl("batch-import", str(file), "--yes", "-q", *expect)
    print(f"imported {rows:,} rows in {taken.seconds:.1f} s, {rows / taken.seconds:,.0f} rows/s")
    file.unlink()


def busy(at: Ledger) -> None:
    """Give one user many entries."""
    file = at.home / "busy.csv"
    lines = [f"{BUSY},{n % 90 + 10},{('goodwill', 'outage', 'contest')[n % 3]},busy-{n}\n" for n in range(BUSY_ENTRIES)]
    file.write_text("user_id,amount,reason,idempotency_key\n" + "".join(lines))
    total = sum(n % 90 + 10 for n in range(BUSY_ENTRIES))
    at.tokenctl("batch-import", str(file), "--yes", "-q", "--expect-total", str(total))


def cold(at: Ledger, rounds: int) -> dict[str, float]:
    """Median seconds of each command as a process of its own, in turn, with the scans of its statement."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            seconds[name].append(at.tokenctl(*words).seconds)
    for name, all_of_it in seconds.items():
        print(f"  {name:8s} cold {spread(all_of_it)}; {scans(at, *STATEMENTS[name])}")
    return {name: statistics.median(all_of_it) for name, all_of_it in seconds.items()}


def scans(at: Ledger, name: str, values: Mapping[str, Any]) -> str:
    """The kinds of scans in the plan of a named query, the pages that it touched and the server's time."""
    explain = b"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) "
    with psycopg.connect(at.conninfo, autocommit=True) as connection:
        plan = [row[0] for row in connection.execute(explain + query(name), values)]
    kinds = Counter(found[1] for line in plan if (found := SCAN.search(line)))
    pages = next((sum(map(int, re.findall(r"(?:hit|read)=(\d+)", line))) for line in plan if "Buffers" in line), 0)
    server = next(line.split(": ")[1] for line in plan if line.startswith("Execution Time"))
    return f"server {server}, {pages:,} pages, " + ", ".join(f"{n} x {kind}" for kind, n in sorted(kinds.items()))


def verified(at: Ledger, rows: int, what: str, *options: str) -> None:
    """Time a verify."""
    taken = at.tokenctl("verify", *options)
    print(f"  verify {what:22s} {taken.seconds:6.2f} s, {rows / taken.seconds:10,.0f} rows/s; {taken.stderr.strip()}")


def exported(at: Ledger, rows: int, form: str) -> Path:
    """Time an export into a file."""
    file = at.home / f"books.{form}"
    taken = at.tokenctl("export", "--format", form, "-o", str(file), "-q")
    rate = f"{rows / taken.seconds:10,.0f} rows/s"
    size = f"{file.stat().st_size / 1e6:,.0f} MB"
    print(f"  export {form:22s} {taken.seconds:6.2f} s, {rate}, {size}, client {taken.peak_mb:.0f} MB")
    return file


def agree(at: Ledger, journal: Path) -> None:
    """Have hledger add up the journal, and compare every balance with the ledger's."""
    program = shutil.which("hledger")
    if program is None:
        print("  hledger is not installed")
        return
    words = [program, "-f", str(journal), "balance", "--flat", "--empty", "--no-total", "--output-format", "csv"]
    environ = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    theirs = {row["account"]: int(row["balance"].split()[0]) for row in csv.DictReader(done.stdout.splitlines())}
    with psycopg.connect(at.conninfo, autocommit=True) as connection:
        ours: dict[str, int] = dict(connection.execute(BALANCES).fetchall())
    print(f"  hledger: {len(theirs):,} balances, {'all equal to ours' if theirs == ours else 'NOT EQUAL to ours'}")
    if theirs != ours:
        sys.exit(1)


def main() -> None:
    """Measure on the small ledger, then on the large one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with ledger() as at:
        busy(at)
        load(at, rows=SMALL - BUSY_ENTRIES, users=args.users, seed=1)
        print(f"ledger of {SMALL:,}:")
        before = cold(at, args.rounds)
        agree(at, exported(at, SMALL, "hledger"))
        load(at, rows=args.rows - SMALL, users=args.users, seed=2)
        print(f"ledger of {args.rows:,}:")
        after = cold(at, args.rounds)
        print("  grown by: " + ", ".join(f"{name} x {after[name] / before[name]:.2f}" for name in COMMANDS))
        verified(at, args.rows, "whole")
        verified(at, args.rows, "--deep", "--deep")
        verified(at, args.rows, "--seal", "--seal")
        with psycopg.connect(at.conninfo, autocommit=True) as connection:
            [(head,)] = connection.execute("SELECT head FROM tokenctl.seals").fetchall()
        verified(at, args.rows, "--since-last", "--since-last")
        verified(at, args.rows, "--head", "--head", head)
        for form in ("hledger", "jsonl", "csv"):
            exported(at, args.rows, form).unlink()
    print(f"load average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
