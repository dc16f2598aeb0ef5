"""The composition root: builds what a command needs, late, and closes it in reverse.

Only cli imports it. Heavy packages come in with the first thing that needs them.
"""

from __future__ import annotations

import contextlib
import math
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokenctl.clients.gemini import Gemini
    from tokenctl.clients.generator import Generator
    from tokenctl.clients.keyring import Keyring
    from tokenctl.operation import Operation
    from tokenctl.resilience.breaker import Breaker, Breakers
    from tokenctl.resilience.cache import Cache
    from tokenctl.resilience.deadline import Deadline
    from tokenctl.resilience.events import Emit
    from tokenctl.resilience.ratelimit import RateLimiter
    from tokenctl.services.balances import Reader
    from tokenctl.settings import Settings
    from tokenctl.statefile import StateFile
    from tokenctl.storage.batches import Batches
    from tokenctl.storage.database import Connection, Database
    from tokenctl.storage.embedded import EmbeddedServer
    from tokenctl.storage.exports import Export
    from tokenctl.storage.generations import GenerationStore
    from tokenctl.storage.history import History
    from tokenctl.storage.imports import BatchStore
    from tokenctl.storage.inspection import Inspection
    from tokenctl.storage.ledger import Ledger
    from tokenctl.telemetry.metrics import Metrics

#: Seconds that a command may take unless somebody says otherwise, by its name.
_TIMEOUTS_S = {
    "balance": 10.0,
    "grant-bonus": 20.0,
    "show": 10.0,
    "statement": 30.0,
    "explain": 30.0,
    "batches list": 10.0,
    "batches show": 10.0,
    "keys test": 60.0,
    "doctor": 10.0,
}
#: The same for each step of a command that may take as long as its data is large.
_STEP_TIMEOUTS_S = {
    "batch-import": 600.0,
    "reverse": 600.0,
    "history": 30.0,
    "verify": 600.0,
    "export": 600.0,
    "generate": 20.0,
}


class Runtime:
    """Everything that one command may need, made when first asked for."""

    def __init__(self, settings: Settings, operation: Operation) -> None:
        """Build nothing yet."""
        self._settings = settings
        self.operation = operation
        self._closing = contextlib.ExitStack()
        #: Whether a commit of this run stands on its server alone, and on no standby for certain.
        self.unreplicated = False

    def close(self) -> None:
        """Close what was built, the newest first."""
        self._closing.close()

    @cached_property
    def embedded(self) -> EmbeddedServer:
        """The embedded server, started or not."""
        from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer

        return EmbeddedServer(EmbeddedPaths(self._settings.data_dir / "postgres"))

    @cached_property
    def psql_programs(self) -> Path | None:
        """Where the psql of the embedded server is; None when another database is used."""
        if self._settings.database.kind != "embedded":
            return None
        from tokenctl.storage.embedded import binaries

        return binaries.programs_dir(None)

    @cached_property
    def metrics(self) -> Metrics:
        """What this run measures, added to what earlier runs did."""
        from tokenctl.statefile import StateFile
        from tokenctl.telemetry.metrics import SCHEMA, Metrics

        return Metrics(StateFile(self._settings.state_dir / "metrics.db", SCHEMA))

    @cached_property
    def emit(self) -> Emit:
        """Who hears what the mechanisms tell."""
        from tokenctl.observer import observer
        from tokenctl.resilience.events import Event, Unreplicated

        observe = observer(self.metrics)

        def heard(event: Event) -> None:
            self.unreplicated |= isinstance(event, Unreplicated)
            observe(event)

        return heard

    @cached_property
    def state(self) -> StateFile:
        """What commands learn from each other: breakers and rate limits."""
        from tokenctl.resilience.notes import SCHEMA
        from tokenctl.statefile import StateFile

        return StateFile(self._settings.state_dir / "state.db", SCHEMA)

    @cached_property
    def breakers(self) -> Breakers:
        """The circuit breakers of this machine."""
        import random

        from tokenctl import statefile
        from tokenctl.resilience.breaker import Breakers

        return Breakers(
            self.state,
            clock=statefile.monotonic,
            boot_id=statefile.boot_id(),
            rng=random.Random(),  # noqa: S311 — it spreads probes, it hides nothing
            emit=self.emit,
            force=self._settings.ignore_breaker,
        )

    @cached_property
    def rate_limiter(self) -> RateLimiter:
        """How often commands may be run on this machine."""
        from tokenctl import statefile
        from tokenctl.resilience.ratelimit import RateLimiter

        return RateLimiter(self.state, clock=statefile.monotonic, boot_id=statefile.boot_id(), emit=self.emit)

    @property
    def database_breaker(self) -> str | None:
        """Its name; the embedded server is started rather than waited for, and has none."""
        database = self._settings.database
        return None if database.kind == "embedded" else f"db:{database.identity[:8]}"

    @cached_property
    def keyring(self) -> Keyring:
        """Gemini's keys, and what this machine knows of them."""
        from tokenctl import statefile
        from tokenctl.clients import keyfile, keymarks
        from tokenctl.clients.keyring import Keyring

        gemini = self._settings.gemini
        marks = statefile.StateFile(self._settings.state_dir / "keys.db", keymarks.SCHEMA)
        return Keyring(
            keyfile.load(gemini.keys_file, gemini.key),
            breakers=self.breakers,
            marks=keymarks.KeyMarks(marks, emit=self.emit),
            state=self.state,
            clock=statefile.monotonic,
            boot_id=statefile.boot_id(),
            emit=self.emit,
        )

    @cached_property
    def generator(self) -> Generator:
        """Images from Gemini; the library is loaded with the first call."""
        from tokenctl.clients.generator import Generator

        gemini = self._settings.gemini

        def connect() -> Gemini:
            from tokenctl.clients.gemini import Gemini  # half a second

            return Gemini(gemini.base_url, gemini.api_version)

        generator = Generator(connect, self.keyring, breakers=self.breakers, metrics=self.metrics, emit=self.emit)
        self._closing.callback(generator.close)
        return generator

    @cached_property
    def deadline(self) -> Deadline:
        """How long the command may take. Without a limit set, what most of its kind take many times over.

        A limit set for all commands must not end a long import half way, so there it bounds each step;
        a flag means what it says.
        """
        from tokenctl.resilience.deadline import Deadline

        name, given = self.operation.name, self._settings.timeout_s
        if name == "generate":  # whatever Gemini took, the ledger is told what came of it
            return Deadline(min(given or math.inf, _STEP_TIMEOUTS_S[name]), each_step=True)
        steps = name in _STEP_TIMEOUTS_S and self._settings.origins["timeout"] != "flag"
        default = _STEP_TIMEOUTS_S.get(name) if steps else _TIMEOUTS_S.get(name)
        return Deadline(given if given is not None else default, each_step=steps)

    @cached_property
    def asking(self) -> Deadline:
        """How long Gemini may be asked for one image, if --timeout says it: the image's quality has limits too."""
        from tokenctl.resilience.deadline import Deadline

        said = self._settings.origins["timeout"] == "flag"
        return Deadline(self._settings.timeout_s if said else None)

    @cached_property
    def setting_up(self) -> Deadline:
        """How long the embedded server may take to start and migrate, which no other limit than --timeout counts."""
        from tokenctl.resilience.deadline import Deadline

        return self.deadline if self._settings.origins["timeout"] == "flag" else Deadline(None)

    @cached_property
    def database(self) -> Database:
        """The database that the settings name."""
        from tokenctl.storage.database import Database

        revive: Callable[[], str] | None = None
        conninfo = self._settings.database.conninfo
        if self._settings.database.kind == "embedded":
            from tokenctl.storage import local

            server = self.embedded
            conninfo = local.conninfo(server)

            def revive() -> str:
                ready = local.prepare(server, self.setting_up)
                if self.setting_up is not self.deadline:
                    self.deadline.restart()
                return ready

        database = Database(
            conninfo,
            application_name=self.operation.application_name,
            deadline=self.deadline,
            breaker=self._guard(conninfo),
            protected=self._settings.protected,
            password_file=self._settings.password_file,
            emit=self.emit,
            revive=revive,
        )
        self._closing.callback(database.close)
        return database

    def _guard(self, conninfo: str) -> Breaker | None:
        if (name := self.database_breaker) is None:
            return None
        from tokenctl.resilience.breaker import BreakerPolicy
        from tokenctl.storage.target import Target

        return self.breakers.breaker(name, f"the database at {Target(conninfo).where}", BreakerPolicy())

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[Connection]:
        """A connection that may change the schema, whatever the schema is now."""
        if self._settings.database.kind == "embedded":
            from tokenctl.storage import local

            with local.maintenance(self.embedded, self.setting_up) as connection:
                yield connection
            return
        with self.database.bare() as connection, self.database.watched(connection):
            yield connection

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger's reads and single-user writes."""
        from tokenctl.storage.ledger import Ledger

        return Ledger(
            self.database,
            request_id=self.operation.request_id,
            claimed_by=self.operation.claimed_by,
            wrote=self._forget_balance,
        )

    @cached_property
    def cache(self) -> Cache:
        """What may be some seconds old."""
        from tokenctl.resilience.cache import Cache

        cache = Cache(self._settings.cache_dir, emit=self.emit)
        self._closing.callback(cache.close)
        return cache

    @cached_property
    def balances(self) -> Reader:
        """Balances as they are shown, from the cache while young enough."""
        from tokenctl.services.balances import Reader

        return Reader(
            ledger=lambda: self.ledger,
            cache=self.cache,
            identity=self._settings.database.identity,
            ttl_s=self._settings.cache_ttl_s,
            ledger_name=self._settings.profile,
            metrics=self.metrics,
        )

    def _forget_balance(self, user_id: str | None) -> None:
        from tokenctl.services import balances

        balances.forget(self.cache, self._settings.database.identity, user_id)

    @cached_property
    def history(self) -> History:
        """What the ledger says of one user."""
        from tokenctl.storage.history import History

        return History(self.database)

    @cached_property
    def batches(self) -> Batches:
        """Imports and reversals as they stand."""
        from tokenctl.storage.batches import Batches

        return Batches(self.database)

    @cached_property
    def inspection(self) -> Inspection:
        """One look at the whole ledger; closed with the runtime at the latest."""
        from tokenctl.storage.inspection import Inspection

        inspection = Inspection(
            self.database, request_id=self.operation.request_id, claimed_by=self.operation.claimed_by
        )
        self._closing.callback(inspection.close)
        return inspection

    @cached_property
    def export(self) -> Export:
        """One snapshot of the entries; closed with the runtime at the latest."""
        from tokenctl.storage.exports import Export

        export = Export(self.database)
        self._closing.callback(export.close)
        return export

    @cached_property
    def generations(self) -> GenerationStore:
        """The ledger's side of paid jobs."""
        from tokenctl.storage.generations import GenerationStore

        return GenerationStore(
            self.database,
            request_id=self.operation.request_id,
            claimed_by=self.operation.claimed_by,
            wrote=self._forget_balance,
        )

    def batch_store(self, batch_id: str, *, record: bool = True) -> BatchStore:
        """One batch at work, closed with the runtime at the latest; `record` keeps its refusal in the audit log."""
        from tokenctl.storage.imports import BatchStore

        store = BatchStore(
            self.database,
            batch_id,
            request_id=self.operation.request_id,
            claimed_by=self.operation.claimed_by,
            wrote=lambda: self._forget_balance(None),
            record=record,
        )
        self._closing.callback(store.close)
        return store
