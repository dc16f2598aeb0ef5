"""Wheels and source archives of this checkout, made without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(*arguments: str, cwd: Path) -> str:
    """Run this Python in `cwd` and return what it printed."""
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    return ran.stdout


def build(target: str, source: Path, destination: Path) -> Path:
    """Build a wheel or an sdist of `source` into `destination` and return its path."""
    python("-m", "hatchling", "build", "-t", target, "-d", str(destination), cwd=source)
    (built,) = destination.iterdir()
    return built
