"""`tokenctl config`: which settings hold, and who gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import Body, StrictGroup, command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

File = Annotated[
    str | None, typer.Argument(metavar="FILE | -", help="Where; - is standard output. [your own]", show_default=False)
]


def _show(run: Run) -> None:
    """Show every setting with its origin: a flag, a variable, a file, or the default.

    \b
    tokenctl config show
    tokenctl config show --profile prod
    tokenctl config show --json | jq -r '.data.database.origin'

    A flag beats a variable, which beats your file, which beats the system's. No secret is
    shown: not a password in an address, and of Gemini's key only whether it is set.
    """
    from tokenctl.cli import config_views as views

    run.show(views.settings(run.settings.settled))


def _path(run: Run) -> None:
    """Print the configuration files that count, the strongest first.

    \b
    tokenctl config path
    "$EDITOR" "$(tokenctl config path --format value)"
    """
    from tokenctl.cli import config_views as views

    run.show(views.files(run.settings.config_paths))


def _check(run: Run) -> None:
    """Check the configuration: every mistake with its file and line.

    \b
    tokenctl config check
    tokenctl config check --config new.toml

    Ends with 78 when there is one.
    """
    from tokenctl.cli import config_views as views

    files = views.files(run.settings.config_paths)  # they were read and judged before we came here
    run.show(files)
    found = sum(one["exists"] for one in files.data)
    run.output.say("no mistake" if found else "there is no file; the defaults hold", mark="✓")


def _init(run: Run, file: File = None) -> None:
    """Write a configuration to begin with: every key, explained and commented out.

    \b
    tokenctl config init
    tokenctl config init -

    A file that is there is never written over.
    """
    from pathlib import Path

    from tokenctl import configfile
    from tokenctl.cli import config_views as views

    if file == "-":
        run.output.text(configfile.example())
        return
    path = Path(file) if file is not None else run.settings.config_paths[0]
    configfile.write_example(path)
    run.output.committed = f"{path} is written"
    run.output.say(f"{path} is written; every line of it is commented out", mark="✓")
    run.show(views.files([path]))


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="config", cls=StrictGroup, help="Which settings hold, and who gave them.", rich_markup_mode=None
    )
    bodies: dict[str, Body] = {"show": _show, "path": _path, "check": _check, "init": _init}
    for name, body in bodies.items():
        command(group, name, formats=None if name == "show" else options.VALUED)(body)
    app.add_typer(group)
