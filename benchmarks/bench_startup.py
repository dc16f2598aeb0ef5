"""Cold starts: tokenctl's commands beside what they are made of, and beside psql.

    python -m benchmarks.bench_startup [--rounds N]

Everything runs in turn, so that a noisy moment meets all of them. The ratios are those of CPU
time, the least of all rounds: other programs on the machine add to it least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict

from benchmarks.stand import Ledger, Timed, ledger, run
from tokenctl.storage.embedded import binaries

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


PYTHON, IMPORT_TYPER, ONE_ARGUMENT = "python, nothing imported", "import typer", "a typer command with one argument"
BARE_SELECT = "import psycopg, connect, select"
#: Each command of ours, what it is measured by, and the ratio that is wanted.
GOALS = {
    "tokenctl --version": (PYTHON, 2.0),
    "tokenctl --help": (IMPORT_TYPER, 1.2),
    "tokenctl balance u_1 (cached)": (ONE_ARGUMENT, 1.3),
    "tokenctl balance u_1 --fresh": (BARE_SELECT, 1.8),
    "tokenctl grant-bonus (replayed)": (BARE_SELECT, None),
}


def rounds(at: Ledger, count: int) -> dict[str, list[Timed]]:
    """Each program, `count` times in turn."""
    python = sys.executable
    ours = [python, "-m", "tokenctl"]
    psql = str(binaries.programs_dir(None) / "psql")
    programs = {
        "psql -c select": [psql, "-qXAt", "-c", "SELECT balance FROM tokenctl.token_accounts", at.conninfo],
        PYTHON: [python, "-c", "pass"],
        IMPORT_TYPER: [python, "-c", "import typer"],
        ONE_ARGUMENT: [python, "-c", TYPER, "u_1"],
        BARE_SELECT: [python, "-c", SELECT.format(at.conninfo)],
        "tokenctl --version": [*ours, "--version"],
        "tokenctl --help": [*ours, "--help"],
        "tokenctl balance u_1 --fresh": [*ours, "balance", "u_1", "--fresh"],
        "tokenctl balance u_1 (cached)": [*ours, "balance", "u_1"],
        "tokenctl grant-bonus (replayed)": [*ours, "grant-bonus", "u_1", "--amount", "5", "--reason", "bench",
                                            "--idempotency-key", "k", "--new-user", "--yes"],
    }  # fmt: skip
    run(programs["tokenctl grant-bonus (replayed)"], at.environ)
    timed: dict[str, list[Timed]] = defaultdict(list)
    for _ in range(count):
        for name, words in programs.items():
            timed[name].append(run(words, at.environ))
    return timed


def main() -> None:
    """Print times, and the ratios that are wanted beside those that are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with ledger() as at:
        timed = rounds(at, args.rounds)
    least = {name: min(one.cpu_s for one in runs) for name, runs in timed.items()}
    for name, runs in timed.items():
        wall = [one.seconds * 1000 for one in runs]
        line = f"{name:36s} {statistics.median(wall):5.0f} ms (best {min(wall):.0f}), CPU {least[name] * 1000:.0f} ms"
        if name in GOALS:
            yardstick, wanted = GOALS[name]
            goal = "" if wanted is None else f", wanted {wanted}"
            line += f"   {least[name] / least[yardstick]:.2f} x {yardstick}{goal}"
        print(line)


if __name__ == "__main__":
    main()
