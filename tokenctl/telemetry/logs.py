"""Log lines: JSON in a file that is kept small, or on stderr; with -v a line for people.

Until `configure` finds that somebody wants them, nothing is imported and `emit` does
nothing. Who asks, and for what, is bound once and stands in every line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from tokenctl.telemetry import redaction

if TYPE_CHECKING:
    import logging

    from tokenctl.settings import Log
    from tokenctl.telemetry.logfile import LogFile

P = ParamSpec("P")
T = TypeVar("T")

Level = Literal["debug", "info", "warning", "error"]


#: request_id, operation and operator of the run that is at work, as `bind` has them.
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))
_logger: logging.Logger | None = None
_handlers: list[logging.Handler] = []
_file: LogFile | None = None


def configure(log: Log, *, verbose: bool, debug: bool, stderr_write: Callable[[str], None]) -> None:
    """Begin to log as `log` and -v ask; without either nothing happens.

    `stderr_write` writes one line: it cleans it and adds the line's end. What is wrong with
    the log goes there too, once. `debug` adds the lines of that level to those of -v.
    """
    close()
    if log.file is None and not verbose:
        return
    import logging  # 3 ms that only a log costs

    from tokenctl.telemetry import records

    global _logger, _file  # noqa: PLW0603 — a process has one log, as it has one stderr
    chatty: Level = "debug" if debug else "info"
    if log.file == "-":
        least = min(log.level, chatty, key=records.number) if verbose else log.level
        _handlers.append(records.Lines(least, records.json_line, stderr_write, _bound.get))
    else:
        if log.file is not None:
            from tokenctl.telemetry.logfile import LogFile

            _file = LogFile(log.file, log.max_bytes, complain=stderr_write)
            _handlers.append(records.Lines(log.level, records.json_line, _file.append, _bound.get))
        if verbose:
            _handlers.append(records.Lines(chatty, records.human_line, stderr_write, _bound.get))
    _logger = logging.getLogger(records.OURS)
    _logger.setLevel(min(handler.level for handler in _handlers))
    for handler in _handlers:  # of the root, so that a library's warning comes here and not on stderr as it is
        logging.getLogger().addHandler(handler)


@contextlib.contextmanager
def bind(*, request_id: str, operation: str, operator: str) -> Iterator[None]:
    """Put these into every line that is logged inside."""
    token = _bound.set({"request_id": request_id, "operation": operation, "operator": operator})
    try:
        yield
    finally:
        _bound.reset(token)


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """`work` for another thread, bound as the caller is now: a thread begins with nothing bound."""
    bound = _bound.get()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _bound.set(bound)
        try:
            return work(*args, **kwargs)
        finally:
            _bound.reset(token)

    return run


def emit(level: Level, event: str, /, **fields: object) -> None:
    """Log one event. Only fields that `records.LISTED` names are written out; never raises."""
    if _logger is not None:
        from tokenctl.telemetry import records

        _logger.log(records.number(level), event, extra={"fields": fields})


def exception(error: BaseException) -> None:
    """Log an unexpected error: where it came from, without the values that were at work there."""
    if _logger is not None:
        from tokenctl.telemetry import records

        emit("error", "exception", **records.describe(error))


def hide(secret: str) -> None:
    """Keep `secret` out of every line from now on, in whatever spelling it comes."""
    redaction.hide(secret)


def hide_address(conninfo: str) -> None:
    """Keep the passwords in a connection string out of every line from now on."""
    redaction.hide_address(conninfo)


def close() -> None:
    """Stop logging, and forget the secrets. A second call does nothing."""
    global _logger, _file  # noqa: PLW0603 — as in configure
    if _handlers:
        import logging

        for handler in _handlers:
            logging.getLogger().removeHandler(handler)
    _handlers.clear()
    if _file is not None:
        _file.close()
    _logger = _file = None
    redaction.forget()
