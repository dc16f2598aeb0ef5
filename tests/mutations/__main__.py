"""Turn off one guard after the other in a copy of this tree, and see whether its tests notice.

    python -m tests.mutations [-j JOBS] [WORDS …]

With words only the guards whose names have them. Ends with 1 when a guard could be turned
off unnoticed. A guard counts as caught when one of its tests fails; a test that cannot even
be set up is told apart, because then the edit broke more than a guard.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.catalog import MUTATIONS, ROOT
from tests.mutations.mutation import Mutation

_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", ".demo", "dist")
#: A guard's tests that take longer hang, which nobody would miss; and all tests together.
_LIMIT_S, _ALL_S = 400, 3600


def copied(folder: Path) -> Path:
    """A copy of this tree, to be changed."""
    return Path(shutil.copytree(ROOT, folder / "tree", ignore=_LEFT_OUT))


def tested(tree: Path, tests: Sequence[str], *options: str, limit_s: float) -> tuple[str, str]:
    """What became of the tests there, in a word, and what pytest said."""
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *options, *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "hangs", ""
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0:
        return ("passed" if re.search(r"\d passed", last) else "skipped"), done.stdout
    return ("failed" if re.search(r"\d failed", last) else "broken"), done.stdout + done.stderr


def judged(mutation: Mutation) -> tuple[Mutation, str, str, float]:
    """The mutation, what became of its tests, what pytest said, seconds."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = copied(Path(folder))
        file = tree / mutation.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
        verdict, said = tested(tree, mutation.tests, limit_s=_LIMIT_S)
    return mutation, verdict, said, time.monotonic() - started


def untouched(chosen: Sequence[Mutation], jobs: int) -> bool:
    """Whether all tests pass while every guard is on; otherwise a failure would mean nothing."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tests = sorted({test for one in chosen for test in one.tests})
        verdict, said = tested(copied(Path(folder)), tests, "-n", str(jobs), limit_s=_ALL_S)
    if verdict != "passed":
        print(said[-3000:], "with every guard on, the tests must pass", sep="\n")  # noqa: T201 — a script
    return verdict == "passed"


def main() -> int:
    """Turn off what is asked for; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    chosen = [one for one in MUTATIONS if all(word.lower() in one.name.lower() for word in given.words)]
    if not chosen:
        parser.error("no guard has these words in its name")
    if not untouched(chosen, given.jobs):
        return 1
    caught = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for mutation, verdict, said, seconds in pool.map(judged, chosen):
            is_caught = verdict in ("failed", "hangs")
            caught += is_caught
            shown = "caught" if verdict == "failed" else f"caught, {verdict}" if is_caught else f"NOT CAUGHT, {verdict}"
            print(f"{seconds:6.1f} s  {shown:<20}  {mutation.name}", flush=True)  # noqa: T201 — a script
            if not is_caught:
                print(said[-1500:])  # noqa: T201 — a script
    print(f"{caught} of {len(chosen)} guards are watched")  # noqa: T201 — a script
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
