"""A second Ctrl-C, and SIGTERM, where the network is dead: nobody waits for a server that may never answer."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Cli
from tests.cli.test_signals import ends_of, started
from tests.pg import post
from tests.proxy import NOTHING, SILENT, Proxy, proxied
from tests.waiting import until

GRANT = ("grant-bonus", "u1", "--amount", "5", "--reason", "goodwill", "--yes", "--timeout", "600")


@pytest.fixture
def between(cli: Cli) -> Iterator[Proxy]:
    post(cli.db.connect("support1"), "u1", 1000)
    folder = re.search(r"host=(\S+)", cli.db.conninfo("support1"))
    assert folder is not None
    with proxied(Path(folder[1]) / ".s.PGSQL.5432", b"post_v1") as proxy:
        address = re.sub(r"host=\S+", f"host=127.0.0.1 port={proxy.port}", re.sub(r"port=\S+", "", folder.string))
        cli.patch.setenv("TOKENCTL_DATABASE_URL", address)
        yield proxy


@pytest.mark.parametrize("more", [(), ("-v",)])
def test_ctrl_c_twice(between: Proxy, more: tuple[str, ...]) -> None:
    """Psycopg answers the first by asking the server to stop, on a connection that is as dead."""
    between.faults = [NOTHING, SILENT]  # the look beforehand goes through, the write does not
    with started(*GRANT, *more) as process:
        until(lambda: between.befallen == 2, "the grant to be sent")
        between.deaf = True
        before = between.connections
        process.send_signal(signal.SIGINT)
        until(lambda: between.connections > before, "the request to cancel it")
        said = ends_of(process, signal.SIGINT)
    assert "--idempotency-key" in said
    assert "timeout expired" not in said
    # What the driver says of it belongs to the log, and to nobody else.
    assert ("cancellation interrupted" in said) is bool(more)


def test_sigterm(between: Proxy) -> None:
    """The server is not asked at all."""
    between.faults = [NOTHING, SILENT]
    with started(*GRANT, "-v") as process:
        until(lambda: between.befallen == 2, "the grant to be sent")
        between.deaf = True
        said = ends_of(process, signal.SIGTERM)
    assert "--idempotency-key" in said
    assert "cancellation" not in said
