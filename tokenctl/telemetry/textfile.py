"""A file for node_exporter's textfile collector, replaced in one step."""

from __future__ import annotations

from pathlib import Path

from tokenctl import newfile

#: node_exporter is another user; what it reads is in no way secret.
_MODE = 0o644


def write(path: Path, text: str) -> None:
    """Make `text` the content of `path`, mode 0644 whatever the umask: a reader sees the old file or the new one.

    Raises CannotCreate when no file can be made there, OutputFailed when it cannot be
    written. Either way the old file stays, and nothing else is left behind.
    """
    with newfile.replacing(path, mode=_MODE) as stream:
        stream.write(text.encode())
