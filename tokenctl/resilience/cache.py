"""Values that may be some seconds old, on disk, for the next runs of the command.

Only what is shown may come from here; nothing decides on it. Whatever is wrong with the
cache is one Trouble event, upon which this run goes on without it; a damaged cache is put
aside, so that the next run begins with an empty one.

A value is as old as the question that led to it. Its age is the larger one of what the wall
clock and the clock since boot say, so that a wall clock that was put back never makes an old
value young; where a clock ran backwards the age is not known, and the value is not used.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tokenctl.resilience.events import CacheAsked, Emit, Trouble, ignore
from tokenctl.statefile import StateUnusable, private_dir

if TYPE_CHECKING:
    from tokenctl.resilience.cachestore import Store

T = TypeVar("T")

#: The layout of a row. Another layout is another directory, so that versions do not meet.
FORMAT = 1
#: Seconds for which a value is kept as the last known one after it was asked for.
KEEP_S = 86_400.0
#: Seconds that a clock may have run backwards unnoticed.
SLACK_S = 2.0

#: Answers the wall clock and a clock that never runs backwards while the machine is up, both in seconds.
Clock = Callable[[], tuple[float, float]]


def clocks() -> tuple[float, float]:
    """The machine's clocks; the second one goes on while it sleeps."""
    return time.time(), time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Busy(StateUnusable):
    """Other processes are at it for too long."""


class PutAside(StateUnusable):
    """It was damaged; the next run begins with an empty one."""


@dataclass(frozen=True)
class Hit:
    """A value, and how many seconds ago it was asked for."""

    value: Any
    age_s: float


@dataclass(frozen=True)
class Ticket:
    """What a namespace was like before a value was asked for: `put_many` takes the value only if it still is."""

    epoch: str
    last: str
    wall_s: float
    steady_s: float


@dataclass(frozen=True)
class Entry:
    """A value as it was kept: when it was asked for by both clocks, for how long, in which epoch."""

    value: Any
    epoch: str
    wall_s: float
    steady_s: float
    ttl_s: float


@dataclass(frozen=True)
class Stats:
    """What the cache holds. `entries` can be shown, as the last known value at least; `oldest_s` in seconds."""

    entries: int = 0
    size_bytes: int = 0
    oldest_s: float | None = None


class Cache:
    """The cache below `directory`; opened by the first call that needs it.

    Each namespace has a row that names its epoch and its last change by random words: an
    entry of another epoch is not there, and a value that was asked for before the last change
    is not taken. So what is forgotten cannot come back from a reader that was slow.
    """

    def __init__(self, directory: Path, *, clock: Clock = clocks, emit: Emit = ignore) -> None:
        """Open nothing yet."""
        self.directory = directory / f"v{FORMAT}"
        self._clock = clock
        self._emit = emit
        self._store: Store | None = None
        self._trouble: StateUnusable | None = None

    def close(self) -> None:
        """Close what was opened; a second call does nothing."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()

    def get_many(self, namespace: str, keys: Iterable[str], *, max_age_s: float) -> dict[str, Hit]:
        """The values of `keys` that are younger than `max_age_s` and than their own time to live.

        Nothing is asked for at 0 seconds.
        """
        wanted = list(keys)
        if max_age_s <= 0:
            self._told(namespace, wanted, "off")
            return {}
        try:
            entries = self._use(lambda store: _entries(store, namespace, wanted))
        except StateUnusable:
            self._told(namespace, wanted, "error")
            return {}
        found = {key: hit for key, entry in entries.items() if (hit := self._fresh(entry, max_age_s))}
        self._told(namespace, found, "hit")
        self._told(namespace, [key for key in wanted if key not in found], "miss")
        return found

    def get_stale(self, namespace: str, keys: Iterable[str]) -> dict[str, Hit]:
        """The last known values of `keys`, up to KEEP_S old, where the real ones cannot be had."""
        wanted = list(keys)
        try:
            entries = self._use(lambda store: _entries(store, namespace, wanted))
        except StateUnusable:
            self._told(namespace, wanted, "error")
            return {}
        found = {key: hit for key, entry in entries.items() if (hit := self._kept(entry))}
        self._told(namespace, found, "stale")
        return found

    def ticket(self, namespace: str) -> Ticket | None:
        """To be taken before a value is asked for, and given to `put_many`; None when there is no cache."""
        wall_s, steady_s = self._clock()

        def look(store: Store) -> Ticket:
            state = _load(store, namespace)
            if state is None:
                with store.transact(retry=True):
                    state = _load(store, namespace) or _change(store, namespace, epoch=None)
            return Ticket(state["epoch"], state["last"], wall_s, steady_s)

        with contextlib.suppress(StateUnusable):
            return self._use(look)
        return None

    def put_many(self, namespace: str, values: Mapping[str, Any], ttl_s: float, *, ticket: Ticket | None) -> None:
        """Keep JSON values for `ttl_s` seconds from the ticket on, unless the namespace changed since then."""
        if ticket is None or not values:
            return
        about = {"epoch": ticket.epoch, "at": ticket.wall_s, "up": ticket.steady_s, "ttl": ttl_s}
        named = {f"{namespace}:{key}": value for key, value in values.items()}
        rows = {name: _blob(name, **about, v=value) for name, value in named.items()}

        def keep(store: Store) -> None:
            from tokenctl.resilience.cachestore import fits

            with store.transact(retry=True):
                state = _load(store, namespace)
                if state is None or state["last"] != ticket.last:
                    return
                # Stored anew, because the row that was stored first goes first when there is no room.
                store.set(namespace, _blob(namespace, epoch=ticket.epoch, last=ticket.last), retry=True)
                for name, blob in rows.items():
                    if fits(blob):
                        store.set(name, blob, expire=KEEP_S, retry=True)

        with contextlib.suppress(StateUnusable):
            self._use(keep)

    def forget(self, namespace: str, key: str) -> None:
        """Drop a value that was changed just now. Makes no cache where there is none."""

        def drop(store: Store) -> None:
            name = f"{namespace}:{key}"
            with store.transact(retry=True):
                state = _load(store, namespace)
                _change(store, namespace, epoch=None if state is None else state["epoch"])
                # diskcache deletes nothing that it takes for expired; a clock may be put back again.
                store.set(name, b"", expire=KEEP_S, retry=True)
                store.delete(name, retry=True)

        self._if_there(drop)

    def forget_all(self, namespace: str) -> None:
        """Drop all values of a namespace, in no time: they are of another epoch from now on."""

        def drop(store: Store) -> None:
            with store.transact(retry=True):
                _change(store, namespace, epoch=None)

        self._if_there(drop)

    def sweep(self) -> int:
        """Delete what is older than KEEP_S; answers how much that was. Raises StateUnusable.

        Each `put_many` deletes a few too, so that nothing piles up.
        """
        if not self._is_there():
            return 0
        wall_s, _ = self._clock()
        return self._use(lambda store: int(store.expire(now=wall_s, retry=True)))

    def stats(self) -> Stats:
        """What the cache holds. Raises StateUnusable."""
        if not self._is_there():
            return Stats()
        self.sweep()

        def look(store: Store) -> Stats:
            ages = [
                hit.age_s
                for namespace, keys in _by_namespace(store).items()
                for entry in _entries(store, namespace, keys).values()
                if (hit := self._kept(entry))
            ]
            size = sum(file.stat().st_size for file in self.directory.iterdir())
            return Stats(len(ages), size, max(ages, default=None))

        return self._use(look)

    def clear(self) -> int:
        """Delete everything, what was put aside included; answers how many entries. Raises StateUnusable."""
        if not self.directory.parent.is_dir():
            return 0
        from tokenctl.resilience.cachestore import drop_aside

        private_dir(self.directory.parent)

        def drop(store: Store) -> int:
            with store.transact(retry=True):
                entries = sum(map(len, _by_namespace(store).values()))
                store.clear(retry=True)
            return entries

        cleared = 0
        with contextlib.suppress(PutAside):
            cleared = self._use(drop) if self._is_there() else 0
        drop_aside(self.directory)
        return cleared

    def _use(self, work: Callable[[Store], T]) -> T:
        """The answer of `work` on the open cache; after the first failure nothing is tried again."""
        if self._trouble is not None:
            raise self._trouble
        try:
            if self._store is None:
                from tokenctl.resilience.cachestore import open_store  # 15 ms, with diskcache

                self._store = open_store(self.directory)
            self._store.limit()
            return work(self._store)
        except Exception as error:  # noqa: BLE001 — a damaged file causes whatever there is
            self._give_up(error)

    def _give_up(self, error: Exception) -> NoReturn:
        from tokenctl.resilience import cachestore

        self.close()
        if cachestore.is_busy(error):
            self._trouble = Busy(f"{self.directory}: others are at it for too long")
        elif cachestore.is_environment(error, self.directory):
            where = "" if isinstance(error, StateUnusable) else f"{self.directory}: "
            self._trouble = StateUnusable(f"{where}{str(error) or type(error).__name__}")
        else:
            cachestore.put_aside(self.directory)
            self._trouble = PutAside(f"{self.directory} was damaged ({cachestore.damage(error)}) and is begun anew")
        self._emit(Trouble("cache", str(self._trouble)))
        raise self._trouble from error

    def _if_there(self, work: Callable[[Store], None]) -> None:
        if self._is_there():
            with contextlib.suppress(StateUnusable):
                self._use(work)

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self._store is not None or self.directory.exists()
        return True  # whether it is cannot be told; opening it will say why

    def _fresh(self, entry: Entry, max_age_s: float) -> Hit | None:
        wall_s, steady_s = self._ages(entry)
        if min(wall_s, steady_s) < -SLACK_S:
            return None
        age_s = max(wall_s, steady_s, 0.0)
        return Hit(entry.value, age_s) if age_s < min(max_age_s, entry.ttl_s) else None

    def _kept(self, entry: Entry) -> Hit | None:
        wall_s, steady_s = self._ages(entry)  # the second one is below zero after a reboot
        age_s = max(wall_s, steady_s, 0.0)
        return Hit(entry.value, age_s) if wall_s >= -SLACK_S and age_s < KEEP_S else None

    def _ages(self, entry: Entry) -> tuple[float, float]:
        wall_s, steady_s = self._clock()
        return wall_s - entry.wall_s, steady_s - entry.steady_s

    def _told(self, namespace: str, keys: Iterable[str], result: str) -> None:
        for _ in keys:
            self._emit(CacheAsked(namespace, result))


def _entries(store: Store, namespace: str, keys: Iterable[str]) -> dict[str, Entry]:
    """The entries of `keys` that are of the namespace's epoch, whatever their age."""
    state = _load(store, namespace)
    if state is None:
        return {}
    rows = {key: row for key in keys if (row := _load(store, f"{namespace}:{key}"))}
    entries = {
        key: Entry(row["v"], row["epoch"], float(row["at"]), float(row["up"]), float(row["ttl"]))
        for key, row in rows.items()
    }
    return {key: entry for key, entry in entries.items() if entry.epoch == state["epoch"]}


def _load(store: Store, name: str) -> dict[str, Any] | None:
    """The row called `name`. A damaged index can lead to another one, so each names itself."""
    blob = store.get(name, retry=True)
    if blob is None:
        return None
    row = json.loads(blob)
    if row["k"] != name:
        raise ValueError("a row under another's name")
    return dict(row)


def _change(store: Store, namespace: str, *, epoch: str | None) -> dict[str, Any]:
    """Note that the namespace changed; without `epoch` a new one begins."""
    state = {"epoch": epoch or os.urandom(8).hex(), "last": os.urandom(8).hex()}
    store.set(namespace, _blob(namespace, **state), retry=True)
    return state


def _blob(name: str, **row: Any) -> bytes:
    return json.dumps({"k": name, **row}, separators=(",", ":"), allow_nan=False).encode()


def _by_namespace(store: Store) -> dict[str, list[str]]:
    """The keys of all rows but the namespaces' own."""
    found: dict[str, list[str]] = {}
    for name in store:
        namespace, colon, key = name.partition(":")
        if colon:
            found.setdefault(namespace, []).append(key)
    return found
