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
from typing import Literal

from tokenctl import address, configfile
from tokenctl.errors import ConfigError, UsageError
from tokenctl.sources import LIBPQ_VARIABLES, Settled, Sources, chosen_config, config_paths, gather, home, named

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
class Prices:
    """What an image costs by its quality, in tokens; `version` names the table and stands on every charge."""

    version: str | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)


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
    #: How wide tables may be; None for as wide as the terminal.
    columns: int | None
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
    prices: Prices
    #: The configuration files that count, the strongest first.
    config_paths: tuple[Path, ...]
    #: The one that --config or TOKENCTL_CONFIG names, and nothing else would find.
    chosen_config: Path | None
    data_dir: Path
    state_dir: Path
    cache_dir: Path
    #: Where libpq looks for passwords, unless the address names another file.
    password_file: Path
    #: Every setting by its name, as `config show` tells it.
    settled: Mapping[str, Settled]
    #: Secrets that came by the environment, so that no log line may hold them.
    secrets: tuple[str, ...] = field(repr=False, default=())

    @property
    def origins(self) -> Mapping[str, str]:
        """Who gave each setting: flag, env:NAME, a file's path, or default."""
        return {name: one.origin for name, one in self.settled.items()}


#: What a command prints unless it says otherwise: the first on a terminal, the second elsewhere.
FORMATS = ("table", "tsv", "json", "jsonl")
#: All that any command prints.
KNOWN_FORMATS = {*FORMATS, "value", "csv", "md", "html", "hledger", "prometheus", "openmetrics", "text", "nagios"}


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
    sources = gather(environ, flags.config)
    first = sources.first
    profile = first("profile", flag=flags.profile, variables=("TOKENCTL_PROFILE",), default="default")
    configfile.demand_name(profile, named(sources.settled["profile"].origin, "--profile"))
    data_dir = sources.directory("data_dir", (), "XDG_DATA_HOME", ".local/share")
    database, profile = _database(sources, profile)
    database = replace(database, identity=_identity(sources.env, database, data_dir))
    no_color, force_color = _colors(sources, flags)
    reasons = first("reasons")
    return Settings(
        profile=profile,
        protected=_protected(sources, profile),
        database=database,
        limits=_limits(sources),
        reasons=None if reasons is None else frozenset(reasons),
        timeout_s=_timeout(sources, flags),
        format=_format(sources, flags),
        quiet=sources.switch("quiet", flag=flags.quiet, variable="TOKENCTL_QUIET"),
        no_input=sources.switch("no_input", flag=flags.no_input, variable="TOKENCTL_NO_INPUT"),
        no_color=no_color,
        force_color=force_color,
        columns=first("columns", variables=("COLUMNS",), read=_columns),
        pager=_pager(sources),
        debug=sources.switch("debug", variable="TOKENCTL_DEBUG"),
        claimed_by=_claimed_by(sources),
        request_id=_request_id(sources, flags),
        verbose=flags.verbose,
        ignore_breaker=flags.ignore_breaker,
        log=_log(sources),
        cache_ttl_s=float(first("cache.ttl_s", default=30)),
        remember_ids=first("completion.remember_ids", default=False),
        health=Health(first("health.expect_keys", default=False), first("health.import_max_age_s")),
        gemini=_gemini(sources),
        prices=_prices(sources),
        rate_limits=_rate_limits(sources),
        config_paths=tuple(config_paths(sources.env, flags.config)),
        chosen_config=None if (chosen := chosen_config(sources.env, flags.config)) is None else chosen.absolute(),
        data_dir=data_dir,
        state_dir=sources.directory("state_dir", ("STATE_DIRECTORY",), "XDG_STATE_HOME", ".local/state"),
        cache_dir=sources.directory("cache_dir", ("TOKENCTL_CACHE_DIR", "CACHE_DIRECTORY"), "XDG_CACHE_HOME", ".cache"),
        password_file=Path(sources.env.get("PGPASSFILE") or home(sources.env) / ".pgpass"),
        settled=sources.settled,
        secrets=tuple(sources.env[name] for name in ("PGPASSWORD", "GEMINI_API_KEY") if name in sources.env),
    )


def check_reason(reason: str, settings: Settings) -> None:
    """Raise UsageError for a reason that the configuration does not list."""
    if settings.reasons is not None and reason not in settings.reasons:
        raise UsageError(
            f"reason '{reason}' is not on the configured list",
            hint="one of " + ", ".join(sorted(settings.reasons)),
        )


def _database(sources: Sources, profile: str) -> tuple[Database, str]:
    """The database and the profile that it is shown as."""
    key, chosen = f"profiles.{profile}.database", sources.settled["profile"].origin
    if chosen != "flag" and "TOKENCTL_DATABASE_URL" in sources.env:
        sources.settle("profile", "env", "env:TOKENCTL_DATABASE_URL")
        return _settled(
            sources, Database("url", "env:TOKENCTL_DATABASE_URL", sources.env["TOKENCTL_DATABASE_URL"])
        ), "env"
    if key in sources.values:
        return _settled(sources, Database("profile", sources.files[key], sources.values[key])), profile
    if chosen != "default" and profile != "default":
        known = sorted({name.split(".")[1] for name in sources.values if name.startswith("profiles.")})
        hint = f"known profiles: {', '.join(known)}" if known else "no profile is configured"
        raise ConfigError(f"profile '{profile}' ({named(chosen, '--profile')}) names no database", hint=hint)
    libpq = [f"env:{variable}" for variable in LIBPQ_VARIABLES if variable in sources.env]
    return _settled(sources, Database("libpq", libpq[0]) if libpq else Database("embedded", "default")), profile


def _settled(sources: Sources, database: Database) -> Database:
    """Keep where it is for people to see: its address without secrets, or whose it is."""
    shown = address.for_people(database.conninfo) if database.conninfo else database.kind
    sources.settle("database", shown or "an address that may hold a secret", database.origin)
    return database


def _identity(env: Mapping[str, str], database: Database, data_dir: Path) -> str:
    """16 hex digits over what leads to the database: known before any driver is loaded."""
    around = [f"{name}={env[name]}" for name in sorted(env) if name.startswith("PG") and name != "PGPASSWORD"]
    leads_to = address.without_secrets(database.conninfo)
    parts = [database.kind, leads_to, str(data_dir) if database.kind == "embedded" else "", *around]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _protected(sources: Sources, profile: str) -> bool:
    """Whether the profile is protected; a URL may be any of them, so the strictest holds."""
    keys = [key for key in sources.values if key.startswith("profiles.") and key.endswith(".protected")]
    keys = keys if profile == "env" else [key for key in keys if key == f"profiles.{profile}.protected"]
    strict = [key for key in keys if sources.values[key]] or keys
    protected = bool(strict) and bool(sources.values[strict[0]])
    sources.settle("protected", protected, sources.files[strict[0]] if strict else "default")
    return protected


def _timeout(sources: Sources, flags: Flags) -> float | None:
    def read(text: str, origin: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or float(text) <= 0:
            name = origin.removeprefix("env:")
            raise ConfigError(f"{name}: {address.told(text)} is not a number of seconds from 0.001 to 999999.999")
        return float(text)

    timeout = sources.first("timeout", flag=flags.timeout_s, variables=("TOKENCTL_TIMEOUT",), read=read)
    return None if timeout is None else float(timeout)


def _format(sources: Sources, flags: Flags) -> str | None:
    form: str | None = flags.format or sources.env.get("TOKENCTL_FORMAT")
    origin = "flag" if flags.format else "env:TOKENCTL_FORMAT" if form else "default"
    if form is not None and form not in flags.formats:
        if origin == "flag" or form not in KNOWN_FORMATS:
            wrong = UsageError if origin == "flag" else ConfigError
            raise wrong(
                f"{address.told(form)} ({named(origin, '--format')}) is not a format of this command",
                hint=f"one of {', '.join(flags.formats)}",
            )
        form, origin = None, "default"  # a wish for every command; one that lacks it prints as it would without
    sources.settle("format", form, origin)
    return form


def _request_id(sources: Sources, flags: Flags) -> str | None:
    request_id = flags.request_id or sources.env.get("TOKENCTL_REQUEST_ID")
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        wrong, where = (UsageError, "--request-id") if flags.request_id else (ConfigError, "env:TOKENCTL_REQUEST_ID")
        of = "1 to 128 of the characters A-Z a-z 0-9 . _ : @ / -"
        raise wrong(f"{address.told(request_id)} ({where}) is no request id: it has {of}")
    return request_id


def _limits(sources: Sources) -> Limits:
    default = Limits()
    return Limits(
        grant=sources.first("limits.grant", default=default.grant),
        batch_total=sources.first("limits.batch_total", default=default.batch_total),
        import_rows=sources.first("limits.import_rows", default=default.import_rows),
    )


def _prices(sources: Sources) -> Prices:
    told = {quality: sources.first(f"prices.{quality}") for quality in ("1K", "2K", "4K")}
    return Prices(sources.first("prices.version"), {quality: price for quality, price in told.items() if price})


def _gemini(sources: Sources) -> Gemini:
    default = Gemini()
    keys_file = sources.first("gemini.keys_file", variables=("GEMINI_API_KEYS_FILE",))
    key = sources.env.get("GEMINI_API_KEY")
    sources.settle("gemini.key", "set" if key else None, "env:GEMINI_API_KEY" if key else "default")
    return Gemini(
        keys_file=Path(keys_file) if keys_file else None,
        key=key,
        base_url=sources.first(
            "gemini.base_url",
            variables=("TOKENCTL_GEMINI_BASE_URL",),
            read=configfile.demand_address,
            default=default.base_url,
        ),
        api_version=sources.first("gemini.api_version", default=default.api_version),
        model=sources.first("generate.model", default=default.model),
    )


def _log(sources: Sources) -> Log:
    default = Log()
    return Log(
        file=sources.first("log.file", variables=("TOKENCTL_LOG_FILE",)),
        level=sources.first("log.level", default=default.level),
        max_bytes=sources.first("log.max_bytes", default=default.max_bytes),
    )


def _rate_limits(sources: Sources) -> dict[str, RateLimit]:
    configured = [key.split(".")[1] for key in sources.values if key.startswith("rate_limits.")]
    limits = {}
    for command in dict.fromkeys([*RATE_LIMITS, *configured]):
        default = RATE_LIMITS.get(command, RateLimit(0, 60.0))
        limits[command] = RateLimit(
            sources.first(f"rate_limits.{command}.limit", default=default.limit),
            sources.first(f"rate_limits.{command}.window_s", default=default.window_s),
        )
    return limits


def _colors(sources: Sources, flags: Flags) -> tuple[bool, bool]:
    """Whether there may be no colours, and whether there must be some where no terminal is."""
    env = sources.env
    forced = [name for name in ("CLICOLOR_FORCE", "FORCE_COLOR") if env.get(name, "0") != "0"]
    unwanted = [name for name, value in (("CLICOLOR", "0"), ("TERM", "dumb")) if env.get(name) == value]
    if flags.no_color or "NO_COLOR" in env or env.get("TERM") == "dumb" or (unwanted and not forced):
        origin = "flag" if flags.no_color else f"env:{'NO_COLOR' if 'NO_COLOR' in env else unwanted[-1]}"
        sources.settle("color", "never", origin)
        return True, bool(forced)
    sources.settle("color", "always" if forced else "auto", f"env:{forced[0]}" if forced else "default")
    return False, bool(forced)


def _columns(text: str, _origin: str) -> int | None:
    """How wide a table may be; a text that is no width counts for nothing, as everywhere."""
    return int(text) if re.fullmatch("[1-9][0-9]{0,3}", text) else None


def _pager(sources: Sources) -> str | None:
    """TOKENCTL_PAGER, else PAGER, else less; none for `cat`, and on a terminal that cannot move its cursor."""
    chosen: str = sources.first("pager", variables=("TOKENCTL_PAGER", "PAGER"), default="less")
    return None if chosen.strip() == "cat" or sources.env.get("TERM", "dumb") == "dumb" else chosen


def _claimed_by(sources: Sources) -> str:
    """Who the operating system says this is: a claim, kept beside the database's own role."""
    name = sources.env.get("TOKENCTL_OPERATOR")
    origin = "env:TOKENCTL_OPERATOR" if name else "default"
    if not name:
        import pwd  # only here: most of its cost is a lookup

        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid{os.getuid()}"
    claim = f"{name}@{os.uname().nodename}"
    claim = "".join(c if c.isprintable() else "?" for c in claim)[:128]
    sources.settle("operator", claim, origin)
    return claim
