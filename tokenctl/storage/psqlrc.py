"""A start-up file for psql, so that it finds the ledger's tables by their bare names.

A setting in the connection's options would do that too, but poolers refuse those. Here a query
says it, and puts the schema behind what the path has: no name means anything else for that, should
a pooler hand the session on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Its answer goes into a variable of psql's, and nothing is printed.
_FIND = (
    "SELECT pg_catalog.set_config('search_path', CASE WHEN path LIKE '%tokenctl%' THEN path"
    " ELSE pg_catalog.concat_ws(', ', NULLIF(path, ''), 'tokenctl') END, false) AS path"
    " FROM pg_catalog.current_setting('search_path') AS path \\gset tokenctl_\n"
)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What psql's environment needs: the name of a pipe that holds the file, which reads the user's own in its turn."""
    own = Path(environ.get("PSQLRC") or "~/.psqlrc").expanduser()
    quoted = str(own).replace("\\", "\\\\").replace("'", "\\'")
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as file:
        file.write(_FIND + (f"\\i '{quoted}'\n" if own.is_file() else ""))
    os.set_inheritable(reading, True)  # noqa: FBT003 — it takes no name
    return {"PSQLRC": f"/dev/fd/{reading}"}
