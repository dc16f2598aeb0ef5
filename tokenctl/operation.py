"""What every command runs inside: its name, request id, who asks, and the time it takes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from tokenctl.errors import TokenctlError

if TYPE_CHECKING:
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


@contextlib.contextmanager
def running(name: str, settings: Settings) -> Iterator[Operation]:
    """Run a command: errors that leave it say which operation and request they belong to."""
    operation = Operation(name, settings.request_id or uuid.uuid4().hex, settings.claimed_by)
    try:
        yield operation
    except TokenctlError as error:
        error.context = {"operation": name, **error.context}
        raise
