"""Waiting for a real process without sleeping: ask until it is so, and give up at a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_NEVER_SET = threading.Event()


def until(condition: Callable[[], T], what: str, *, timeout_s: float = 30.0, every_s: float = 0.02) -> T:
    """Call `condition` every `every_s` seconds until it returns something true, and return that.

    After `timeout_s` seconds: TimeoutError, naming `what` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            message = f"still not so after {timeout_s:g} s: {what}"
            raise TimeoutError(message)
        _NEVER_SET.wait(every_s)
    return answer
