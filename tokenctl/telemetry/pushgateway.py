"""Pushing to a Prometheus Pushgateway, for machines that nobody scrapes."""

from __future__ import annotations

import base64
import re
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from urllib.parse import unquote, urlsplit

from tokenctl.errors import GatewayUnavailable

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ANSWER_BYTES = 2_000
_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Gateway:
    """Where a Pushgateway is. `where` may be shown; the credentials never."""

    where: str
    secure: bool
    host: str
    port: int | None
    path: str
    credentials: str | None = field(repr=False, default=None)


def gateway(url: str) -> Gateway:
    """The gateway that the URL names. Raises ValueError with a sentence that does not repeat the URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_gateway() from error
    if not _PRINTABLE.fullmatch(url) or parts.scheme not in ("http", "https") or not host:
        raise _no_gateway()
    if parts.query or parts.fragment:
        raise ValueError("has a ? or a # in it, and a Pushgateway's URL has neither")
    path = parts.path.rstrip("/")
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Gateway(where, parts.scheme == "https", host, port, path, credentials)


def _no_gateway() -> ValueError:
    return ValueError("is not the URL of a Pushgateway, such as http://127.0.0.1:9091")


def push(target: Gateway, job: str, text: str, *, timeout_s: float) -> None:
    """Make `text`, in Prometheus's format, all that the gateway holds of `job`.

    One attempt, over after `timeout_s` seconds whatever the network does. Raises GatewayUnavailable.
    """
    answers: SimpleQueue[str | None] = SimpleQueue()
    # In a thread, because looking up a name and a gateway that answers a byte at a time
    # know no limit. It is a daemon: what is given up does not keep the process alive.
    threading.Thread(target=lambda: answers.put(_failure(target, job, text, timeout_s)), daemon=True).start()
    try:
        why = answers.get(timeout=timeout_s)
    except Empty:
        why = f"did not answer within {timeout_s:g} s"
    if why is not None:
        raise GatewayUnavailable(f"{target.where} {why}", hint="push again; a second push replaces the first")


def _failure(target: Gateway, job: str, text: str, timeout_s: float) -> str | None:
    """What went wrong, None for nothing."""
    kind = HTTPSConnection if target.secure else HTTPConnection
    headers = {"Content-Type": _CONTENT_TYPE}
    if target.credentials is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(target.credentials.encode()).decode()
    try:
        connection = kind(target.host, target.port, timeout=timeout_s)
        try:
            # PUT replaces what an earlier push of the job left; POST would keep series that are gone.
            connection.request("PUT", f"{target.path}/metrics/job/{job}", text.encode(), headers)
            answer = connection.getresponse()
            said = answer.read(_ANSWER_BYTES).decode("utf-8", "replace").strip()
        finally:
            connection.close()
    except TimeoutError:
        return f"did not answer within {timeout_s:g} s"
    except (OSError, HTTPException, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"
    if 200 <= answer.status < 300:  # noqa: PLR2004 — what HTTP calls a success
        return None
    return f"answered {answer.status} {answer.reason}: {said.splitlines()[0]}" if said else f"answered {answer.status}"
