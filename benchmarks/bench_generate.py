"""`tokenctl generate`: from Enter to the first byte sent, and what ten photos of 5 MB cost in memory.

    python -m benchmarks.bench_generate [--rounds N]

The yardstick of the time is a program that only loads Google's library; that of the memory
is a run with three photos of some bytes. Gemini is on loopback and answers at once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.stand import Ledger, Timed, ledger, run
from tests.gemini_server import Handler, image, serving
from tests.pictures import png

LARGE_BYTES = 5_000_000
KEY = "a-key-that-nobody-has"
PRICES = '[prices]\nversion = "bench"\n1K = 1\n'


class Clocked(Handler):
    """Tells when a connection's first byte is there."""

    def handle_one_request(self) -> None:
        """Wait for a byte, then do as usual."""
        if self.rfile.peek(1):  # type: ignore[attr-defined]  # it is buffered; nothing comes when the client has gone
            FIRST.put(time.perf_counter())
        super().handle_one_request()


# The server has a process of its own: what it holds would count as the memory of those that are started beside it.
_apart = multiprocessing.get_context("fork")
FIRST: multiprocessing.Queue[float] = _apart.Queue()


def serve(address: Connection) -> None:
    """Answer every request with an image of 2 MB, until the process is ended."""
    with serving() as server:
        server.RequestHandlerClass = Clocked
        server.by_key = {KEY: image(png(1024, 1024, pixels=bytes(2_000_000)))}
        address.send(server.url)
        server.closing.wait()


def photos(folder: Path, *, count: int, size_bytes: int) -> list[str]:
    """`count` photos of that size, as words of the command line."""
    words: list[str] = []
    for number in range(count):
        file = folder / f"{number}-{size_bytes}.png"
        file.write_bytes(png(4000, 3000, pixels=bytes(size_bytes)))
        words += ["--image", str(file)]
    return words


def generate(at: Ledger, url: str, images: list[str]) -> tuple[Timed, float]:
    """One run, and its seconds from the start of the process to the first byte at Gemini's."""
    words = ["generate", "u_1", "--prompt", "bench", "--quality", "1K", "--out", str(at.home / "out"), "--yes", "-q"]
    environ = {**at.environ, "GEMINI_API_KEY": KEY, "TOKENCTL_GEMINI_BASE_URL": url}
    started = time.perf_counter()
    timed = run([sys.executable, "-m", "tokenctl", *words, *images], environ)
    return timed, FIRST.get(timeout=60) - started


def tell(name: str, values: list[float], unit: str, yardstick: float) -> None:
    """One line: the median, the best, and the ratio to the yardstick."""
    median = statistics.median(values)
    print(f"{name:44s} {median:7.2f} {unit} (best {min(values):.2f})   {median / yardstick:5.2f} x")


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    found: dict[str, list[Any]] = {name: [] for name in ("load", "small", "large", "small_mb", "large_mb", "load_mb")}
    ours, theirs = _apart.Pipe()
    gemini = _apart.Process(target=serve, args=(theirs,), daemon=True)
    gemini.start()
    url = ours.recv()
    with ledger() as at:
        config = at.home / ".config" / "tokenctl" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(PRICES)
        at.tokenctl("grant-bonus", "u_1", "--amount", "1000", "--reason", "bench", "--new-user", "--yes")
        small = photos(at.home, count=3, size_bytes=100)
        large = photos(at.home, count=10, size_bytes=LARGE_BYTES)
        for _ in range(args.rounds):
            loaded = run([sys.executable, "-c", "from google import genai"], at.environ)
            found["load"].append(loaded.seconds)
            found["load_mb"].append(loaded.peak_mb)
            for name, images in (("small", small), ("large", large)):
                timed, first_s = generate(at, url, images)
                found[name].append(first_s)
                found[f"{name}_mb"].append(timed.peak_mb)
    gemini.kill()
    seconds = statistics.median(found["load"])
    tell("load Google's library", found["load"], "s", seconds)
    tell("Enter to first byte sent, 3 small photos", found["small"], "s", seconds)
    tell("Enter to first byte sent, 10 photos of 5 MB", found["large"], "s", seconds)
    megabytes = statistics.median(found["small_mb"])
    tell("peak memory, Google's library alone", found["load_mb"], "MB", megabytes)
    tell("peak memory, 3 small photos", found["small_mb"], "MB", megabytes)
    tell("peak memory, 10 photos of 5 MB", found["large_mb"], "MB", megabytes)


if __name__ == "__main__":
    main()
