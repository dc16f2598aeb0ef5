"""The command lines that are printed for somebody to run, here or elsewhere on this machine.

Each goes to the ledger of this run and is taken there: it names the profile and the configuration file that an
option or a variable of this run chose, as a variable may be set for this run only, and gives a reason that the
configuration lists. An address in a variable may hold a secret, and is never repeated.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

#: Of the one run of this process, as its operation is to log lines; its threads print commands, too.
_chosen: list[str] = []
#: The reasons that it may give, sorted; none for any.
_reasons: list[str] = []


@contextlib.contextmanager
def choosing(*, profile: str | None, config: Path | None, reasons: Collection[str] | None = None) -> Iterator[None]:
    """Have the lines of this block name the ledger so, None for "nobody chose it"; `reasons` None allows any."""
    flags = (("--profile", profile), ("--config", None if config is None else str(config)))
    _chosen[:] = [word for flag, value in flags if value for word in (flag, value)]
    _reasons[:] = sorted(reasons or ())
    try:
        yield
    finally:
        _chosen.clear()
        _reasons.clear()


def line(*words: str) -> str:
    """The command of these words, quoted for a shell, on the ledger of this run."""
    return shlex.join(["tokenctl", *words, *_chosen])


def reason(usual: str) -> str:
    """The usual reason where the configuration allows it, else the first that it lists."""
    return usual if not _reasons or usual in _reasons else _reasons[0]


def undo(transaction: str) -> str:
    """The command that reverses USER:SEQ."""
    return line("reverse", transaction, "--reason", reason("mistake"))


def undo_batch(*batch_ids: str) -> str:
    """The command that reverses a batch, or gives back what the reversal of one took; several commands in a row."""
    return " && ".join(line("reverse", "--batch", batch_id, "--reason", reason("mistake")) for batch_id in batch_ids)
