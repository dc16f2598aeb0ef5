"""Tools that a test needs and a machine may lack.

Without them the test is skipped and says what to install. With TOKENCTL_TEST_REQUIRE=all
(as in CI) it fails, so that a part which went missing there can't look like success.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

# Debian keeps servers' programs out of an ordinary user's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
ALL = os.environ.get("TOKENCTL_TEST_REQUIRE") == "all"


def missing(what: str) -> NoReturn:
    """Skip the test because of `what`, a sentence; where everything is required, fail it."""
    if ALL:
        pytest.fail(f"{what} (and TOKENCTL_TEST_REQUIRE=all)", pytrace=False)
    pytest.skip(what)


def tool(name: str, *, package: str = "", path: str = "") -> str:
    """Return the path of the program `name`, looked up in PATH or in the folder `path`.

    `package` is what Debian calls it, when that isn't the program's own name.
    """
    found = shutil.which(name, path=path or SEARCH)
    if found is None:
        missing(f"{name} is not installed; on Debian: apt install {package or name}")
    return found
