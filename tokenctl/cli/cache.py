"""`tokenctl cache`: what is kept for the next runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import ConfigError, TryLater
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.cache_views import StatsData
    from tokenctl.cli.run import Run

T = TypeVar("T")


def _stats(run: Run) -> None:
    """Show where the cache is and how much it holds.

    \b
    tokenctl cache stats
    tokenctl cache stats --json

    An entry is shown as it is while younger than cache.ttl_s, and later, for a day, when the
    database is down and --allow-stale asks for it. `tokenctl metrics` has the hits.
    """
    from tokenctl.cli import cache_views as views
    from tokenctl.resilience.cache import FORMAT

    cache = run.runtime.cache
    stats = _told(cache.stats)
    facts: StatsData = {
        "directory": str(cache.directory),
        "format": FORMAT,
        "entries": stats.entries,
        "size_bytes": stats.size_bytes,
        "oldest_s": None if stats.oldest_s is None else round(stats.oldest_s),
        "ttl_s": run.settings.cache_ttl_s,
    }
    run.show(views.stats(facts))


def _clear(run: Run) -> None:
    """Forget everything; the next commands ask the database.

    \b
    tokenctl cache clear
    """
    from tokenctl.cli import cache_views as views

    cleared = _told(run.runtime.cache.clear)
    run.output.committed = f"{counted(cleared, 'entry', 'entries')} cleared"
    run.output.say(run.output.committed, mark="✓")
    run.show(views.cleared(cleared))


def _told(ask: Callable[[], T]) -> T:
    """The cache's answer. Raises ConfigError or TryLater: other commands go on without it, these are about it."""
    from tokenctl.resilience.cache import Busy
    from tokenctl.statefile import StateUnusable

    try:
        return ask()
    except Busy as error:
        raise TryLater(f"the cache cannot be used now: {error}", hint="commands go on without it") from error
    except StateUnusable as error:
        raise ConfigError(f"the cache cannot be used: {error}", hint="commands go on without it") from error


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="cache", cls=StrictGroup, help="What is kept for the next runs.", rich_markup_mode=None)
    for name, body in {"stats": _stats, "clear": _clear}.items():
        command(group, name)(body)
    app.add_typer(group)
