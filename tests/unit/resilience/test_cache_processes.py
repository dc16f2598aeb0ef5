"""The cache between real processes: many at once, killed on the way, and without room on the disk."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.resilience.caches import NAMES, fill, run, value_of
from tokenctl.resilience.cache import Cache

ROOT = Path(__file__).parents[3]
PROCESSES = 8
ENOUGH_S = 120.0

# One truth, a number in a file; whoever changes it drops the cached one and then says so in a second file.
# From then on nobody may get an older number from the cache, however slow a reader was meanwhile.
RACE = """
import fcntl, json, random, sys
from pathlib import Path
from tokenctl.resilience.cache import Cache

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
troubles, hits, wrong = [], 0, []

def number(name):
    return int((folder / name).read_text() or 0)

def raise_to(name, change):
    with (folder / name).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        value = change(int(file.read() or 0))
        file.seek(0)
        file.write(f"{value:010}")
    return value

for _ in range(60):
    cache = Cache(folder / "cache", emit=lambda e: troubles.append(e.why) if hasattr(e, "why") else None)
    if rng.random() < 0.3:
        mine, before = raise_to("truth", lambda old: old + 1), len(troubles)
        cache.forget("n", "k") if rng.random() < 0.7 else cache.forget_all("n")
        if len(troubles) == before:
            raise_to("told", lambda old: max(old, mine))
    at_least = number("told")
    hit = cache.get_many("n", ["k"], max_age_s=1000.0).get("k")
    if hit is not None:
        hits += 1
        wrong += [(hit.value, at_least)] if hit.value < at_least else []
    ticket = cache.ticket("n")
    cache.put_many("n", {"k": number("truth")}, 1000.0, ticket=ticket)
    cache.close()
print(json.dumps({"troubles": troubles, "hits": hits, "wrong": wrong}))
"""

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.unit.resilience.caches import NAMES, fill
from tokenctl.resilience.cache import Cache

while True:
    cache = Cache(Path(sys.argv[1]))
    fill(cache, NAMES)
    cache.forget("n", NAMES[3])
    fill(cache, NAMES[:5])
    cache.close()
    sys.stdout.write(".")
    sys.stdout.flush()
"""

CRAMPED = """
import json, resource, sys
from pathlib import Path
from tests.unit.resilience.caches import NAMES, run

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
found, kept, troubles = run(Path(sys.argv[1]))
sys.stdout.write(json.dumps([found, [trouble.why for trouble in troubles]]))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def bad(folder: Path) -> list[Path]:
    return list(folder.glob("v1.bad-*"))


def test_many_processes_never_see_what_was_dropped_before(tmp_path: Path) -> None:
    for name in ("truth", "told"):
        (tmp_path / name).write_text(f"{0:010}")
    running = [start(RACE, tmp_path, seed) for seed in range(PROCESSES)]
    ended = [process.communicate(timeout=ENOUGH_S) for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES, ended
    told = [json.loads(out) for out, _ in ended]
    assert [one["wrong"] for one in told] == [[]] * PROCESSES
    assert sum(one["hits"] for one in told) > 0
    # Others at it is all that may happen; taken for damage it would cost everybody the cache.
    assert [why for one in told for why in one["troubles"] if "others are at it" not in why] == []
    assert bad(tmp_path / "cache") == []
    assert run(tmp_path / "cache")[1:] == (True, [])


def test_the_first_processes_make_the_cache_together(tmp_path: Path) -> None:
    running = [start(CRAMPED, tmp_path / "cache", 10**9) for _ in range(PROCESSES)]
    ended = [process.communicate(timeout=ENOUGH_S) for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES, ended
    assert [json.loads(out)[1] for out, _ in ended] == [[]] * PROCESSES
    assert bad(tmp_path / "cache") == []


def test_a_process_that_is_killed_while_it_writes_harms_nobody(tmp_path: Path) -> None:
    rng = random.Random(11)  # noqa: S311 — a repeatable test
    for _ in range(12):
        process = start(WRITE_FOR_EVER, tmp_path)
        assert process.stdout is not None
        process.stdout.read(rng.randrange(1, 20))
        process.kill()
        process.communicate()
        found, kept, troubles = run(tmp_path)
        assert found == {name: value_of(name) for name in found}
        assert (kept, troubles) == (True, [])
    assert bad(tmp_path) == []


@pytest.mark.parametrize("limit_bytes", [0, 1000, 5_000, 40_000])
@pytest.mark.parametrize("there", [True, False], ids=["full later", "full at first"])
def test_a_full_disk_costs_the_cache_and_nothing_else(tmp_path: Path, limit_bytes: int, there: bool) -> None:
    if there:
        cache = Cache(tmp_path)
        fill(cache, NAMES)
        cache.close()
    process = start(CRAMPED, tmp_path, limit_bytes)
    out, err = process.communicate(timeout=ENOUGH_S)
    assert process.returncode == 0, err
    found, troubles = json.loads(out)
    assert found == {name: value_of(name) for name in found}
    assert len(troubles) <= 1
    again, kept, troubles = run(tmp_path)
    assert (kept, troubles) == (True, [])
    assert len(again) == (len(NAMES) if there else 0), "what was there before is still there"
    assert bad(tmp_path) == []
