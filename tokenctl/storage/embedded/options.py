"""The server's settings, each with its reason.

They stand on the command line, so they hold for data made by an older tokenctl as
well, and no edit of postgresql.conf or ALTER SYSTEM turns durability off or opens
a port. Whoever wants to tune PostgreSQL runs one of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

PORT = 5432  # no TCP port: it only names the socket file

_SETTINGS = {
    # Reachable through the private socket directory and by no other way.
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    # A ledger keeps what it confirmed. These are PostgreSQL's defaults; standing here they cannot be undone.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Commands are short-lived processes: 50 leaves room for an import's lanes and a dozen people.
    "max_connections": "50",
    # max_wal_size stays 1GB and wal_compression off. With 2 or 4GB a million-row import (0.5GB of WAL)
    # meets no checkpoint, which saved nothing measurable, and recovery after a crash took 10 to 12 s
    # instead of 4; compression changed neither size nor time.
    # An import touches 32 partitions of several tables, each with its indexes, in one transaction.
    "max_locks_per_transaction": "256",
    # Statements take milliseconds; compiling one takes longer than running it.
    "jit": "off",
    # /dev/shm holds 64 MB in a container, and logind empties it when the user who started us logs out.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "on",
    # The log is a file of ours, kept small (see log.py): no collector process, no line per
    # checkpoint, and neither statements nor keys of failed ones, which are people's data.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


_MB = 1024 * 1024
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container that this runs in


def shared_buffers_mb(memory_bytes: int) -> int:
    """PostgreSQL's own cache for a machine of `memory_bytes`: an eighth of it, 128 MB to 4 GB.

    A million-row import writes some 700 MB of pages. While they fit, with what they stand beside,
    none is written out in the middle: 5.3 s with 1GB, 7.1 s with 256MB (a ledger of one million:
    8.3 s, 9.3 s; on a slower day, of two million: 8.4 s with 1GB, 7.4 s with 3GB).
    """
    return min(4096, max(128, memory_bytes // 8 // _MB))


def _memory_bytes() -> int:
    """Memory of this machine, or of the container when it may have less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(_MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return machine


def server_arguments(data_dir: Path, socket_dir: Path) -> list[str]:
    """What follows `postgres` on its command line."""
    settings = {
        **_SETTINGS,
        "shared_buffers": f"{shared_buffers_mb(_memory_bytes())}MB",
        "unix_socket_directories": str(socket_dir),
    }
    pairs = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    return ["-D", str(data_dir), *pairs]
