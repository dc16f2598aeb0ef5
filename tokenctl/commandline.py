"""The command lines that are printed for somebody to run, here or elsewhere on this machine.

Each goes to the ledger of this run: it has the --profile and the --config that this run was given.
What the environment says is there when they are run, and is not repeated.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

#: Of the one run of this process, as its operation is to log lines; its threads print commands, too.
_chosen: list[str] = []


@contextlib.contextmanager
def choosing(*, profile: str | None, config: str | None) -> Iterator[None]:
    """Have the lines of this block name the ledger as these flags did; None is "not given"."""
    file = None if config is None else str(Path(config).absolute())
    _chosen[:] = [
        word for flag, value in (("--profile", profile), ("--config", file)) if value for word in (flag, value)
    ]
    try:
        yield
    finally:
        _chosen.clear()


def line(*words: str) -> str:
    """The command of these words, quoted for a shell, on the ledger of this run."""
    return shlex.join(["tokenctl", *words, *_chosen])


def undo(transaction: str) -> str:
    """The command that reverses USER:SEQ."""
    return line("reverse", transaction, "--reason", "mistake")


def undo_batch(batch_id: str) -> str:
    """The command that reverses a batch, or gives back what the reversal of one took."""
    return line("reverse", "--batch", batch_id, "--reason", "mistake")
