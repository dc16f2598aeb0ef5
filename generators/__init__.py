"""What is generated from the command line's own declarations: completions/ and man/.

`make docs` writes them. Shells and man read the files; tokenctl itself never runs this.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Every generated file, and what it should hold."""
    from generators import bash, fish, manual, zsh

    completions = {"tokenctl.bash": bash.script(), "_tokenctl": zsh.script(), "tokenctl.fish": fish.script()}
    return {
        **{ROOT / "completions" / name: text for name, text in completions.items()},
        **{ROOT / "man" / name: text for name, text in manual.pages().items()},
    }
