"""What `config` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from tokenctl.output import Cell, Column, Schema, Table, TypedDict, View
from tokenctl.output.schemas import Keyword
from tokenctl.sources import Settled


class SettingData(TypedDict):
    """A setting's value, and who gave it: flag, env:NAME, a file's path, or default."""

    value: Any
    origin: str


class FileData(TypedDict):
    """A configuration file that counts, the strongest first, and whether it is there."""

    path: str
    exists: bool


Settings = Annotated[dict[str, SettingData], Keyword("description", "Every setting with its origin.")]
SETTINGS = Schema("tokenctl.config.v1", Settings)
FILES = Schema("tokenctl.config_files.v1", list[FileData])


def settings(settled: Mapping[str, Settled]) -> View[dict[str, SettingData]]:
    """Every setting; a secret is never among them."""
    data: dict[str, SettingData] = {
        name: {"value": _plain(one.value), "origin": one.origin} for name, one in sorted(settled.items())
    }
    columns = (Column("SETTING"), Column("VALUE", wraps=True), Column("ORIGIN", wraps=True))
    rows: list[tuple[Cell, ...]] = [(name, _cell(one["value"]), one["origin"]) for name, one in data.items()]
    return View(SETTINGS, data, Table(columns, rows))


def files(paths: Sequence[Path]) -> View[list[FileData]]:
    """The files; the strongest alone as the single value, for an editor."""
    data: list[FileData] = [{"path": str(path), "exists": path.is_file()} for path in paths]
    rows = [(one["path"], "read" if one["exists"] else "not there") for one in data]
    return View(FILES, data, Table((Column("FILE"), Column("STATE")), rows), value=data[0]["path"])


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset | set) else value


def _cell(value: Any) -> Cell:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, list) else value
