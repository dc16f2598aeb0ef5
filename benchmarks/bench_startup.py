"""Cold starts: tokenctl's commands beside what they are made of.

    python -m benchmarks.bench_startup [--rounds N]

Everything runs in turn, so that a noisy moment meets all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict

from benchmarks.stand import Ledger, ledger, run

SELECT = (
    "import psycopg; c = psycopg.connect({!r}); c.execute('SELECT balance FROM tokenctl.token_accounts').fetchone()"
)
TYPER = """
import typer
app = typer.Typer()
@app.command()
def main(user: str) -> None: print(user)
app()
"""


def rounds(at: Ledger, count: int) -> dict[str, list[float]]:
    """Seconds of each program, `count` times in turn."""
    python = sys.executable
    programs = {
        "python, nothing imported": [python, "-c", "pass"],
        "import typer": [python, "-c", "import typer"],
        "a typer command with one argument": [python, "-c", TYPER, "u_1"],
        "import psycopg, connect, select": [python, "-c", SELECT.format(at.conninfo)],
        "tokenctl --version": [python, "-m", "tokenctl", "--version"],
        "tokenctl --help": [python, "-m", "tokenctl", "--help"],
        "tokenctl balance u_1": [python, "-m", "tokenctl", "balance", "u_1"],
        "tokenctl grant-bonus (replayed)": [python, "-m", "tokenctl", "grant-bonus", "u_1", "--amount", "5",
                                            "--reason", "bench", "--idempotency-key", "k", "--new-user", "--yes"],
    }  # fmt: skip
    run(programs["tokenctl grant-bonus (replayed)"], at.environ)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(count):
        for name, words in programs.items():
            seconds[name].append(run(words, at.environ).seconds)
    return seconds


def main() -> None:
    """Print medians, and ratios to the bare select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with ledger() as at:
        seconds = rounds(at, args.rounds)
    yardstick = statistics.median(seconds["import psycopg, connect, select"])
    for name, all_of_it in seconds.items():
        median = statistics.median(all_of_it)
        best = min(all_of_it) * 1000
        print(f"{name:36s} {median * 1000:5.0f} ms (best {best:.0f})   {median / yardstick:5.2f} x the bare select")


if __name__ == "__main__":
    main()
