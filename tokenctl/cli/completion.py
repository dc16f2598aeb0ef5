"""`tokenctl completion`: the script with which a shell completes tokenctl's command lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tokenctl.cli.command import command

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

Shell = Annotated[
    Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)
]

#: What the generated files are called.
_FILES = {"bash": "tokenctl.bash", "zsh": "_tokenctl", "fish": "tokenctl.fish"}


def _completion(run: Run, shell: Shell) -> None:
    """Print the completion script of a shell; with it a TAB starts no process.

    \b
    tokenctl completion bash >~/.local/share/bash-completion/completions/tokenctl
    tokenctl completion zsh >~/.zfunc/_tokenctl
    tokenctl completion fish >~/.config/fish/completions/tokenctl.fish

    Bash needs the package bash-completion, or a line `source FILE` in ~/.bashrc. Zsh needs
    `fpath+=~/.zfunc` before compinit in ~/.zshrc. No command changes such a file for you.

    With completion.remember_ids = true in the configuration, ids of users and batches that your
    commands were about complete too. They are kept in the state directory, 200 of each, for you alone.
    """
    from tokenctl.cli import completion_views as views

    script = (_folder() / _FILES[shell]).read_text(encoding="utf-8")
    if run.output.machine:
        run.show(views.script(shell, script))
    else:
        run.output.text(script)


def _folder() -> Path:
    """Where the generated files are: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "completions"
    return inside if inside.is_dir() else package.parent / "completions"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "completion")(_completion)
