"""The pager gets all there is, may be left early, and where there is none nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from tokenctl.output import pager

CONTENT = b"line\n" * 100_000


def program(body: str) -> str:
    """A command line that runs this Python."""
    return f'"{sys.executable}" -c "import os, sys, signal; {body}"'


def keeping(file: Path) -> str:
    return program(f"open('{file}', 'wb').write(sys.stdin.buffer.read())")


def test_the_pager_gets_all_and_is_waited_for(tmp_path: Path) -> None:
    assert pager.show(CONTENT, keeping(tmp_path / "seen"))
    assert (tmp_path / "seen").read_bytes() == CONTENT


def test_a_pager_may_be_left_before_the_end() -> None:
    assert pager.show(CONTENT, program("sys.stdin.buffer.read(10)"))
    assert pager.show(CONTENT, program("sys.exit(1)"))


@pytest.mark.parametrize("command", ["no-such-pager-here --x", "'", "", "   "])
def test_what_cannot_be_started_is_said(command: str) -> None:
    assert not pager.show(CONTENT, command)


@pytest.mark.parametrize(("given", "seen"), [(None, "FRX"), ("R", "R"), ("", "")])
def test_less_is_told_how_unless_somebody_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, seen: str
) -> None:
    if given is None:
        monkeypatch.delenv("LESS", raising=False)
    else:
        monkeypatch.setenv("LESS", given)
    assert pager.show(b"", program(f"open('{tmp_path / 'less'}', 'w').write(os.environ['LESS'])"))
    assert (tmp_path / "less").read_text(encoding="utf-8") == seen


def test_words_are_not_read_by_a_shell(tmp_path: Path) -> None:
    assert pager.show(b"", f"{program('pass')} ; touch {tmp_path / 'made'} $(touch {tmp_path / 'made'})")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_the_pager_s(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt = f"os.kill(os.getppid(), signal.SIGINT); open('{tmp_path / 'x'}', 'w').write(str(len(sys.stdin.read())))"
    assert pager.show(CONTENT, program(interrupt))
    assert (tmp_path / "x").read_text(encoding="utf-8") == str(len(CONTENT))
    assert signal.getsignal(signal.SIGINT) is before


def test_it_works_outside_the_main_thread(tmp_path: Path) -> None:
    shown: list[bool] = []
    thread = threading.Thread(target=lambda: shown.append(pager.show(CONTENT, keeping(tmp_path / "seen"))))
    thread.start()
    thread.join()
    assert shown == [True]
    assert (tmp_path / "seen").read_bytes() == CONTENT
