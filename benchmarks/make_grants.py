"""Make a grant file of any size: random users, amounts and keys, the same bytes for the same seed.

    python benchmarks/make_grants.py --rows 1000000 --users 100000 --out grants.csv

A key is 128 random bits, so two files of different seeds share none. The row count
and the total go to stderr in the form that `tokenctl batch-import` takes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

CHUNK = 50_000
HEADER = "user_id,amount,reason,idempotency_key\n"
LARGEST_AMOUNT = 500
KEY_BYTES = 16


def grants(rows: int, users: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield the file in pieces: text of up to CHUNK rows, and the sum of their amounts in tokens."""
    rng = random.Random(seed)
    names = [f"u_{number:07d}" for number in range(users)]
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        amounts = rng.choices(range(1, LARGEST_AMOUNT + 1), k=count)
        keys = rng.randbytes(KEY_BYTES * count).hex(" ", KEY_BYTES).split(" ")
        chosen = rng.choices(names, k=count)
        lines = [f"{user},{amount},benchmark,{key}\n" for user, amount, key in zip(chosen, amounts, keys, strict=True)]
        yield "".join(lines), sum(amounts)


def main() -> None:
    """Write the file and tell what an import of it should expect."""
    parser = argparse.ArgumentParser(description="Make a CSV of random grants.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    total = 0
    with args.out.open("w", encoding="ascii", newline="") as stream:
        stream.write(HEADER)
        for text, tokens in grants(args.rows, args.users, args.seed):
            stream.write(text)
            total += tokens
    print(f"--expect-rows {args.rows} --expect-total {total}", file=sys.stderr)


if __name__ == "__main__":
    main()
