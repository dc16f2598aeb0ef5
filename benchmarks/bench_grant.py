"""Single grants, beside one bare guarded statement that keeps a key and a balance and nothing else.

    python -m benchmarks.bench_grant [--seconds N] [--rounds N]

pgbench calls both in turn, with one writer, with eight on many accounts, and with eight on
one account. An answer that is not `applied`, or any error, ends the run: nothing is tried again.
At the end comes what a command waits for: the first call in a fresh connection.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.stand import Ledger, grants, ledger
from tokenctl.storage.embedded import binaries

# Twenty entries a user: by chance no user is without an account.
ROWS, USERS = 100_000, 5_000

#: The entries and accounts of the ledger, with the two constraints that such a statement needs.
BARE = """
CREATE TABLE bare_accounts (user_id text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))
  WITH (fillfactor = 50);
CREATE TABLE bare_entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL,
  amount bigint NOT NULL, idempotency_key text NOT NULL UNIQUE);
INSERT INTO bare_accounts SELECT user_id, balance FROM tokenctl.token_accounts;
INSERT INTO bare_entries (user_id, amount, idempotency_key)
  SELECT user_id, amount, idempotency_key FROM tokenctl.token_transactions;
GRANT SELECT, INSERT, UPDATE ON bare_accounts, bare_entries TO PUBLIC"""
STATEMENTS = {
    "bare": "WITH e AS (INSERT INTO bare_entries (user_id, amount, idempotency_key) VALUES ({user}, 1, {key})"
    " ON CONFLICT DO NOTHING RETURNING user_id, amount)"
    " UPDATE bare_accounts a SET balance = a.balance + e.amount FROM e WHERE a.user_id = e.user_id RETURNING balance",
    "grant": "SELECT 1 / ((tokenctl.post_v1({user}, 'bonus', 1, 'bench', NULL, NULL, NULL, {key}, 'r-bench',"
    " 'bench@host', false)).outcome = 'applied')::integer",
}
SCRIPT = """\\set user random(0, {last})
\\set key random(1, 9223372036854775807)
{statement};
"""
LOADS = {"1 writer": (1, USERS - 1), "8 writers": (8, USERS - 1), "8 writers, one account": (8, 0)}


def per_second(at: Ledger, script: Path, writers: int, seconds: int) -> float:
    """Transactions per second of a script."""
    program = str(binaries.programs_dir(None) / "pgbench")
    words = ["-n", "-M", "prepared", "-c", str(writers), "-j", "2", "-T", str(seconds), "-f", str(script), at.conninfo]
    done = subprocess.run([program, *words], env=at.environ, capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None or "failed transactions: 0 " not in done.stdout:
        raise RuntimeError(f"pgbench ended with {done.returncode}: {done.stdout}{done.stderr}")
    return float(found[1])


def loads(at: Ledger, folder: Path, seconds: int, rounds: int) -> None:
    """Print the rates of both under each load, and their ratio."""
    for name, (writers, last) in LOADS.items():
        rates: dict[str, list[float]] = {what: [] for what in STATEMENTS}
        for what, statement in STATEMENTS.items():
            words = statement.format(user="'u_' || lpad((:user)::text, 7, '0')", key="'b-' || (:key)::text")
            (folder / f"{what}.sql").write_text(SCRIPT.format(last=last, statement=words))
        for _ in range(rounds):
            for what, of_it in rates.items():
                of_it.append(per_second(at, folder / f"{what}.sql", writers, seconds))
        bare, grant = (statistics.median(rates[what]) for what in ("bare", "grant"))
        print(f"{name}: {grant:,.0f} grants/s; the bare statement {bare:,.0f}/s, {grant / bare:.2f} of it")


def first_calls(at: Ledger, count: int) -> None:
    """Print what the first statement in a fresh connection takes."""
    took: dict[str, list[float]] = {what: [] for what in STATEMENTS}
    for number in range(count):
        for what, statement in STATEMENTS.items():
            with psycopg.connect(at.conninfo, autocommit=True) as connection:
                words = statement.format(user=f"'u_{number:07}'", key=f"'first-{number}'").encode()
                started = time.perf_counter()
                connection.execute(words)
                took[what].append((time.perf_counter() - started) * 1000)
    bare, grant = (statistics.median(took[what]) for what in ("bare", "grant"))
    p95 = statistics.quantiles(took["grant"], n=20)[18]
    print(f"first call in a fresh connection: {grant:.1f} ms (p95 {p95:.1f}); the bare statement {bare:.1f} ms")


def main() -> None:
    """Fill a ledger, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with ledger() as at, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grants.csv"
        at.tokenctl("batch-import", str(file), "--yes", "-q", *grants(file, rows=ROWS, users=USERS, seed=1))
        at.psql(BARE, "VACUUM ANALYZE", "CHECKPOINT")
        loads(at, Path(folder), args.seconds, args.rounds)
        first_calls(at, 50)


if __name__ == "__main__":
    main()
