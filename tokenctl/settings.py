"""Settings: one frozen value, built once from flags, environment and files.

Nobody else reads the environment. A flag beats the environment, which beats the
user's file, which beats the system's file, which beats the default; every value
knows where it came from. All mistakes are reported together.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tokenctl import address, configfile
from tokenctl.errors import ConfigError, UsageError

#: Variables that name a server to libpq; any of them means that one was configured.
LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE")

DatabaseKind = Literal["url", "profile", "libpq", "embedded"]


@dataclass(frozen=True)
class Database:
    """Which database, and who said so. `conninfo` may hold a password: never print it."""

    kind: DatabaseKind
    origin: str
    conninfo: str = field(repr=False, default="")
    #: Tells this database, and who asks, from any other; the password has no part in it.
    identity: str = field(default="", compare=False)


@dataclass(frozen=True)
class Limits:
    """What needs more than a yes; in tokens, `import_rows` in rows."""

    grant: int = 5_000
    batch_total: int = 200_000
    import_rows: int = 50_000_000


@dataclass(frozen=True)
class RateLimit:
    """At most `limit` runs of a command in `window_s` seconds; a limit of 0 means none."""

    limit: int
    window_s: float


#: Commands that write; reads have no limit unless one is configured.
RATE_LIMITS = {name: RateLimit(600, 60.0) for name in ("grant-bonus", "batch-import", "reverse", "generate")}


@dataclass(frozen=True)
class Log:
    """Where log lines go: a file, "-" for stderr, or None for nowhere. It is kept under `max_bytes`."""

    file: str | None = None
    level: str = "info"
    max_bytes: int = 10_000_000


@dataclass(frozen=True)
class Health:
    """What `health` may expect here: Gemini keys, and a finished import every so many seconds."""

    expect_keys: bool = False
    import_max_age_s: float | None = None


@dataclass(frozen=True)
class Gemini:
    """Gemini's keys: a file of them, else one from the environment, never to be printed; where it is; which model."""

    keys_file: Path | None = None
    key: str | None = field(repr=False, default=None)
    base_url: str = "https://generativelanguage.googleapis.com"
    api_version: str = "v1beta"
    model: str = "gemini-3-pro-image"


@dataclass(frozen=True)
class Settings:
    """Everything that a command may want to know about where and how it runs."""

    profile: str
    protected: bool
    database: Database
    limits: Limits
    rate_limits: Mapping[str, RateLimit]
    reasons: frozenset[str] | None
    timeout_s: float | None
    format: str | None
    quiet: bool
    no_input: bool
    no_color: bool
    force_color: bool
    #: The program through which long lists go on a terminal, or None for none.
    pager: str | None
    debug: bool
    claimed_by: str
    request_id: str | None
    verbose: bool
    ignore_breaker: bool
    log: Log
    cache_ttl_s: float
    #: Whether ids are kept for shell completion.
    remember_ids: bool
    health: Health
    gemini: Gemini
    data_dir: Path
    state_dir: Path
    cache_dir: Path
    origins: Mapping[str, str]
    #: Secrets that came by the environment, so that no log line may hold them.
    secrets: tuple[str, ...] = field(repr=False, default=())


#: What a command prints unless it says otherwise: the first on a terminal, the second elsewhere.
FORMATS = ("table", "tsv", "json", "jsonl", "value")


@dataclass(frozen=True)
class Flags:
    """The flags that settings depend on, as given; None is "not given"."""

    config: str | None = None
    profile: str | None = None
    timeout_s: float | None = None
    format: str | None = None
    request_id: str | None = None
    quiet: bool = False
    no_input: bool = False
    no_color: bool = False
    verbose: bool = False
    ignore_breaker: bool = False
    #: Not a flag: the formats that the command knows.
    formats: tuple[str, ...] = FORMATS


_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")


def load(environ: Mapping[str, str], flags: Flags) -> Settings:
    """Build the settings; raises ConfigError (files, environment) or UsageError (flags)."""
    env = {name: value for name, value in environ.items() if value}  # an empty variable is not set
    for name, value in env.items():
        if name.startswith("TOKENCTL_") and name != "TOKENCTL_DATABASE_URL" and address.secrets_of(value):
            raise ConfigError(f"{name} holds a password", hint="TOKENCTL_DATABASE_URL is for a database's address")
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    for path in reversed(config_paths(env, flags.config)):  # the first path wins, so it comes last
        for key, value in configfile.read(path, required=bool(flags.config or env.get("TOKENCTL_CONFIG"))).items():
            values[key], origins[key] = value, str(path)

    profile, profile_origin = _first(
        flags.profile, "flag", env, "TOKENCTL_PROFILE", values, "profile", origins, "default"
    )
    data_dir = _xdg(env, "XDG_DATA_HOME", ".local/share") / "tokenctl"
    configfile.demand_name(profile, profile_origin)
    database, profile = _database(env, profile, profile_origin, values, origins)
    database = replace(database, identity=_identity(env, database, data_dir))
    timeout, timeout_origin = _timeout(env, flags, values, origins)
    form, form_origin = _format(env, flags)
    request_id = flags.request_id or env.get("TOKENCTL_REQUEST_ID")
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        wrong, where = (UsageError, "flag") if flags.request_id else (ConfigError, "env:TOKENCTL_REQUEST_ID")
        raise wrong(f"a request id ({where}) has 1 to 128 of the characters A-Z a-z 0-9 . _ : @ / -")
    origins |= {
        "profile": profile_origin,
        "database": database.origin,
        "timeout": timeout_origin,
        "format": form_origin,
    }
    reasons = values.get("reasons")
    defaults = Limits()
    return Settings(
        profile=profile,
        protected=_protected(profile, values),
        database=database,
        limits=Limits(
            grant=values.get("limits.grant", defaults.grant),
            batch_total=values.get("limits.batch_total", defaults.batch_total),
            import_rows=values.get("limits.import_rows", defaults.import_rows),
        ),
        reasons=None if reasons is None else frozenset(reasons),
        timeout_s=timeout,
        format=form,
        quiet=flags.quiet or _truth(env, "TOKENCTL_QUIET"),
        no_input=flags.no_input or _truth(env, "TOKENCTL_NO_INPUT"),
        no_color=flags.no_color or "NO_COLOR" in env or env.get("TERM") == "dumb",
        force_color=_force_color(env),
        pager=_pager(env),
        debug=_truth(env, "TOKENCTL_DEBUG"),
        claimed_by=_claimed_by(env),
        request_id=request_id,
        verbose=flags.verbose,
        ignore_breaker=flags.ignore_breaker,
        log=_log(env, values),
        cache_ttl_s=float(values.get("cache.ttl_s", 30)),
        remember_ids=values.get("completion.remember_ids", False),
        health=Health(values.get("health.expect_keys", False), values.get("health.import_max_age_s")),
        gemini=_gemini(env, values),
        rate_limits=_rate_limits(values),
        data_dir=data_dir,
        state_dir=_own_dir(env, ("STATE_DIRECTORY",)) or _xdg(env, "XDG_STATE_HOME", ".local/state") / "tokenctl",
        cache_dir=_own_dir(env, ("TOKENCTL_CACHE_DIR", "CACHE_DIRECTORY"))
        or _xdg(env, "XDG_CACHE_HOME", ".cache") / "tokenctl",
        origins=origins,
        secrets=tuple(env[name] for name in ("PGPASSWORD", "GEMINI_API_KEY") if name in env),
    )


def check_reason(reason: str, settings: Settings) -> None:
    """Raise UsageError for a reason that the configuration does not list."""
    if settings.reasons is not None and reason not in settings.reasons:
        raise UsageError(
            f"reason '{reason}' is not on the configured list",
            hint="one of " + ", ".join(sorted(settings.reasons)),
        )


def config_paths(env: Mapping[str, str], explicit: str | None) -> list[Path]:
    """The configuration files that count, the strongest first."""
    chosen = explicit or env.get("TOKENCTL_CONFIG")
    if chosen:
        return [Path(chosen)]
    system = env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    homes = [_xdg(env, "XDG_CONFIG_HOME", ".config"), *(Path(d) for d in system if d.startswith("/"))]
    return [home / "tokenctl" / "config.toml" for home in homes]


def _first(  # noqa: PLR0917 — a private lookup in four places
    flag: str | None,
    flag_origin: str,
    env: Mapping[str, str],
    variable: str,
    values: Mapping[str, Any],
    key: str,
    origins: Mapping[str, str],
    default: str | None,
) -> tuple[Any, str]:
    if flag is not None:
        return flag, flag_origin
    if variable in env:
        return env[variable], f"env:{variable}"
    if key in values:
        return values[key], origins[key]
    return default, "default"


def _database(
    env: Mapping[str, str],
    profile: str,
    profile_origin: str,
    values: Mapping[str, Any],
    origins: Mapping[str, str],
) -> tuple[Database, str]:
    key = f"profiles.{profile}.database"
    if profile_origin != "flag" and "TOKENCTL_DATABASE_URL" in env:
        return Database("url", "env:TOKENCTL_DATABASE_URL", env["TOKENCTL_DATABASE_URL"]), "env"
    if key in values:
        return Database("profile", origins[key], values[key]), profile
    if profile_origin != "default" and profile != "default":
        known = sorted({name.split(".")[1] for name in values if name.startswith("profiles.")})
        hint = f"known profiles: {', '.join(known)}" if known else "no profile is configured"
        raise ConfigError(f"profile '{profile}' ({profile_origin}) names no database", hint=hint)
    for variable in LIBPQ_VARIABLES:
        if variable in env:
            return Database("libpq", f"env:{variable}"), profile
    return Database("embedded", "default"), profile


def _identity(env: Mapping[str, str], database: Database, data_dir: Path) -> str:
    """16 hex digits over what leads to the database: known before any driver is loaded."""
    around = [f"{name}={env[name]}" for name in sorted(env) if name.startswith("PG") and name != "PGPASSWORD"]
    leads_to = address.without_secrets(database.conninfo)
    parts = [database.kind, leads_to, str(data_dir) if database.kind == "embedded" else "", *around]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _protected(profile: str, values: Mapping[str, Any]) -> bool:
    if profile == "env":  # the URL may be any of them, so the strictest holds
        return any(values[key] for key in values if key.startswith("profiles.") and key.endswith(".protected"))
    return bool(values.get(f"profiles.{profile}.protected", False))


def _timeout(
    env: Mapping[str, str], flags: Flags, values: Mapping[str, Any], origins: Mapping[str, str]
) -> tuple[float | None, str]:
    if flags.timeout_s is not None:
        return flags.timeout_s, "flag"
    text = env.get("TOKENCTL_TIMEOUT")
    if text is not None:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or float(text) <= 0:
            raise ConfigError(f"TOKENCTL_TIMEOUT: {address.told(text)} is not a number of seconds above zero")
        return float(text), "env:TOKENCTL_TIMEOUT"
    if "timeout" in values:
        return float(values["timeout"]), origins["timeout"]
    return None, "default"


def _format(env: Mapping[str, str], flags: Flags) -> tuple[str | None, str]:
    form, origin = _first(flags.format, "flag", env, "TOKENCTL_FORMAT", {}, "format", {}, None)
    if form is None or form in flags.formats:
        return form, origin
    if origin != "flag" and form in FORMATS:
        return None, "default"  # a wish for every command; one that lacks the format prints as it would without
    wrong = UsageError if origin == "flag" else ConfigError
    raise wrong(
        f"{address.told(form)} ({origin}) is not a format of this command", hint=f"one of {', '.join(flags.formats)}"
    )


def _gemini(env: Mapping[str, str], values: Mapping[str, Any]) -> Gemini:
    default, keys_file = Gemini(), env.get("GEMINI_API_KEYS_FILE", values.get("gemini.keys_file"))
    return Gemini(
        keys_file=Path(keys_file) if keys_file else None,
        key=env.get("GEMINI_API_KEY"),
        base_url=values.get("gemini.base_url", default.base_url),
        api_version=values.get("gemini.api_version", default.api_version),
        model=values.get("generate.model", default.model),
    )


def _log(env: Mapping[str, str], values: Mapping[str, Any]) -> Log:
    default = Log()
    return Log(
        file=env.get("TOKENCTL_LOG_FILE", values.get("log.file")),
        level=values.get("log.level", default.level),
        max_bytes=values.get("log.max_bytes", default.max_bytes),
    )


def _rate_limits(values: Mapping[str, Any]) -> dict[str, RateLimit]:
    limits = dict(RATE_LIMITS)
    for key, value in values.items():
        section, _, rest = key.partition(".")
        command, _, name = rest.rpartition(".")
        if section == "rate_limits":
            limits[command] = replace(limits.get(command, RateLimit(0, 60.0)), **{name: value})
    return limits


def _own_dir(env: Mapping[str, str], variables: tuple[str, ...]) -> Path | None:
    """A directory of ours that somebody named; systemd may name several, joined by colons."""
    named = [env[variable].split(":")[0] for variable in variables if env.get(variable, "").startswith("/")]
    return Path(named[0]) if named else None


def _truth(env: Mapping[str, str], variable: str) -> bool:
    return env.get(variable, "0").lower() not in ("0", "false", "no", "off")


def _force_color(env: Mapping[str, str]) -> bool:
    return any(env.get(name, "0") != "0" for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))


def _pager(env: Mapping[str, str]) -> str | None:
    """TOKENCTL_PAGER, else PAGER, else less; none for `cat`, and on a terminal that cannot move its cursor."""
    chosen = env.get("TOKENCTL_PAGER") or env.get("PAGER") or "less"
    return None if chosen.strip() == "cat" or env.get("TERM", "dumb") == "dumb" else chosen


def _claimed_by(env: Mapping[str, str]) -> str:
    """Who the operating system says this is: a claim, kept beside the database's own role."""
    name = env.get("TOKENCTL_OPERATOR")
    if not name:
        import pwd  # only here: most of its cost is a lookup

        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid{os.getuid()}"
    claim = f"{name}@{os.uname().nodename}"
    return "".join(c if c.isprintable() else "?" for c in claim)[:128]


def _xdg(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    chosen = env.get(variable, "")
    if chosen.startswith("/"):  # the XDG rules say that a relative path is to be ignored
        return Path(chosen)
    home = Path(env.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 — asks the user database when HOME is unset
    # A user without a home, as in some containers, is told so where a folder is made.
    return (home if home.is_absolute() else Path("/nonexistent")) / below_home
