"""With this folder on PYTHONPATH `tokenctl balance` meets a bug: the module that it needs cannot be loaded."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _Broken(MetaPathFinder):
    def find_spec(self, fullname: str, _path: object, _target: object = None) -> None:
        if fullname == "tokenctl.services.balances":
            raise RuntimeError("raised for a test")


sys.meta_path.insert(0, _Broken())
