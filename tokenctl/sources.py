"""Where settings come from: flags, environment, files, defaults, in the order of their strength.

Whatever is asked for is kept with its origin, so that `config show` can tell all of it. A
variable that is not declared here cannot be read, so the list that help prints is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenctl import address, configfile
from tokenctl.errors import ConfigError

#: Variables that name a server to libpq; any of them means that one was configured.
LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE")

#: Every variable that means something to tokenctl, by what it does. PG* are libpq's, whatever their names.
VARIABLES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("TOKENCTL_DATABASE_URL",),
        "The database: a connection string of libpq. It beats the configured profile; no printed command repeats it.",
    ),
    (
        LIBPQ_VARIABLES,
        "Any of them names the database, as for psql; with none of all these the embedded PostgreSQL is used.",
    ),
    (("PGPASSFILE", "PGPASSWORD"), "Where passwords are, or one, as for psql; the rest of libpq's variables hold too."),
    (("TOKENCTL_PROFILE",), "The profile of the configuration to use. Printed commands name it."),
    (("TOKENCTL_CONFIG",), "The configuration file to read, and no other. Printed commands name it."),
    (("TOKENCTL_FORMAT",), "The format to print in; a command that lacks it prints as it would without."),
    (("TOKENCTL_TIMEOUT",), "Seconds that a command may take; of batch-import, verify and the like, one step."),
    (("TOKENCTL_REQUEST_ID",), "The id of this run in the ledger, in logs and in errors."),
    (
        ("TOKENCTL_OPERATOR",),
        "Whom the ledger should name as the claimed operator, beside the database's own role.",
    ),
    (("TOKENCTL_QUIET", "TOKENCTL_NO_INPUT"), "Set to 1, the same as --quiet and --no-input."),
    (("TOKENCTL_LOG_FILE",), "Where log lines go; - is standard error."),
    (("TOKENCTL_PAGER", "PAGER"), "What shows long lists on a terminal; cat for none."),
    (("LESS", "LV"), "For the pager; where LESS is not set it gets FRX."),
    (("TOKENCTL_CACHE_DIR",), "Where the cache is."),
    (("TOKENCTL_DEBUG",), "Set to 1, an error shows where in the program it arose."),
    (("GEMINI_API_KEYS_FILE", "GEMINI_API_KEY"), "Gemini's keys: a file of mode 0600, else one key."),
    (("TOKENCTL_GEMINI_BASE_URL",), "A server that speaks Gemini's language: https, or http on this machine."),
    (
        ("NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "CLICOLOR", "TERM"),
        "Colours: none with NO_COLOR, CLICOLOR=0 or TERM=dumb, in a pipe too with the others; NO_COLOR beats them all.",
    ),
    (("COLUMNS",), "How wide tables may be; else as wide as the terminal."),
    (("STATE_DIRECTORY", "CACHE_DIRECTORY"), "As systemd sets them: where state and cache are."),
    (
        ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"),
        "Where configuration, data, state and cache are: `tokenctl help files`.",
    ),
)
_DECLARED = {name for names, _ in VARIABLES for name in names}


class Settled(NamedTuple):
    """A setting's value as it may be shown, and who gave it: flag, env:NAME, a file's path, or default."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Sources:
    """The environment and the files, and what was asked of them so far."""

    env: Mapping[str, str]
    #: The files' keys, the strongest value of each, and the file that has it.
    values: Mapping[str, Any]
    files: Mapping[str, str]
    settled: dict[str, Settled]

    def first(
        self,
        name: str,
        *,
        flag: Any = None,
        variables: tuple[str, ...] = (),
        read: Callable[[str, str], Any] = lambda text, _origin: text,
        default: Any = None,
    ) -> Any:
        """The strongest value of a setting, which is called as its key in the file; None is "not given".

        `read` makes a value of a variable's text, and may raise ConfigError, naming the origin.
        """
        if flag is not None:
            return self.settle(name, flag, "flag")
        for variable in variables:
            if variable in self.env:
                origin = f"env:{variable}"
                return self.settle(name, read(self.env[variable], origin), origin)
        if name in self.values:
            return self.settle(name, self.values[name], self.files[name])
        return self.settle(name, default, "default")

    def switch(self, name: str, *, flag: bool = False, variable: str) -> bool:
        """Whether something is switched on."""
        on: bool = self.first(name, flag=flag or None, variables=(variable,), read=_truth, default=False)
        return on

    def settle(self, name: str, value: Any, origin: str) -> Any:
        """Keep a value that was found, with its origin; answers it."""
        self.settled[name] = Settled(value, origin)
        return value

    def directory(self, name: str, own: tuple[str, ...], variable: str, below_home: str) -> Path:
        """A directory of ours: one that `own` variables name whole, else tokenctl in one of the XDG directories."""
        for named in own:
            value = self.env.get(named, "")
            if value.startswith("/"):  # systemd may name several, joined by colons; else a colon is the path's own
                path = value.split(":")[0] if named.endswith("_DIRECTORY") else value
                return self._path(name, Path(path), f"env:{named}")
        # The XDG rules say that a relative path is to be ignored.
        origin = f"env:{variable}" if self.env.get(variable, "").startswith("/") else "default"
        return self._path(name, xdg(self.env, variable, below_home) / "tokenctl", origin)

    def _path(self, name: str, path: Path, origin: str) -> Path:
        self.settle(name, str(path), origin)
        return path


def gather(environ: Mapping[str, str], config: str | None) -> Sources:
    """The sources of this run; `config` is the file that a flag names. Raises ConfigError with every mistake."""
    env = {name: value for name, value in environ.items() if value and _is_declared(name)}  # empty is not set
    for name, value in environ.items():
        if name.startswith("TOKENCTL_"):
            _demand_sense(name, value)
    values: dict[str, Any] = {}
    files: dict[str, str] = {}
    required = chosen_config(env, config) is not None
    for path in reversed(config_paths(env, config)):  # the first path wins, so it comes last
        for key, value in configfile.read(path, required=required).items():
            values[key], files[key] = value, str(path)
    return Sources(env, values, files, {})


def chosen_config(env: Mapping[str, str], explicit: str | None) -> Path | None:
    """The configuration file that a flag or a variable names, if one does."""
    chosen = explicit or env.get("TOKENCTL_CONFIG")
    return Path(chosen) if chosen else None


def config_paths(env: Mapping[str, str], explicit: str | None) -> list[Path]:
    """The configuration files that count, the strongest first."""
    if (chosen := chosen_config(env, explicit)) is not None:
        return [chosen]
    system = (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    roots = [xdg(env, "XDG_CONFIG_HOME", ".config"), *(Path(d) for d in system if d.startswith("/"))]
    return [root / "tokenctl" / "config.toml" for root in roots]


def xdg(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    """One of the directories that the XDG rules name."""
    chosen = env.get(variable, "")
    if chosen.startswith("/"):
        return Path(chosen)
    return home(env) / below_home


def home(env: Mapping[str, str]) -> Path:
    """The user's home; a user without one, as in some containers, is told so where a folder is made."""
    found = Path(env.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 — asks the user database when HOME is unset
    return found if found.is_absolute() else Path("/nonexistent")


def named(origin: str, option: str) -> str:
    """An origin as an error names it: of a flag, which one."""
    return option if origin == "flag" else origin


def _demand_sense(name: str, value: str) -> None:
    """Raise ConfigError for an address that stands in the wrong variable, and for a name that is nearly one of ours.

    A misspelt TOKENCTL_DATABASE_URL would be a grant in another ledger.
    """
    if name != "TOKENCTL_DATABASE_URL" and address.secrets_of(value):
        raise ConfigError(f"{name} holds a password", hint="TOKENCTL_DATABASE_URL is for a database's address")
    if value and name not in _DECLARED:
        import difflib

        near = difflib.get_close_matches(name, _DECLARED, 1, 0.9)
        if near:
            raise ConfigError(f"there is no variable {name}; did you mean {near[0]}?", hint="tokenctl help environment")


def _is_declared(name: str) -> bool:
    return name in _DECLARED or name.startswith("PG")


def _truth(text: str, _origin: str) -> bool:
    return text.lower() not in ("0", "false", "no", "off")
