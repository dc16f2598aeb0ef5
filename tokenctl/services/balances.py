"""Reading balances: known users in the order asked for, how old each number is, and who is unknown.

A number that is some seconds old may come from the cache. Nothing decides on it: every write
reads the account itself, and forgets here what it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tokenctl.errors import TimedOut, TokenctlError, Unavailable, UsageError, UserNotFound
from tokenctl.models import Balance, Change
from tokenctl.resilience.cache import Cache, Hit
from tokenctl.telemetry import catalog
from tokenctl.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from tokenctl.storage.ledger import Ledger  # with its driver, 110 ms that a number from the cache does not cost

NAMESPACE = "balance"
#: For more users at once the database is asked, which is as quick, and they would push out everybody else.
MANY = 1000


@dataclass(frozen=True)
class Balances:
    """Known users, the error to end with when some were unknown, and what came from the cache.

    `ages_s` has the age in seconds of every number that did; `stale` says why older ones than usual are shown.
    """

    known: tuple[Balance, ...]
    unknown: UserNotFound | None
    ages_s: Mapping[str, float] = field(default_factory=dict)
    stale: TokenctlError | None = None


@dataclass(frozen=True)
class Reader:
    """Balances of one ledger: from the cache while young enough, else in one query.

    `ledger` is made when it is needed, because its driver costs more than the cache does;
    `identity` tells this ledger from others in the same cache; `ttl_s` of 0 means no cache.
    """

    ledger: Callable[[], Ledger]
    cache: Cache
    identity: str
    ttl_s: float
    ledger_name: str
    metrics: Metrics

    def read(self, users: Sequence[str], *, fresh: bool = False, allow_stale: bool = False) -> Balances:
        """The balances of `users`; a name given twice answers twice.

        With the database down the last known numbers are shown if `allow_stale` says so and all
        of them are known; else its error is raised, and tells that they could be.
        """
        hits = {} if fresh or len(users) > MANY else self._young(users)
        missing = [user for user in dict.fromkeys(users) if user not in hits]
        stale: TokenctlError | None = None
        old: dict[str, Hit] = {}
        asked: dict[str, Balance] = {}
        if missing:
            try:
                asked = self._ask(missing)
            except (Unavailable, TimedOut) as error:
                old = self._last_known(missing, error, allow_stale=allow_stale)
                stale = error
        self._count("cache", len(hits))
        hits |= old
        found = {**{user: hit.value for user, hit in hits.items()}, **asked}
        self._count("stale", len(old))
        self._count("db", len(asked))
        for balance in asked.values():
            self.metrics.observe(catalog.ACCOUNT_BALANCE, balance.balance)
        unknown = [user for user in missing if user not in found]
        return Balances(
            tuple(found[user] for user in users if user in found),
            not_found(self.ledger(), unknown, ledger_name=self.ledger_name) if unknown else None,
            {user: hit.age_s for user, hit in hits.items()},
            stale,
        )

    def read_at(self, users: Sequence[str], at: datetime, *, now: datetime) -> Balances:
        """What `users` had at an earlier moment, from their entries; raises UsageError for one to come."""
        ledger = self.ledger()
        demand_past(now, at)
        found = ledger.balances(users, at)
        self._count("db", len(found))
        unknown = [user for user in dict.fromkeys(users) if user not in found]
        return Balances(
            tuple(found[user] for user in users if user in found),
            not_found(ledger, unknown, ledger_name=self.ledger_name) if unknown else None,
        )

    def _ask(self, users: Sequence[str]) -> dict[str, Balance]:
        """Ask the ledger, and keep what it says for the next runs."""
        ticket = self.cache.ticket(NAMESPACE) if self.ttl_s > 0 and len(users) <= MANY else None
        found = self.ledger().balances(users)
        self.cache.put_many(
            NAMESPACE, {self._key(user): _stored(one) for user, one in found.items()}, self.ttl_s, ticket=ticket
        )
        return found

    def _young(self, users: Sequence[str]) -> dict[str, Hit]:
        keys = dict.fromkeys(map(self._key, users))
        return self._by_user(self.cache.get_many(NAMESPACE, keys, max_age_s=self.ttl_s))

    def _last_known(self, users: Sequence[str], error: TokenctlError, *, allow_stale: bool) -> dict[str, Hit]:
        kept = {} if self.ttl_s <= 0 else self._by_user(self.cache.get_stale(NAMESPACE, map(self._key, users)))
        if len(kept) < len(users):
            raise error
        if not allow_stale:
            oldest = max(hit.age_s for hit in kept.values())
            error.hint = f"{error.hint}\nwhat was known {ago(oldest)} ago: --allow-stale shows it".strip()
            raise error
        return kept

    def _by_user(self, hits: Mapping[str, Hit]) -> dict[str, Hit]:
        """The hits by user, with balances as values; what is none, as another version may keep it, is not there."""
        read = {key.removeprefix(self._key("")): Hit(_balance(hit.value), hit.age_s) for key, hit in hits.items()}
        return {user: hit for user, hit in read.items() if hit.value is not None}

    def _key(self, user: str) -> str:
        return f"{self.identity}:{user}"

    def _count(self, source: str, times: int) -> None:
        if times:
            self.metrics.count(catalog.BALANCE_CHECKS, times, source=source)


def forget(cache: Cache, identity: str, user_id: str | None) -> None:
    """Drop what is known of a user who was written to just now; None for all users."""
    if user_id is None:
        cache.forget_all(NAMESPACE)
    else:
        cache.forget(NAMESPACE, f"{identity}:{user_id}")


def demand_past(now: datetime, at: datetime) -> None:
    """Raise UsageError for a moment that has not come by the database's clock."""
    if at > now:
        now = now.astimezone(UTC)
        raise UsageError(
            f"--as-of {at:%Y-%m-%d %H:%M:%S} UTC has not come: to the database it is {now:%Y-%m-%d %H:%M:%S} UTC",
            hint=f"a date means its end; name a time of today, such as {now:%Y-%m-%dT%H:%M:00Z}",
        )


def ago(seconds: float) -> str:
    """An age in words: seconds below two minutes, then minutes, then hours."""
    if seconds < 120:  # noqa: PLR2004 — two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004 — two hours


def not_found(ledger: Ledger, missing: Sequence[str], *, ledger_name: str, granting: bool = False) -> UserNotFound:
    """The error for unknown users, with the nearest known ids when there is just one; who is `granting` may make it."""
    if len(missing) > 1:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")  # noqa: PLR2004
        return UserNotFound(f"{len(missing)} users are not in ledger {ledger_name}: {shown}", users=list(missing))
    near = ledger.nearest(missing[0])
    hint = "ids are compared letter by letter: look for a typing mistake"
    if granting:
        hint = "grant-bonus --new-user and batch-import make users"
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    return UserNotFound(f"no user '{missing[0]}' in ledger {ledger_name}", hint=hint, users=list(missing), nearest=near)


def _stored(balance: Balance) -> dict[str, Any]:
    change = balance.last_change
    kept = None if change is None else {**asdict(change), "at": change.at.isoformat()}
    return {**asdict(balance), "last_change": kept}


def _balance(value: Any) -> Balance | None:
    """The balance that `_stored` made this of; None for anything else."""
    try:
        change = value["last_change"]
        made = None if change is None else Change(**{**change, "at": datetime.fromisoformat(change["at"])})
        return Balance(**{**value, "last_change": made})
    except (KeyError, TypeError, ValueError):
        return None
