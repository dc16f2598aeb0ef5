"""`tokenctl cache`: what is kept for the next runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokenctl.cli.command import StrictGroup, command
from tokenctl.errors import ConfigError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.output import Cell


def _stats(run: Run) -> None:
    """Show where the cache is and how much it holds; `tokenctl metrics` has its hits.

    \b
    tokenctl cache stats
    tokenctl cache stats --json
    """
    from tokenctl.cli import views
    from tokenctl.resilience.cache import FORMAT
    from tokenctl.statefile import StateUnusable

    cache = run.runtime.cache
    try:
        stats = cache.stats()
    except StateUnusable as error:
        raise ConfigError(f"the cache cannot be used: {error}", hint="commands go on without it") from error
    facts: dict[str, Cell] = {
        "directory": str(cache.directory),
        "format": FORMAT,
        "entries": stats.entries,
        "size_bytes": stats.size_bytes,
        "oldest_s": None if stats.oldest_s is None else round(stats.oldest_s),
        "ttl_s": str(run.settings.cache_ttl_s),
    }
    run.show(views.facts("tokenctl.cache_stats.v1", facts))


def _clear(run: Run) -> None:
    """Forget everything that is kept; the next commands ask the database.

    \b
    tokenctl cache clear
    """
    from tokenctl.cli import views
    from tokenctl.statefile import StateUnusable

    try:
        cleared = run.runtime.cache.clear()
    except StateUnusable as error:
        raise ConfigError(f"the cache cannot be used: {error}", hint="commands go on without it") from error
    run.output.say(f"{cleared:,} entries cleared", mark="✓")
    run.show(views.facts("tokenctl.cache_cleared.v1", {"cleared": cleared}))


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="cache", cls=StrictGroup, help="What is kept for the next runs.", rich_markup_mode=None)
    for name, body in {"stats": _stats, "clear": _clear}.items():
        command(group, name)(body)
    app.add_typer(group)
