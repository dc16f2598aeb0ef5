"""Memory stays flat, however long the file is and whatever is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEADER = "user_id,amount,reason,idempotency_key,note\n"
# A file of each kind: its beginning, what is repeated, and how often.
FILES = {
    "good": (HEADER, "u{0},5,test,key-{0},Für Ä\n", 300_000),
    "bad": (HEADER, "u{0},1.000,Test,,\n", 30_000),
    "short-lines": (HEADER, "x\n", 150_000),
    "blank-lines": (HEADER, "\n", 4_000_000),
    "quoted-newlines": (HEADER, 'u1,5,test,k1,"' + "\n" * 30_000 + '"\n', 600),
    "json": ("", '{{"user_id": "u{0}", "amount": 5, "reason": "test", "key": "k{0}"}}\n', 150_000),
    "bad-json": ('{{"user_id": "u"}}\n', "x\n", 80_000),
}
#: What a long file may need more than a short one, in KiB. Keeping the rows of one of these
#: files, or its text, would take half as much again at least.
GROWTH_KIB = 10_240

# The peak of this very program image: ru_maxrss would count the process it was forked from.
PROGRAM = """
import pathlib, sys, io
from tokenctl.grantfile.check import CheckOptions, check
from tokenctl.grantfile.source import open_source

def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def run(path):
    with open_source(path, stdin=io.BytesIO(), spool_dir=None, max_bytes=1 << 30, max_ratio=200) as source:
        for block in check(source, CheckOptions()):
            pass
    return peak()

small, large = map(run, sys.argv[1:])
print(small, large)
"""


@pytest.mark.parametrize("kind", FILES)
def test_a_long_file_needs_no_more_than_a_short_one(kind: str, tmp_path: Path) -> None:
    start, repeated, times = FILES[kind]
    small, large = tmp_path / "small", tmp_path / "large"
    with small.open("w", encoding="utf-8") as few, large.open("w", encoding="utf-8") as many:
        few.write(start.format() + "".join(repeated.format(number) for number in range(min(20, times // 100))))
        many.write(start.format())
        many.writelines(repeated.format(number) for number in range(times))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small), str(large)],
        capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    before, after = map(int, ran.stdout.split())
    assert after - before < GROWTH_KIB
    assert after < 60_000
