"""The ids that commands were about, kept for shell completion where completion.remember_ids asks for it.

One small file, `recent` in the state directory: a kind and an id on each line, the newest
first. Shells read it themselves, so it holds ids and nothing else. It is a convenience:
whatever is wrong with it, commands go on as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenctl.statefile import StateUnusable, private_dir

#: How many ids of each kind are kept.
KEPT = 200
_SIZE_BYTES = 2 * KEPT * (len("batch ") + 128 + 1)
_LINE = re.compile(r"(user|batch) [A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}")
#: The parameters of commands that name a user or a batch.
_KINDS = {"user": "user", "users": "user", "batch": "batch", "batches": "batch"}


def named(values: Mapping[str, Any]) -> list[str]:
    """What a command's arguments name, as lines of the file."""
    found = [(kind, values[name]) for name, kind in _KINDS.items() if values.get(name)]
    if isinstance(transaction := values.get("transaction"), str):
        found.append(("user", transaction.rpartition(":")[0]))
    return [f"{kind} {one}" for kind, ids in found for one in ([ids] if isinstance(ids, str) else ids)]


def remember(state_dir: Path, lines: list[str]) -> None:
    """Put these lines first, the last of them foremost. Never fails; another process's may be lost."""
    with contextlib.suppress(OSError, StateUnusable):
        if not lines:
            return
        private_dir(state_dir)
        path = state_dir / "recent"
        before = _read(path)
        after = _bounded([*reversed(lines), *before])
        if after != before:
            _replace(path, "".join(f"{line}\n" for line in after))


def _read(path: Path) -> list[str]:
    """The lines that are there; none when it is no regular file of ours or larger than it can be."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size > _SIZE_BYTES:
            return []
        return file.read(_SIZE_BYTES).decode("ascii", "replace").splitlines()


def _bounded(lines: list[str]) -> list[str]:
    """Each good line once, and no more of a kind than are kept."""
    room = {"user": KEPT, "batch": KEPT}
    good: list[str] = []
    for line in filter(_LINE.fullmatch, dict.fromkeys(lines)):
        kind = line.partition(" ")[0]
        if room[kind]:
            room[kind] -= 1
            good.append(line)
    return good


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"recent.{os.urandom(4).hex()}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
