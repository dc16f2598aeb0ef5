"""Runs of `generate` that die at a chosen step, as by kill -9, and what a ledger and a folder are like then.

A run is a forked process that counts what it is about to do to the world: files, statements,
the request to Gemini, its output. Before the step with the chosen number it ends at once.
What lies between two steps is lost with the process, so these are all the ways to die.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.processes import exit_code, forked
from tokenctl.__main__ import main
from tokenctl.clients.gemini import Gemini
from tokenctl.output.printer import Output

DIED = 99
#: Functions that change something outside of the process, or are told that it did.
FILES = ("open", "mkdir", "unlink", "fsync", "link", "replace")


class Fuse:
    """Notes each step in a file, and ends the process before the step number `at`, the first being 1."""

    def __init__(self, notes: Path, at: int | None, *, everywhere: str | None = None) -> None:
        """With `everywhere` None all files count, else those below that folder only."""
        self._notes = notes
        self._at = at
        self._below = everywhere
        self._steps = 0
        self._opened: set[int] = set()
        self._open, self._write, self._close = os.open, os.write, os.close

    def burn(self, step: str) -> None:
        self._steps += 1
        if self._steps == self._at:
            os._exit(DIED)
        fd = self._open(self._notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write(fd, f"{step}\n".encode())
        self._close(fd)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in FILES:
            patch.setattr(os, name, self._counted_file(name, getattr(os, name)))
        patch.setattr(psycopg.Cursor, "execute", self._counted("execute", psycopg.Cursor.execute))
        patch.setattr(Gemini, "generate", self._counted("ask", Gemini.generate))
        patch.setattr(Output, "_write", self._counted("print", Output._write))  # noqa: SLF001 — results end there

    def _counted(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self.burn(f"{name} {_statement(args[1])}" if name == "execute" else name)
            return plain(*args, **more)

        return counted

    def _counted_file(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            if self._counts(args[0]):
                self.burn(f"{name} {_file(args[0])}")
            answer = plain(*args, **more)
            if name == "open" and self._counts(args[0]):
                self._opened.add(answer)
            return answer

        return counted

    def _counts(self, subject: object) -> bool:
        if self._below is None:
            return True
        return subject in self._opened if isinstance(subject, int) else str(subject).startswith(self._below)


def _statement(sent: object) -> str:
    text = " ".join((sent.decode() if isinstance(sent, bytes) else str(sent)).split())
    return text.partition("tokenctl.")[2].partition("(")[0] or text[:30]


def _file(subject: Any) -> str:
    return "" if isinstance(subject, int) else Path(os.fsdecode(subject)).name.lstrip(".").partition(".")[2]


def run(
    words: Sequence[str], folder: Path, *, at: int | None = None, below: str | None = None
) -> tuple[int, list[str]]:
    """A run that dies before its step `at`; its exit code, and the steps that it made."""
    notes = folder / "steps"
    notes.unlink(missing_ok=True)
    code = exit_code(forked(_run, words, folder, notes, at, below))
    assert code is not None
    return code, notes.read_text().splitlines() if notes.exists() else []


def _run(words: Sequence[str], folder: Path, notes: Path, at: int | None, below: str | None) -> None:
    """In the forked process."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    Fuse(notes, at, everywhere=below).install(pytest.MonkeyPatch())
    code = main(words)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def digests(folder: Path) -> dict[str, str]:
    """sha256 by name of the images in a folder, those without their name too."""
    found = folder.iterdir() if folder.exists() else ()
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.name.endswith((".png", ".png.part"))
    }
