"""The commands that do a batch again: the import of its file, or its reversal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tokenctl import commandline
from tokenctl.models import Batch, Selection

#: The options of an import beside those that change rows, and what each takes.
_ASKED: dict[str, type] = {
    "format-in": str, "partial": bool, "known-users-only": bool, "atomic": bool, "expect-rows": int,
    "expect-total": int, "reject-file": str,
}  # fmt: skip


def again(batch: Batch) -> str | None:
    """The command that does this very batch, or None when its rows came from standard input."""
    if batch.kind == "reversal":
        until = batch.options.get("until")  # as it was given; else the reversal's own time is its end
        chosen = Selection(
            batch.reverses_batch,
            batch.reverses_operator,
            batch.reverses_since,
            None if until is None else datetime.fromisoformat(str(until)),
        )
        note, ticket = batch.options.get("note"), batch.options.get("ticket")
        return reversing(chosen, reason=batch.reason or "mistake", note=note, ticket=ticket)
    return None if batch.file_name in (None, "-") else importing(str(batch.file_name), batch, **asked(batch))


def asked(batch: Batch) -> dict[str, object]:
    """The further options of an import, as far as they are such: its login could have written anything there."""
    found = batch.options.get("asked")
    given = found.items() if isinstance(found, dict) else ()
    return {flag: value for flag, value in given if type(value) is _ASKED.get(flag)}


def importing(file: str, batch: Batch, **further: object) -> str:
    """The import of a file with the options that change rows, and others that were asked for."""
    changing = {name: batch.options.get(name) for name in ("reason", "campaign")}
    return _line(["batch-import", f"./{file}" if file.startswith("-") else file], changing | further)


def _line(words: list[str], flags: Mapping[str, object]) -> str:
    """A command line; a flag is left out when its value is None, and stands alone when that is True."""
    for flag, value in flags.items():
        words += [] if value is None else [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    return commandline.line(*words)


def reversing(chosen: Selection, *, reason: str, note: object = None, ticket: object = None) -> str:
    """The command line that reverses a selection."""
    flags = {
        "batch": chosen.batch,
        "operator": chosen.operator,
        "since": _utc(chosen.since),
        "until": _utc(chosen.until),
        "reason": reason,
        "note": note,
        "ticket": ticket,
    }
    given = [word for flag, value in flags.items() if value for word in (f"--{flag}", str(value))]
    return commandline.line("reverse", *given)


def _utc(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")
