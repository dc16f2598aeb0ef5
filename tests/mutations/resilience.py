"""The guards of what processes share: the cache, the breaker, the rate limits."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_CACHE = "tests/unit/resilience/test_cache_faults.py"

RESILIENCE = (
    Mutation(
        "a row of the cache is one plain blob",
        "tokenctl/resilience/cachestore.py",
        "        if read or mode != MODE_RAW or filename is not None or type(value) is not bytes:",
        "        if mode != MODE_RAW:\n"
        "            return super().fetch(mode, filename, value, read)\n"
        "        if False:",
        (_CACHE,),
    ),
    Mutation(
        "a row of the cache has its checksum",
        "tokenctl/resilience/cachestore.py",
        '        if zlib.crc32(value[_HEAD:]) != int.from_bytes(value[len(_MAGIC) : _HEAD], "big"):',
        "        if False:",
        (_CACHE,),
    ),
    Mutation(
        "a row of the cache names itself",
        "tokenctl/resilience/cache.py",
        '    if row["k"] != name:',
        "    if False:",
        (_CACHE,),
    ),
    Mutation(
        "a row of the cache deletes no file",
        "tokenctl/resilience/cachestore.py",
        "    def remove(self, file_path: object) -> None:",
        "    def removes(self, file_path: object) -> None:",
        (f"{_CACHE}::test_no_row_deletes_a_file",),
    ),
    Mutation(
        "the cache's folder is ours alone",
        "tokenctl/resilience/cachestore.py",
        "        private_dir(folder)",
        "        folder.mkdir(exist_ok=True)",
        ("tests/unit/resilience/test_cache_places.py",),
    ),
    Mutation(
        "one process probes what is down",
        "tokenctl/resilience/breaker.py",
        "            self._write(notes, replace(current, prober=os.getpid(), lease_until=now + self._policy.lease_s))",
        "            pass",
        ("tests/unit/resilience/test_breaker.py::test_one_process_probes_and_the_others_wait_for_it",),
    ),
    Mutation(
        "three failures in a row open the breaker",
        "tokenctl/resilience/breaker.py",
        "                    self._write(notes, after)",
        "                    pass",
        ("tests/unit/resilience/test_breaker.py::test_three_failures_in_a_row_open_it",),
    ),
    Mutation(
        "the rate limit lets no more through",
        "tokenctl/resilience/ratelimit.py",
        "            if over >= 0:",
        "            if over > 0:",
        ("tests/unit/resilience/test_ratelimit.py::test_the_limit_and_not_one_more",),
    ),
)
