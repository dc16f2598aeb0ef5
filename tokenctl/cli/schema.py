"""`tokenctl schema`: what programs may expect of every output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import UsageError

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="An output's name: balance, or tokenctl.balance.v1.", show_default=False),
]


def _schema(run: Run, name: Name = None) -> None:
    """Print the JSON Schema of outputs, errors and rows to import; without a name, the list.

    \b
    tokenctl schema
    tokenctl schema balance >balance.schema.json
    tokenctl balance u_42 --json | check-jsonschema --schemafile balance.schema.json -

    Every JSON output carries its schema's name. Within a version keys are added and none
    goes away: read what you know and let the rest be. A list has two more schemas, of a row
    and of the summary that ends it in JSON Lines; problem is an error on standard error,
    grantfile_row a line of JSON Lines for batch-import.
    """
    from tokenctl.cli import schema_views as views

    found = views.published()
    if name is None:
        run.show(views.schemas(found))
        return
    if run.settings.origins["format"] == "flag" and run.output.form != "json":
        raise UsageError("a schema is JSON; --format is for the list of them")
    known = {views.short(full): full for full in found}
    full = known.get(name, name)
    if full not in found:
        from difflib import get_close_matches

        near = get_close_matches(name, known, 1)
        raise UsageError(f"there is no schema '{name}'", hint=f"did you mean {near[0]}?" if near else "tokenctl schema")
    run.output.text(json.dumps(found[full], indent=2) + "\n")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "schema", formats=options.VALUED)(_schema)
