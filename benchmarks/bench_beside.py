"""Two imports at once over the same users, and eight processes that grant beside them.

    python -m benchmarks.bench_beside [--rows N] [--users N]

Prints how long single grants took before and during the imports, and checks that
balances, sums and sequence numbers agree afterwards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

import psycopg

from benchmarks.stand import HERE, Ledger, grants, ledger

GRANT = "SELECT (tokenctl.post_v1(%s, 'bonus', 1, 'bench', NULL, NULL, NULL, %s, 'bench', 'bench', true)).outcome"
BROKEN = """
SELECT count(*) FROM tokenctl.token_accounts a LEFT JOIN (
  SELECT user_id, sum(amount) AS total, count(*) AS n, max(seq) AS last FROM tokenctl.token_transactions GROUP BY 1) t
USING (user_id) WHERE a.balance <> coalesce(t.total, 0) OR a.last_seq <> coalesce(t.n, 0) OR t.last <> t.n
"""
PROCESSES = 8


def grant(conninfo: str, name: int, users: int, stop: Event, answers: multiprocessing.Queue[list[float]]) -> None:
    """Grant one token to one user after the other, and answer the milliseconds of each."""
    took: list[float] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not stop.is_set():
            user = f"u_{(len(took) * 7919 + name * 104729) % users:07d}"
            started = time.perf_counter()
            row = connection.execute(GRANT, (user, f"bench-{name}-{len(took)}")).fetchone()
            took.append((time.perf_counter() - started) * 1000)
            if row is None or row[0] != "applied":
                raise RuntimeError(f"the ledger answered {row}")
            stop.wait(0.01)  # a person or a request now and then, not a load of its own
    answers.put(took)


def beside(at: Ledger, users: int, files: Sequence[tuple[Path, list[str]]]) -> tuple[list[float], float]:
    """Milliseconds of the grants while the files are imported all at once, and how long that took."""
    stop = multiprocessing.Event()
    answers: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    granters = [
        multiprocessing.Process(target=grant, args=(at.conninfo, n + 10 * len(files), users, stop, answers))
        for n in range(PROCESSES)
    ]
    for granter in granters:
        granter.start()
    started = time.perf_counter()
    words = [sys.executable, "-m", "tokenctl", "batch-import", "--yes", "-q"]
    imports = [
        subprocess.Popen([*words, str(file), *expect], env=at.environ, cwd=HERE.parent) for file, expect in files
    ]
    codes = [child.wait() for child in imports]
    if not files:
        stop.wait(5)
    seconds = time.perf_counter() - started
    stop.set()
    took = [each for _ in granters for each in answers.get()]
    for granter in granters:
        granter.join()
    if any(codes):
        raise RuntimeError(f"the imports ended with {codes}")
    return took, seconds


def main() -> None:
    """Measure before and during, then check the books."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    args = parser.parse_args()
    with ledger() as at, tempfile.TemporaryDirectory() as folder:
        files = [
            (Path(folder) / f"{n}.csv", grants(Path(folder) / f"{n}.csv", rows=args.rows, users=args.users, seed=n))
            for n in (1, 2)
        ]
        for what, given in (("alone", []), ("beside two imports", files)):
            took, seconds = beside(at, args.users, given)
            p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
            times = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {max(took):.0f} ms"
            print(f"{what}: {len(took):,} grants in {seconds:.1f} s, {times}")
        with psycopg.connect(at.conninfo) as connection:
            print("accounts that disagree with their entries:", connection.execute(BROKEN).fetchone())


if __name__ == "__main__":
    main()
