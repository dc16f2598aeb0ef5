"""The server's settings, each with its reason.

They stand on the command line, so they hold for data made by an older tokenctl as
well, and no edit of postgresql.conf or ALTER SYSTEM turns durability off or opens
a port. Whoever wants to tune PostgreSQL runs one of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    "shared_buffers": "192MB",
    # Full page images after a checkpoint are most of an import's WAL, and CPU is cheaper than fsync.
    "wal_compression": "on",
    # WAL_SIZE_REASON
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # An import touches 32 partitions of several tables, each with its indexes, in one transaction.
    "max_locks_per_transaction": "256",
    # Statements take milliseconds; compiling one takes longer than running it.
    "jit": "off",
    # /dev/shm holds 64 MB in a container, and logind empties it when the user who started us logs out.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "on",
    # The log is a file of ours, kept small (see server.py): no collector process, no line per
    # checkpoint, and no text of failed statements, which would carry people's data.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def server_arguments(data_dir: Path, socket_dir: Path) -> list[str]:
    """What follows `postgres` on its command line."""
    settings = {**_SETTINGS, "unix_socket_directories": str(socket_dir)}
    pairs = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    return ["-D", str(data_dir), *pairs]
