"""tokenctl: the operations command line for a token ledger on PostgreSQL.

`cli` parses, `services` decide, `storage` speaks PostgreSQL, `grantfile` reads
grant files, `output` prints. `runtime` builds them and `__main__` starts them.
CONTRIBUTING.md holds the architecture and the reasons.
"""

#: The package's metadata takes its version from here: reading it from there costs 80 ms.
__version__ = "0.1.0"
