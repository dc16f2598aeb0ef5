"""Processes of a test's own: forked, so that they take the test's functions and values along."""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess

fork = multiprocessing.get_context("fork")
_ENOUGH_S = 60.0


def exit_code(process: BaseProcess) -> int | None:
    """How it ended; negative is the signal that killed it, None that it is still running."""
    process.join(_ENOUGH_S)
    return process.exitcode


def run_all(processes: list[BaseProcess]) -> None:
    """Start processes together and see each of them end well."""
    for process in processes:
        process.start()
    assert [exit_code(process) for process in processes] == [0] * len(processes)
