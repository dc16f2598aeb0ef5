"""Progress on a terminal, drawn by rich."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def bar(what: str, total: int, *, color: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that leaves nothing behind; yields a function that hears of steps done."""
    console = Console(stderr=True, no_color=not color, markup=False, emoji=False, highlight=False)
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


@contextlib.contextmanager
def clock(what: str, *, color: bool) -> Iterator[None]:
    """How long something takes, on stderr while it takes it; it leaves nothing behind."""
    console = Console(stderr=True, no_color=not color, markup=False, emoji=False, highlight=False)
    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        progress.add_task(what, total=None)
        yield
