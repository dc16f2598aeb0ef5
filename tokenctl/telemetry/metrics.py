"""Counting and timing, kept beyond the process in a file that all processes share.

A command lives for half a second and nobody scrapes it. So it counts in memory, adds its
numbers to the file when it ends, and `tokenctl metrics` shows the file. Measuring never
stops a command: what cannot be kept is lost, and a measurement that does not fit its
metric is counted as dropped (tests/unit/telemetry/test_catalog.py finds those beforehand).
"""

from __future__ import annotations

import json
import math
import threading
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenctl.telemetry.catalog import ALL, METRICS_DROPPED, Metric
from tokenctl.telemetry.series import Series

if TYPE_CHECKING:
    import sqlite3

    from tokenctl.statefile import StateFile

#: One more, and a label has values without end: those series are dropped.
MAX_SERIES = 2_000
MAX_LABEL_CHARACTERS = 128

#: Labels are a JSON list in the catalog's order; `value` is a histogram's sum. A bucket holds
#: what lies between the bound below and its own, so that equal numbers are added once.
SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
  metric TEXT NOT NULL,
  labels TEXT NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (metric, labels)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
  metric TEXT NOT NULL,
  labels TEXT NOT NULL,
  bound REAL NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (metric, labels, bound)
) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO series VALUES (?, ?, ?) ON CONFLICT (metric, labels) DO UPDATE SET value = value + excluded.value
"""
_SET = "INSERT INTO series VALUES (?, ?, ?) ON CONFLICT (metric, labels) DO UPDATE SET value = excluded.value"
_RAISE = """
INSERT INTO series VALUES (?, ?, ?) ON CONFLICT (metric, labels) DO UPDATE SET value = max(value, excluded.value)
"""
_FILL = """
INSERT INTO buckets VALUES (?, ?, ?, ?) ON CONFLICT (metric, labels, bound) DO UPDATE SET count = count + excluded.count
"""

#: A metric's name and its labels' values.
_Key = tuple[str, tuple[str, ...]]


@dataclass
class _Pending:
    """What was measured since the last flush."""

    added: dict[_Key, float] = field(default_factory=lambda: defaultdict(float))
    latest: dict[_Key, float] = field(default_factory=dict)
    risen: dict[_Key, float] = field(default_factory=dict)
    filled: dict[_Key, dict[float, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))


class Metrics:
    """What this process measures; any thread may call it."""

    def __init__(self, state: StateFile | None) -> None:
        """Open nothing. `state` is where the numbers are kept, None for nowhere."""
        self._state = state
        self._lock = threading.Lock()
        self._pending = _Pending()

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add `amount`, zero or more, to a counter."""
        self._record(metric, "counter", amount, labels)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Give a gauge its value; what it was before is forgotten."""
        self._record(metric, "gauge", value, labels)

    def rise(self, metric: Metric, value: float, **labels: str) -> None:
        """Give a gauge its value unless it has a greater one: a moment that is told later than a newer one."""
        self._record(metric, "gauge", value, labels, rises=True)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Put one value, zero or more and in the metric's unit, into a histogram."""
        self._record(metric, "histogram", value, labels)

    def flush(self) -> str | None:
        """Add what was measured since the last flush to the file, in one transaction.

        Never raises. When the file cannot be used the numbers are lost and the answer says why.
        """
        with self._lock:
            pending, self._pending = self._pending, _Pending()
        if self._state is None or not (pending.added or pending.latest or pending.risen):
            return None
        from tokenctl.statefile import StateUnusable  # not before there is something to write

        try:
            with self._state.transaction() as connection:
                _write(connection, pending)
        except StateUnusable as error:
            return str(error)
        return None

    def stored(self) -> list[Series]:
        """Every series in the file, by name and labels. Raises StateUnusable."""
        if self._state is None:
            return []
        with self._state.transaction(write=False) as connection:
            return _read(connection)

    def _record(self, metric: Metric, kind: str, value: float, labels: dict[str, str], *, rises: bool = False) -> None:
        fits = metric.kind == kind and labels.keys() == set(metric.labels) and math.isfinite(value)
        if not fits or (value < 0 and kind != "gauge"):
            metric, value, labels = METRICS_DROPPED, 1, {"cause": "misuse"}
        key = (metric.name, tuple(labels[name] for name in metric.labels))
        with self._lock:
            if metric.kind == "gauge":
                into = self._pending.risen if rises else self._pending.latest
                into[key] = max(value, into.get(key, value)) if rises else value
                return
            self._pending.added[key] += value
            if metric.kind == "histogram":
                place = bisect_left(metric.buckets, value)
                bound = metric.buckets[place] if place < len(metric.buckets) else math.inf
                self._pending.filled[key][bound] += 1


def _write(connection: sqlite3.Connection, pending: _Pending) -> None:
    """Add the numbers; a series that the file has no room for is counted as dropped instead."""
    dropped: _Key = (METRICS_DROPPED.name, ("limit",))
    room: int | None = None
    for key in [*pending.added, *pending.latest, *pending.risen]:
        if connection.execute("SELECT 1 FROM series WHERE metric = ? AND labels = ?", _row(key)).fetchone():
            continue
        if room is None:
            room = MAX_SERIES - int(connection.execute("SELECT count(*) FROM series").fetchone()[0])
        room -= 1
        if room < 0 and key[0] != METRICS_DROPPED.name:
            pending.added.pop(key, None)
            pending.latest.pop(key, None)
            pending.risen.pop(key, None)
            pending.filled.pop(key, None)
            pending.added[dropped] += 1
    connection.executemany(_ADD, [(*_row(key), value) for key, value in pending.added.items()])
    connection.executemany(_SET, [(*_row(key), value) for key, value in pending.latest.items()])
    connection.executemany(_RAISE, [(*_row(key), value) for key, value in pending.risen.items()])
    connection.executemany(
        _FILL,
        [(*_row(key), bound, n) for key, filled in pending.filled.items() for bound, n in filled.items()],
    )


def _row(key: _Key) -> tuple[str, str]:
    """A series as the file names it: label values short, without half characters, and as JSON all ASCII."""
    name, labels = key
    return name, json.dumps([str(value).encode("utf-8", "replace").decode()[:MAX_LABEL_CHARACTERS] for value in labels])


def _read(connection: sqlite3.Connection) -> list[Series]:
    """The series that this version knows; what others left behind, or a person wrote, is passed over."""
    counts: dict[tuple[str, str], list[int]] = {}
    for name, labels, bound, count in connection.execute("SELECT metric, labels, bound, count FROM buckets"):
        metric = ALL.get(name)
        if metric is None or not isinstance(bound, float) or not isinstance(count, int) or count < 0:
            continue
        into = counts.setdefault((name, labels), [0] * (len(metric.buckets) + 1))
        # A bound that another version had counts towards the next one above, where it certainly belongs.
        into[bisect_left(metric.buckets, bound)] += count
    found = []
    for name, text, value in connection.execute("SELECT metric, labels, value FROM series ORDER BY metric, labels"):
        metric, values = ALL.get(name), _labels(text)
        if metric is None or values is None or len(values) != len(metric.labels):
            continue
        if isinstance(value, float) and math.isfinite(value):
            buckets = counts.get((name, text), [0] * (len(metric.buckets) + 1)) if metric.kind == "histogram" else []
            found.append(Series(metric, values, value, tuple(buckets)))
    return found


def _labels(text: str) -> tuple[str, ...] | None:
    try:
        values = json.loads(text)
        "".join(values).encode()  # half a character can be told as JSON and not to Prometheus
    except (ValueError, TypeError):
        return None
    return tuple(values) if isinstance(values, list) else None
