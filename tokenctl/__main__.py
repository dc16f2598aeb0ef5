"""The entry: one way in, one way out.

`main(argv)` turns every failure into an exit code and a sentence; nothing else
exits. Until it runs, Ctrl-C ends the process silently.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def run() -> None:
    """The installed command: `main` on the process's arguments, ending as the shell expects."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for a Ctrl-C during imports
    code = main(sys.argv[1:])
    if code in (130, 143):  # die of the signal itself, so that shells and scripts stop too
        number = signal.SIGINT if code == 130 else signal.SIGTERM  # noqa: PLR2004 — 128 + SIGINT
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command line and answer its exit code. Prints; never raises, never exits."""
    if list(argv) in (["--version"], ["-V"]):  # before typer is imported: 10 ms instead of 80
        from tokenctl import __version__

        print(f"tokenctl {__version__}")  # noqa: T201
        return 0
    from tokenctl.cli.main import main as command_line

    return command_line(argv)


if __name__ == "__main__":
    run()
