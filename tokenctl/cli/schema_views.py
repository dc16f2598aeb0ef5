"""Every JSON Schema that tokenctl publishes, and the list of them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

from tokenctl import cli
from tokenctl.output import Column, Schema, Table, TypedDict, View

PROBLEM = "tokenctl.problem.v1"
GRANT_ROW = "tokenctl.grantfile_row.v1"


class SchemaData(TypedDict):
    """A schema by its name, and the short one that `tokenctl schema` takes, too."""

    name: str
    short: str
    description: str | None


SCHEMAS = Schema("tokenctl.schemas.v1", list[SchemaData])


def published() -> dict[str, dict[str, Any]]:
    """Name and JSON Schema of every output, of errors, and of a row of a grant file."""
    from tokenctl.grantfile.judge import row_schema
    from tokenctl.output.problems import ProblemData
    from tokenctl.output.schemas import json_schema, named

    found = {name: one for schema in declared() for name, one in schema.published()}
    found[PROBLEM] = named(PROBLEM, json_schema(ProblemData))
    found[GRANT_ROW] = named(GRANT_ROW, row_schema())
    return dict(sorted(found.items()))


def declared() -> list[Schema[Any]]:
    """The schemas of all modules of views: whatever is printed is declared in one of them."""
    names = [module.name for module in pkgutil.iter_modules(cli.__path__) if module.name.endswith("views")]
    modules = [importlib.import_module(f"{cli.__name__}.{name}") for name in names]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Schema)]


def short(name: str) -> str:
    """The thing between `tokenctl.` and the version; a later version keeps its own."""
    return name.removeprefix("tokenctl.").removesuffix(".v1")


def schemas(found: Mapping[str, Mapping[str, Any]]) -> View[list[SchemaData]]:
    """The list of them; people get the beginning of what each says of itself."""
    data: list[SchemaData] = [
        {"name": name, "short": short(name), "description": _said(described)} for name, described in found.items()
    ]
    rows = [(one["short"], re.split(r"[.;:,]", one["description"] or "")[0]) for one in data]
    return View(SCHEMAS, data, Table((Column("NAME"), Column("WHAT")), rows), value="\n".join(row[0] for row in rows))


def _said(described: Mapping[str, Any]) -> str | None:
    """What it says of itself, or of its data."""
    data = described["properties"].get("data", {})
    said: str | None = (
        described.get("description") or data.get("description") or data.get("items", {}).get("description")
    )
    return said
