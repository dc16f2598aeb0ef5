"""`tokenctl help`: of a command, or of what holds for all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tokenctl.cli.command import StrictCommand, print_text
from tokenctl.errors import UsageError

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="TOPIC | COMMAND", help="A topic, or a command's name.", show_default=False),
]


def _help(ctx: typer.Context, words: Words = None) -> None:
    """Explain a command, or what holds for all of them.

    \b
    tokenctl help exit-codes
    tokenctl help environment
    tokenctl help batch-import

    The topics are exit-codes, environment, formats, cron and files.
    """
    import shutil

    from tokenctl.cli import topics

    root = ctx.find_root()
    if not words:
        print_text(f"{root.get_help()}\n\n{topics.listed().rstrip()}")
    elif words[0] in topics.TOPICS and len(words) == 1:
        print_text(topics.topic(words[0], shutil.get_terminal_size().columns).rstrip())
    else:
        print_text(_of_command(root, words))


def _of_command(root: Any, words: list[str]) -> str:
    """The help of the command that the words name; `root` is of a class that typer keeps to itself."""
    context = root
    for word in words:
        known = list(getattr(context.command, "commands", {}))
        if word not in known:
            raise _unknown(" ".join(words), word, known, is_first=context is root)
        context = typer.Context(context.command.commands[word], info_name=word, parent=context)
    text: str = context.get_help()
    return text


def _unknown(asked: str, word: str, known: list[str], *, is_first: bool) -> UsageError:
    import difflib

    from tokenctl.cli import topics

    near = difflib.get_close_matches(word, [*known, *(topics.TOPICS if is_first else ())], 1)
    return UsageError(
        f"there is no help of '{asked}'" + (f"; did you mean '{near[0]}'?" if near else ""), hint="tokenctl help"
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help", cls=StrictCommand)(_help)
