"""`tokenctl balance`: what users have."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import BadData, NoInput, UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.services.balances import Balances


def _balance(
    run: Run,
    users: Annotated[
        list[str],
        typer.Argument(metavar="USER… | -", help="User ids; - reads them from stdin, one a line.", show_default=False),
    ],
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask the database, not the cache.")] = False,
    allow_stale: Annotated[
        bool, typer.Option("--allow-stale", help="With the database down, show what was last known.")
    ] = False,
    as_of: options.AsOf = None,
) -> None:
    """Show balances: tokens held by running jobs, and what can be spent now.

    \b
    tokenctl balance u_42
    tokenctl balance u_42 u_43 --json
    tokenctl balance u_42 --format value
    tokenctl balance u_42 --as-of 2026-11-23T18:04:00Z
    cut -f1 tickets.tsv | tokenctl balance - | awk -F'\\t' '$4 < 100'

    Several users are read in one query. An unknown user ends with exit code 67 and the
    nearest known ids; the known ones are shown all the same. A number may be up to
    cache.ttl_s seconds old (30 by default), and says so. With --as-of it is exact for that
    moment; a hold that was released and made again counts from when it was made first.
    """
    from tokenctl.cli import views
    from tokenctl.services import balances

    asked = _from_stdin() if users == ["-"] else [_checked(user, "USER") for user in users]
    if as_of is not None:
        found = _at(run, asked, as_of, allow_stale=allow_stale)
    else:
        found = run.runtime.balances.read(asked, fresh=fresh, allow_stale=allow_stale)
    if found.known or not found.unknown:
        oldest = max(found.ages_s.values(), default=None)
        _warn_if_stale(run, found, oldest)
        single = len(users) == 1 and users != ["-"]
        shown = views.balances(
            found.known, single=single, ages_s=found.ages_s, stale=found.stale is not None, as_of=as_of
        )
        run.show(shown)
        if oldest is not None and found.stale is None and run.output.form == "table":  # JSON has age_s
            some = "" if single else f"{len(found.ages_s)} of {len(set(asked))} up to "
            run.output.say(f"{some}{balances.ago(oldest)} old, from the cache; --fresh asks the database")
    if found.unknown:
        raise found.unknown


def _at(run: Run, asked: list[str], as_of: datetime, *, allow_stale: bool) -> Balances:
    """What they had at an earlier moment; never from the cache."""
    from tokenctl.output.text import moment

    if allow_stale:
        raise UsageError(
            "--as-of is from the ledger's entries and never from the cache", hint="leave out --allow-stale"
        )
    found = run.runtime.balances.read_at(asked, as_of, now=run.runtime.history.clock())
    if found.known and run.output.form == "table":  # JSON has as_of
        run.output.say(f"as of {moment(as_of)}; held is as far as the rows of holds tell")
    return found


def _warn_if_stale(run: Run, found: Balances, oldest: float | None) -> None:
    from tokenctl.services.balances import ago

    if found.stale is not None and oldest is not None:
        line = f"{found.stale.detail}; this is what was known {ago(oldest)} ago"
        run.warnings.append(line)
        run.output.warn(f"tokenctl: {line}")


def _checked(user: str, where: str) -> str:
    from tokenctl.cli import forms

    try:
        return forms.user_id(user)
    except ValueError as error:
        if where == "USER":
            raise UsageError(f"{where}: {error}", hint="tokenctl balance --help") from error
        raise BadData(f"{where}: {error}") from error


def _from_stdin() -> list[str]:
    import sys

    if sys.stdin is None or sys.stdin.isatty():
        raise NoInput("'-' reads user ids from standard input, which is a terminal", hint="pipe them in, one a line")
    # As bytes: what is no UTF-8 is told like every other bad id, with its line.
    lines = [line.decode("utf-8", "backslashreplace").strip() for line in sys.stdin.buffer]
    return [_checked(line, f"<stdin>:{number}") for number, line in enumerate(lines, 1) if line]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "balance", formats=options.VALUED)(_balance)
