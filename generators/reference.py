"""What the manual says of all commands alike: exit codes, environment, files."""

from __future__ import annotations

import inspect

from tokenctl import errors
from tokenctl.errors import TokenctlError

Rows = list[tuple[str, str]]

#: What each exit code tells cron and people to do.
NEXT = {
    0: "Done; also when the same key had done it before, when a list is empty, and after a dry run without a finding.",
    1: "Refused by a rule of the ledger, or answered no. Running it again will not help.",
    2: "The command line is wrong, or a confirmation is missing. Nothing was done.",
    65: "The data is wrong: mend the file, or use another key.",
    66: "The input cannot be read.",
    67: "No such user.",
    69: "No connection, or no answer. Later it may work.",
    70: "A bug in tokenctl, or damaged data: tell somebody.",
    73: "An output file cannot be made.",
    74: "The output could not be written. When a change was committed before, the message says so and names it.",
    75: "Not now: run the same command again. With its key it cannot count twice.",
    77: "Not allowed for this role.",
    78: "The configuration is wrong.",
    141: "The reader of the output has gone.",
}
#: Those of `health`, which monitoring systems read.
_HEALTH = {3}


def exit_codes(command: str = "") -> Rows:
    """Code and meaning, of all commands or of `health`.

    Raises ValueError when a class of errors ends with a code that is not told here.
    """
    if command == "health":
        return [
            ("0", "All is well."),
            ("1", "A warning."),
            ("2", "Something is critical."),
            ("3", "It cannot be told."),
        ]
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, TokenctlError)]
    if untold := {one.exit_code for one in classes} - NEXT.keys() - _HEALTH:
        raise ValueError(f"exit codes without a meaning: {sorted(untold)}")
    signals = [("130, 143", "Ended by Ctrl-C, or by SIGTERM or SIGHUP.")]
    return [(str(code), meaning) for code, meaning in NEXT.items()] + signals


ENVIRONMENT: Rows = [
    ("TOKENCTL_DATABASE_URL", "The database: a connection string of libpq. It beats the profile that is configured."),
    ("PGSERVICE, PGHOST, PGHOSTADDR, PGPORT, PGDATABASE",
     "Any of them names the database, as for psql; with none of all these the embedded PostgreSQL is used."),
    ("PGPASSFILE", "Where passwords are, as for psql; the rest of libpq's variables hold too."),
    ("TOKENCTL_PROFILE", "The profile of the configuration to use."),
    ("TOKENCTL_CONFIG", "The configuration file to read, and no other."),
    ("TOKENCTL_FORMAT", "The format to print in, where a command has it."),
    ("TOKENCTL_TIMEOUT", "Seconds that a command may take; of batch-import, verify and the like, one step."),
    ("TOKENCTL_REQUEST_ID", "The id of this run in the ledger, in logs and in errors."),
    ("TOKENCTL_OPERATOR", "Whom the ledger should name as the claimed operator, beside the database's own role."),
    ("TOKENCTL_QUIET, TOKENCTL_NO_INPUT", "Set to 1, the same as --quiet and --no-input."),
    ("TOKENCTL_LOG_FILE", "Where log lines go; - is standard error."),
    ("TOKENCTL_PAGER, PAGER", "What shows long lists on a terminal; cat for none."),
    ("TOKENCTL_CACHE_DIR", "Where the cache is."),
    ("TOKENCTL_DEBUG", "Set to 1, an error shows where in the program it arose."),
    ("GEMINI_API_KEYS_FILE, GEMINI_API_KEY", "Gemini's keys: a file of mode 0600, else one key."),
    ("NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, TERM", "Whether there are colours; NO_COLOR beats the others."),
    ("STATE_DIRECTORY, CACHE_DIRECTORY", "As systemd sets them: where state and cache are."),
    ("XDG_CONFIG_HOME, XDG_CONFIG_DIRS, XDG_DATA_HOME, XDG_STATE_HOME, XDG_CACHE_HOME",
     "Where the directories below are."),
]  # fmt: skip

FILES: Rows = [
    ("~/.config/tokenctl/config.toml", "The configuration. What it lacks is read from /etc/xdg/tokenctl/config.toml."),
    ("~/.local/share/tokenctl", "The data of the embedded PostgreSQL."),
    ("~/.local/state/tokenctl/state.db", "What commands learn from each other: breakers and rate limits."),
    ("~/.local/state/tokenctl/metrics.db", "What was counted and timed."),
    (
        "~/.local/state/tokenctl/recent",
        "User and batch ids for shell completion, while completion.remember_ids is set.",
    ),
    ("~/.cache/tokenctl", "Balances that are some seconds old."),
]
