"""Long output through the user's pager."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator


def show(content: bytes, command: str) -> bool:
    """Hand the content to the pager and wait until it is left, at the end or before.

    False when the pager cannot be started; then nothing was shown. `command` is read as a
    shell reads words, but no shell runs it.
    """
    # Unless somebody chose otherwise less ends at once where all fits on the screen (F), shows
    # colours (R), and leaves what it showed on the screen (X).
    environ = {"LESS": "FRX", "LV": "-c", **os.environ}  # noqa: TID251 — handed on to the pager
    try:
        pager = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, env=environ)
    except (OSError, ValueError, IndexError):  # no such program, a quote that is left open, or no word at all
        return False
    with _interrupt_ignored():
        try:
            pager.communicate(content)  # which takes it well when the pager is left before the end
        finally:
            if pager.poll() is None:
                pager.terminate()
                pager.wait()
    return True


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Ctrl-C is the pager's: less answers it, and would be left on the terminal if we died of it."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
