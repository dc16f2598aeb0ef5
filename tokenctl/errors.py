"""Every failure that tokenctl knows, as a class.

A class carries what cron and a person need: a stable `code`, the `exit_code`
that says what to do next, whether trying again can help, and a hint. The
docstring's first line is the title. This module imports nothing of tokenctl.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Fault(StrEnum):
    """What kind of failure a peer's was: it decides whether and how to try again."""

    CONFLICT = "conflict"  # certainly not applied; the same transaction may go through now
    LOCK = "lock"  # somebody holds a lock for too long; certainly not applied
    CANCELLED = "cancelled"  # the server's own time limit; certainly not applied
    STARTING = "starting"  # up, and not serving yet, or a standby: a restart or a failover is under way
    CROWDED = "crowded"  # up, with no connection free
    CONNECT = "connect"  # no answer at all
    LOST = "lost"  # the connection broke after something was sent: nothing is known
    SICK = "sick"  # up and out of disk or memory
    CORRUPT = "corrupt"  # the data itself is damaged
    REFUSED = "refused"  # a rule of the ledger; the peer is well
    CONFIG = "config"  # address, login, rights or schema; only a person can mend it
    BUG = "bug"  # a statement of ours that should never fail


class TokenctlError(Exception):
    """Something went wrong"""

    #: Set where a peer's failure is translated; None for our own refusals.
    fault: Fault | None = None
    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", *, hint: str = "", **context: Any) -> None:
        """Keep `detail` (one sentence), `hint` (what to do) and `context` (for logs and JSON)."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.hint = hint
        self.context = context

    @property
    def title(self) -> str:
        """The kind of failure in a few words, the same for every instance."""
        return title(type(self))


def title(kind: type[TokenctlError]) -> str:
    """The first line of the class's docstring."""
    return (kind.__doc__ or "Something went wrong").splitlines()[0]


class Refused(TokenctlError):
    """A rule of the ledger refuses this"""

    code = "refused"
    exit_code = 1


class InsufficientTokens(Refused):
    """Not enough tokens are available"""

    code = "insufficient-tokens"


class ContentRefused(Refused):
    """Gemini refuses the content"""

    code = "content-refused"


class NoImage(Refused):
    """Gemini made no image"""

    code = "no-image"


class TooExpensive(Refused):
    """It costs more than it may"""

    code = "too-expensive"


class Exhausted(Refused):
    """Gemini was asked as often as it may be for one image"""

    code = "exhausted"


class BalanceTooLarge(Refused):
    """The balance would pass the largest number that JSON can carry"""

    code = "balance-too-large"


class AlreadyReversed(Refused):
    """Already reversed"""

    code = "already-reversed"


class AlreadyReleased(Refused):
    """Already released"""

    code = "already-released"


class ReplayOfReversed(Refused):
    """This was done before and then reversed"""

    code = "replay-of-reversed"


class LedgerBroken(Refused):
    """The ledger does not keep its own rules"""

    code = "ledger-broken"


class Declined(Refused):
    """Answered no"""

    code = "declined"


class NeedsAttention(TokenctlError):
    """A check of health gives a warning"""

    code = "health-warning"
    exit_code = 1


class Unhealthy(TokenctlError):
    """A check of health is critical"""

    code = "health-critical"
    exit_code = 2


class HealthUnknown(TokenctlError):
    """The health cannot be told"""

    code = "health-unknown"
    exit_code = 3


class UsageError(TokenctlError):
    """The command line is wrong"""

    code = "usage"
    exit_code = 2


class ConfirmationMissing(UsageError):
    """A confirmation is missing"""

    code = "confirmation-missing"


class LimitNotConfirmed(UsageError):
    """A configured limit was passed without its confirmation"""

    code = "limit-not-confirmed"


class BadData(TokenctlError):
    """The data is wrong"""

    code = "bad-data"
    exit_code = 65


class KeyConflict(BadData):
    """The idempotency key was used with other content"""

    code = "key-conflict"


class NoInput(TokenctlError):
    """The input cannot be read"""

    code = "no-input"
    exit_code = 66


class UserNotFound(TokenctlError):
    """No such user"""

    code = "user-not-found"
    exit_code = 67


class NotFound(TokenctlError):
    """No such transaction, batch or hold"""

    code = "not-found"
    exit_code = 1


class Unavailable(TokenctlError):
    """The database does not answer"""

    code = "unavailable"
    exit_code = 69
    retryable = True


class BreakerOpen(Unavailable):
    """Marked as down by earlier failures"""

    code = "breaker-open"


class GatewayUnavailable(Unavailable):
    """The Pushgateway does not take the metrics"""

    code = "gateway-unavailable"


class GeminiUnavailable(Unavailable):
    """Gemini does not answer"""

    code = "gemini-unavailable"


class Bug(TokenctlError):
    """A bug in tokenctl"""

    code = "bug"
    exit_code = 70


class Corrupted(TokenctlError):
    """The database's data is damaged"""

    code = "corrupted"
    exit_code = 70


class CannotCreate(TokenctlError):
    """An output file cannot be made"""

    code = "cannot-create"
    exit_code = 73


class OutputFailed(TokenctlError):
    """The output could not be written"""

    code = "output-failed"
    exit_code = 74


class PipeClosed(TokenctlError):
    """The reader of the output has gone"""

    code = "pipe-closed"
    exit_code = 141


class TryLater(TokenctlError):
    """Not now; try again later"""

    code = "try-later"
    exit_code = 75
    retryable = True


class LockHeld(TryLater):
    """Somebody else is at it"""

    code = "lock-held"


class TimedOut(TryLater):
    """Out of time"""

    code = "timed-out"


class RateLimited(TryLater):
    """Too often in too short a time"""

    code = "rate-limited"


class OutcomeUnknown(TryLater):
    """Whether it was committed is unknown"""

    code = "outcome-unknown"


class NotAllowed(TokenctlError):
    """Not allowed"""

    code = "not-allowed"
    exit_code = 77


class ConfigError(TokenctlError):
    """The configuration is wrong"""

    code = "config"
    exit_code = 78


class SchemaMismatch(ConfigError):
    """The database's schema does not fit this tokenctl"""

    code = "schema-mismatch"


#: What each exit code tells cron and people to do. `health` has four of its own, which monitoring systems read.
EXIT_CODES = {
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
    130: "Ended by Ctrl-C.",
    141: "The reader of the output has gone.",
    143: "Ended by SIGTERM or SIGHUP.",
}
HEALTH_CODES = {0: "All is well.", 1: "A warning.", 2: "Something is critical.", 3: "It cannot be told."}


def exit_code(command: str, error: TokenctlError) -> int:
    """What `command` ends with for `error`: for `health` whatever keeps it from looking is 3, unknown."""
    if command != "health" or isinstance(error, PipeClosed) or error.code.startswith("health-"):
        return error.exit_code
    return HealthUnknown.exit_code


def kinds() -> dict[int, list[type[TokenctlError]]]:
    """Every kind of failure by the exit code that it ends with, those of `health` aside."""
    found: dict[int, list[type[TokenctlError]]] = {}
    for one in _below(TokenctlError):
        if not one.code.startswith("health-"):
            found.setdefault(one.exit_code, []).append(one)
    return found


def _below(kind: type[TokenctlError]) -> list[type[TokenctlError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _below(child))]
