"""The last line of defence: the secrets of this process, and texts without them.

The first line is that nobody logs a secret. This one is for a text that repeats one
all the same, such as the message of an exception. To know a secret costs next to nothing;
its spellings are worked out when the first text is filtered.
"""

from __future__ import annotations

import re

from tokenctl.address import secrets_of

#: What stands where a secret was.
INSTEAD = "[hidden]"
#: Shorter secrets are words of everyday use: taking them out would destroy every line, and tell them.
_SHORTEST = 4
_secrets: set[str] = set()
_addresses: set[str] = set()
_pattern: re.Pattern[str] | None = None


def hide(secret: str) -> None:
    """Know `secret` from now on; one of fewer than four characters is not looked for."""
    _add(_secrets, secret)


def hide_address(conninfo: str) -> None:
    """Know the passwords in a connection string from now on."""
    _add(_addresses, conninfo)


def filtered(text: str) -> str:
    """The text with every known secret replaced."""
    global _pattern  # noqa: PLW0603 — one process has one set of secrets
    if not _secrets and not _addresses:
        return text
    if _pattern is None:
        known = _secrets.union(*map(secrets_of, _addresses))
        spelled = {spelling for secret in known for spelling in _spellings(secret) if len(spelling) >= _SHORTEST}
        longest_first = sorted(spelled, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)
    return _pattern.sub(INSTEAD, text)


def forget() -> None:
    """Know no secret any more."""
    global _pattern  # noqa: PLW0603 — as in filtered
    _secrets.clear()
    _addresses.clear()
    _pattern = None


def _add(known: set[str], new: str) -> None:
    global _pattern  # noqa: PLW0603 — as in filtered
    if new not in known:
        known.add(new)
        _pattern = None


def _spellings(secret: str) -> set[str]:
    """The secret as a URI, a Python or JSON text or a connection string may have it."""
    import json
    from urllib.parse import quote, unquote

    found: set[str] = set()
    for plain in {secret, unquote(secret)}:
        found |= {plain, quote(plain), quote(plain, safe=""), repr(plain)[1:-1], ascii(plain)[1:-1]}
        found |= {json.dumps(plain)[1:-1], re.sub(r"([\\'])", r"\\\1", plain)}
    return found
