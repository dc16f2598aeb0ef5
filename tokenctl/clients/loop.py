"""An event loop in a thread of its own, so that whoever waits for it stops waiting on time.

The time limit is total: it holds against a peer that sends a byte every second, against name
resolution, and when a signal comes. (In the main thread a signal's exception could be
swallowed by the loop; and the loop's own name resolution keeps a process from ending.)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tokenctl.resilience.deadline import NoAnswer

T = TypeVar("T")

# How long what was cancelled may take to clean up before it is abandoned.
_GRACE_S = 2.0


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in threads that may be abandoned; the executor's are waited for when Python ends."""

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> list[tuple[Any, ...]]:
        """What socket.getaddrinfo answers."""
        found: asyncio.Future[list[tuple[Any, ...]]] = self.create_future()

        def settle(result: list[tuple[Any, ...]] | None, error: Exception | None) -> None:
            if not found.done():
                found.set_exception(error) if error else found.set_result(result or [])

        def look_up() -> None:
            result, failure = None, None
            try:
                result = socket.getaddrinfo(host, port, **how)
            except Exception as error:  # noqa: BLE001 — raised again where it is waited for
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self.call_soon_threadsafe(settle, result, failure)

        threading.Thread(target=look_up, daemon=True).start()
        return await found


class LoopThread:
    """Runs coroutines one after the other, each within a time limit, until it is closed."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], limit_s: float) -> T:
        """What `work` answers. Raises NoAnswer after `limit_s` seconds; whatever ends the wait cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result(limit_s)
        except TimeoutError:
            raise NoAnswer(f"nothing within {limit_s:.3g} s") from None
        finally:
            future.cancel()  # does nothing when it is done

    def close(self) -> None:
        """Cancel what is left and stop; a thread that does not stop in time is abandoned."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(_GRACE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
