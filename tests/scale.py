"""How much of a search a run does, and from which seed.

`make test` does what fits into its time. TOKENCTL_TEST_SCALE multiplies it (`make soak` sets
it), and TOKENCTL_TEST_SEED repeats what a failure printed.
"""

from __future__ import annotations

import os
import random

SCALE = float(os.environ.get("TOKENCTL_TEST_SCALE", "1"))


def scaled(number: int) -> int:
    """So many at the usual scale."""
    return max(1, int(number * SCALE))


def chosen_seed(fixed: int | None = None) -> int:
    """The seed that was asked for, else `fixed`, else any; printed, which pytest shows of a failure."""
    given = os.environ.get("TOKENCTL_TEST_SEED")
    seed = int(given) if given else fixed if fixed is not None else random.randrange(10**9)  # noqa: S311
    print(f"TOKENCTL_TEST_SEED={seed}")  # noqa: T201 — shown when the test fails
    return seed
