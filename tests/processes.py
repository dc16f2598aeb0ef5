"""Processes of a test's own: forked, so that they take the test's functions and values along."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

#: What makes values, events and barriers that forked processes share.
fork = multiprocessing.get_context("fork")
_ENOUGH_S = 60.0


def forked(work: Callable[..., object], *args: Any) -> BaseProcess:
    """A process that does `work` and nothing else; it ends with 0 unless that raises."""
    process = fork.Process(target=work, args=args)
    with warnings.catch_warnings():
        # Python 3.12 warns where pytest-xdist has threads; ours hold no lock that the work could need.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def exit_code(process: BaseProcess) -> int | None:
    """How it ended; negative is the signal that killed it, None that it is still running."""
    process.join(_ENOUGH_S)
    return process.exitcode


def eight(work: Callable[..., object], *args: Any) -> None:
    """Have eight processes do `work` side by side, and see each of them end well."""
    processes = [forked(work, *args) for _ in range(8)]
    assert [exit_code(process) for process in processes] == [0] * 8
