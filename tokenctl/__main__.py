"""The entry: one way in, one way out.

`main(argv)` turns every failure into an exit code and a sentence; nothing else
exits. Until it runs, Ctrl-C ends the process silently.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence

#: Objects made and not freed before Python looks for cycles among them; its 700 are looked through again and
#: again while modules load.
_CYCLES_AFTER = 50_000


def run() -> None:
    """The installed command: `main` on the process's arguments, ending as the shell expects."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for a Ctrl-C during imports
    gc.set_threshold(_CYCLES_AFTER)
    _fill_standard_streams()
    code = main(sys.argv[1:])
    if code in (130, 143):  # die of the signal itself, so that shells and scripts stop too
        number = signal.SIGINT if code == 130 else signal.SIGTERM  # noqa: PLR2004 — 128 + SIGINT
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _leave(code)


def _leave(code: int) -> None:
    """End at once: `main` has closed what it opened, and to take apart all that was loaded costs 20 ms."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed from the start
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def _fill_standard_streams() -> None:
    """Open the standard streams that are closed, or the database's socket would get their numbers.

    Python has decided by now that they are closed, so that is still told.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 — 0, 1 and 2 are the standard streams
        os.set_inheritable(number, True)  # noqa: FBT003 — it takes no keyword
    os.close(number)


def main(argv: Sequence[str]) -> int:
    """Run one command line and answer its exit code. Prints; never raises, never exits."""
    if list(argv) in (["--version"], ["-V"]):  # before typer is imported: 10 ms instead of 80
        from tokenctl import __version__

        with contextlib.suppress(OSError):  # the command line tells it better
            print(f"tokenctl {__version__}", flush=True)  # noqa: T201
            return 0
    from tokenctl.cli.main import main as command_line

    return command_line(argv)


if __name__ == "__main__":
    run()
