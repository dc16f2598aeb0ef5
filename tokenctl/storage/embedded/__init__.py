"""The embedded PostgreSQL server: its programs come from a wheel, its supervision from here."""

from tokenctl.storage.embedded.server import DATABASE, EmbeddedPaths, EmbeddedServer, EmbeddedStatus

__all__ = ["DATABASE", "EmbeddedPaths", "EmbeddedServer", "EmbeddedStatus"]
