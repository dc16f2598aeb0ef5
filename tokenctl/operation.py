"""What every command runs inside, from its request id to its one log line.

In this order: who asks and under which request id; how often that is allowed; the body
itself; what it cost and how it ended, as metrics and a log line. An error that leaves
says which operation, request and user it belongs to.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from tokenctl import __version__
from tokenctl.errors import Bug, TokenctlError, exit_code
from tokenctl.telemetry import catalog, logs

if TYPE_CHECKING:
    from tokenctl.runtime import Runtime
    from tokenctl.settings import Settings


@dataclass(frozen=True)
class Operation:
    """One run of one command."""

    name: str
    request_id: str
    claimed_by: str
    started: float = field(default_factory=monotonic)

    @property
    def took_ms(self) -> int:
        """Milliseconds since the start."""
        return round((monotonic() - self.started) * 1000)

    @property
    def application_name(self) -> str:
        """What the database shows for our connections: tokenctl/<command>/<request id>."""
        return f"tokenctl/{self.name}/{self.request_id}"


#: What a person is told whose commit a crash of the server could still take.
UNREPLICATED = "committed, but perhaps on no standby yet: somebody on the server ended the wait for one"


def begin(name: str, settings: Settings) -> Operation:
    """The run of the command `name` that begins now."""
    return Operation(name, settings.request_id or uuid.uuid4().hex, settings.claimed_by)


@contextlib.contextmanager
def running(
    runtime: Runtime, settings: Settings, *, subject: str | None, warn: Callable[[str], None]
) -> Iterator[None]:
    """Run the body of `runtime.operation`'s command; close the runtime whatever happens.

    `subject` is the user it is about, if any; `warn` prints a line. Raises RateLimited
    before the body begins, and whatever the body raises.
    """
    operation = runtime.operation
    logs.configure(settings.log, verbose=settings.verbose, debug=settings.debug, stderr_write=warn)
    _hide_secrets(settings)
    end: dict[str, Any] = {}
    with logs.bind(request_id=operation.request_id, operation=operation.name, operator=operation.claimed_by):
        try:
            _admit(runtime, settings)
            yield
            end = {"outcome": "ok", "exit_code": 0}
        except TokenctlError as error:
            about = {"operation": operation.name, "cause": _cause(error), "user_id": subject}
            error.context = {**{key: value for key, value in about.items() if value}, **error.context}
            end = {"outcome": error.code, "exit_code": exit_code(operation.name, error)}
            raise
        except Exception as error:
            end = {"outcome": "bug", "exit_code": exit_code(operation.name, Bug())}
            logs.exception(error)
            raise
        except BaseException as stop:  # a signal; of Ctrl-C Python's own exception says no code
            end = {"outcome": "interrupted", "exit_code": getattr(stop, "exit_code", 130)}
            raise
        finally:
            if runtime.unreplicated:
                logs.emit("warning", "unreplicated")
                warn(f"! {UNREPLICATED}")
            runtime.close()
            _record(runtime, settings, end)
            logs.close()


def _admit(runtime: Runtime, settings: Settings) -> None:
    """Ask the rate limit, where the command has one."""
    name = runtime.operation.name
    limit = settings.rate_limits.get(name)
    if limit is not None and limit.limit:  # asked here, so that a command without one opens no file
        runtime.rate_limiter.check(name, f"{settings.claimed_by} {settings.database.identity}", limit)


def _record(runtime: Runtime, settings: Settings, end: dict[str, Any]) -> None:
    operation, metrics = runtime.operation, runtime.metrics
    metrics.count(catalog.OPERATIONS, operation=operation.name, outcome=end["outcome"])
    metrics.observe(catalog.OPERATION_DURATION, monotonic() - operation.started, operation=operation.name)
    trouble = metrics.flush()
    if trouble:
        logs.emit("warning", "trouble", what="metrics", why=trouble)
    expected = end["exit_code"] in (0, 1, 2)
    logs.emit(
        "error" if end["outcome"] == "bug" else "info" if expected else "warning",
        "done",
        **end,
        took_ms=operation.took_ms,
        profile=settings.profile,
        database=settings.database.kind,
        version=__version__,
    )


def _cause(error: TokenctlError) -> str | None:
    """The kind of what was underneath; its text may hold values and passwords."""
    cause = error.__cause__
    while isinstance(cause, TokenctlError):
        cause = cause.__cause__
    return None if cause is None else type(cause).__name__


def _hide_secrets(settings: Settings) -> None:
    logs.hide_address(settings.database.conninfo)
    for secret in settings.secrets:
        logs.hide(secret)
