"""tokenctl: the operations command line for a token ledger on PostgreSQL.

`cli` parses, `services` decide, `storage` speaks PostgreSQL, `grantfile` reads
grant files, `output` prints. `runtime` builds them and `__main__` starts them.
CONTRIBUTING.md holds the architecture and the reasons.
"""

from typing import Any


def __getattr__(name: str) -> Any:  # PEP 562: reading metadata costs 20 ms, so only who asks pays
    if name == "__version__":
        from importlib.metadata import version

        return version("tokenctl")
    raise AttributeError(name)
