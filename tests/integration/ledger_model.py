"""The ledger in plain Python: lists and dictionaries, one user after the other, nothing clever.

Each method answers the outcome that the function of the same purpose must answer, and
changes the model as that must change the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BIGGEST = 2**53 - 1
MOST_CALLS = 3

Content = tuple[str, int, str, str | None, int | None]


@dataclass
class Entry:
    """One transaction."""

    amount: int
    kind: str
    reason: str
    ticket: str | None
    key: str
    request: str
    reverses: int | None = None
    batch: str | None = None

    @property
    def content(self) -> Content:
        return self.kind, self.amount, self.reason, self.ticket, self.reverses


@dataclass
class Job:
    """A generation and its hold."""

    user: str
    amount: int
    key: str
    state: str = "open"
    expired: bool = False
    attempts: int = 0
    lease: str | None = None
    released_by: str | None = None

    @property
    def holds(self) -> bool:
        return self.state == "open" and not self.expired


@dataclass
class Model:
    """Users by name with their entries in order; jobs by id."""

    users: dict[str, list[Entry]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    #: The batch that a batch reverses.
    reversals: dict[str, str] = field(default_factory=dict)

    def balance(self, user: str) -> int:
        return sum(entry.amount for entry in self.users.get(user, []))

    def held(self, user: str) -> int:
        return sum(job.amount for job in self.jobs.values() if job.user == user and job.holds)

    def is_reversed(self, user: str, seq: int) -> bool:
        """A reversal that was reversed in its turn does not count."""
        later = [n for n, entry in enumerate(self.users[user], 1) if entry.reverses == seq]
        return bool(later) and not self.is_reversed(user, later[0])

    def grant(
        self, user: str, amount: int, *, reason: str, ticket: str | None, key: str, request: str, new: bool
    ) -> str:
        if user not in self.users:
            if not new:
                return "unknown_user"
            self.users[user] = []
        return self._post(user, Entry(amount, "bonus", reason, ticket, key, request))

    def reverse(self, user: str, seq: int, *, key: str | None, request: str) -> str:
        if user not in self.users:
            return "unknown_user"
        entries = self.users[user]
        if seq > len(entries):
            return "unknown_entry"
        before = next((entry for entry in entries if entry.reverses == seq), None)
        if before is not None and (before.request != request if key is None else before.key != key):
            return "already_reversed"
        original = entries[seq - 1]
        used = key or (before.key if before is not None else f"reverse:{seq}")
        return self._post(user, Entry(-original.amount, original.kind, "mistake", None, used, request, seq))

    def _post(self, user: str, wanted: Entry) -> str:
        for seq, entry in enumerate(self.users[user], 1):
            if entry.key == wanted.key:
                if entry.content != wanted.content:
                    return "conflict"
                return "replay_reversed" if self.is_reversed(user, seq) else "replayed"
        if wanted.amount < 0 and self.balance(user) - self.held(user) + wanted.amount < 0:
            return "insufficient"
        if self.balance(user) + wanted.amount > BIGGEST:
            return "too_large"
        self.users[user].append(wanted)
        return "applied"

    # --- jobs ------------------------------------------------------------------

    def open(self, name: str, user: str, amount: int, key: str) -> str:
        if user not in self.users:
            return "unknown_user"
        job = next((job for job in self.jobs.values() if (job.user, job.key) == (user, key)), None)
        if job is not None and job.state == "captured":
            return "captured"
        if job is not None and job.holds:
            return "open" if job.amount == amount else "conflict"
        if self.balance(user) - self.held(user) < amount:
            return "insufficient"
        if job is None:
            self.jobs[name] = Job(user, amount, key)
        else:
            # Calls of a hold that ran out stay counted: nobody said that they came to nothing.
            job.attempts = 0 if job.state == "released" else job.attempts
            job.amount, job.state, job.expired, job.lease = amount, "open", False, None
            job.released_by = None
        return "held"

    def claim(self, name: str, request: str) -> str:
        job = self.jobs[name]
        if job.state != "open":
            return job.state
        if job.expired:
            return "expired"
        if job.lease not in (None, request):
            return "busy"
        if job.attempts >= MOST_CALLS:
            return "exhausted"
        job.attempts, job.lease = job.attempts + 1, request
        return "claimed"

    def capture(self, name: str, request: str) -> str:
        """Only whoever claimed it last may be paid."""
        job = self.jobs[name]
        if job.state != "open":
            return job.state
        if job.lease != request:
            return "busy"
        job.state, job.lease, job.released_by = "released", None, request
        wanted = Entry(-job.amount, "generation", "image-2k", None, f"generation:{name}", request)
        outcome = self._post(job.user, wanted)
        if outcome != "applied":
            return outcome
        job.state = "captured"
        return "captured"

    def release(self, name: str, request: str, *, force: bool, past_only: bool) -> str:
        job = self.jobs[name]
        if job.state == "open":
            if not force and job.lease not in (None, request):
                return "busy"
            if past_only and not job.expired:
                return "not_past"
            job.state, job.lease, job.released_by = "released", None, request
        return "already_released" if job.state == "released" and job.released_by != request else job.state

    # --- batches ---------------------------------------------------------------

    def import_(self, batch: str, rows: list[tuple[str, int]], request: str) -> dict[str, int]:
        """Rows of new keys; a user whose sum does not fit is left out whole, and stays unknown who is."""
        by_user: dict[str, list[tuple[int, int]]] = {}
        for line, (user, amount) in enumerate(rows):
            by_user.setdefault(user, []).append((line, amount))
        counts = {"applied": 0, "refused": 0}
        for user, wanted in by_user.items():
            fits = self.balance(user) + sum(amount for _, amount in wanted) <= BIGGEST
            counts["applied" if fits else "refused"] += len(wanted)
            for line, amount in wanted if fits else ():
                entry = Entry(amount, "bonus", "promo", None, f"{batch}-{line}", request, batch=batch)
                self.users.setdefault(user, []).append(entry)
        return counts

    def reverse_batch(self, batch: str, by: str, request: str) -> dict[str, int]:
        """Every entry that counts, by its newest link, each user's smallest first, as far as tokens are available.

        What a batch gave back that undid a reversal of this one is left to the reversal of that batch.
        A user is left out whole whose balance would get too large on the way.
        """
        counts = {"applied": 0, "refused": 0}
        for user, entries in self.users.items():
            newest = [self._newest(user, seq) for seq, entry in enumerate(entries, 1) if entry.batch == batch]
            wanted = [
                (seq, entries[seq - 1])
                for seq, links in newest
                if links % 2 == 0 and not (links and self._descends(entries[seq - 1].batch, batch))
            ]
            most = self.balance(user) - sum(entry.amount for _, entry in wanted if entry.amount < 0)
            available = self.balance(user) - self.held(user)
            for seq, entry in sorted(wanted, key=lambda one: (one[1].amount, one[0])):
                available -= entry.amount
                fits = most <= BIGGEST and (available >= 0 or entry.amount < 0)
                counts["applied" if fits else "refused"] += 1
                if fits:
                    undo = Entry(-entry.amount, entry.kind, "mistake", "T-9", f"reverse:{seq}", request, seq, by)
                    entries.append(undo)
        self.reversals[by] = batch
        return counts

    def _newest(self, user: str, seq: int, links: int = 0) -> tuple[int, int]:
        """The end of the chain of reversals of an entry, and how many they are."""
        later = [n for n, entry in enumerate(self.users[user], 1) if entry.reverses == seq]
        return self._newest(user, later[0], links + 1) if later else (seq, links)

    def _descends(self, batch: str | None, from_: str) -> bool:
        """Whether a batch reverses that one, or one that does, and so on."""
        below = None if batch is None else self.reversals.get(batch)
        return below is not None and (below == from_ or self._descends(below, from_))
