"""Database addresses as people write them: which parts are secret, and what may be shown.

The one place that knows. libpq ends a password that is not percent-encoded at its first @
or /, and takes the rest for a host, a port or a name. So an address is used, and shown,
only when none of its parts can be a piece of a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest

# Patterns are texts here: most commands need few of them.
# libpq's names for a secret, and those that people take for them.
_KEYS = r"\w*pass?w\w*|\w*secret|scram_\w*key"
_NAMED = rf"(?i)\b(?:{_KEYS})\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))"
_IN_QUERY = rf"(?i)([?&])(?:{_KEYS})=[^&]*"
_IN_URI = r"(://[^:/@]*):([^/]*?)@"
# To the last @ that could end the password, for people who do not encode one.
_IN_WRONG_URI = r"(://[^:/@]*):(\S*)@"
_URI = r"\s*postgres(?:ql)?://"
_PAIRS = r"(?:\s*\w+\s*=\s*(?:'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$))*\s*"
#: The parts that lead to a database, and are shown.
_LEADING = ("service", "user", "dbname", "host", "hostaddr", "port")
#: Another address, or an assignment: no name has either.
_NO_NAME = r"://|\w\s*="
#: What an address, or a password in one, cannot do without; the backslash is of repr.
_PERHAPS_ADDRESS = r"(?i)[:/@=%\\]|pass|secret"
_TOLD_MAX = 60
#: The modes of TLS that leave it to the network whether there is any.
BY_CHANCE = frozenset({"allow", "prefer"})


def is_secret(keyword: str) -> bool:
    """Whether the value of a connection parameter is secret."""
    return re.fullmatch(_KEYS, keyword, re.IGNORECASE) is not None


def secrets_of(conninfo: str) -> set[str]:
    """The secrets in a connection string, a URI or key=value pairs, well-formed or not."""
    found = {match[2] for pattern in (_IN_URI, _IN_WRONG_URI) for match in re.finditer(pattern, conninfo)}
    for quoted, bare in re.findall(_NAMED, conninfo):
        for given in (quoted, bare, bare.partition("&")[0]):  # a URI's parameter ends at the &
            found |= {given, re.sub(r"\\(.)", r"\1", given)}
    return found - {""}


def without_secrets(conninfo: str) -> str:
    """What tells this address from others whatever its secrets are; nothing where they cannot be cut out."""
    if _is_unencoded(conninfo):
        return ""
    if re.match(_URI, conninfo):
        return re.sub(_IN_QUERY, r"\1", re.sub(_IN_URI, r"\1@", conninfo))
    return re.sub(_NAMED, "", re.sub(_IN_URI, r"\1@", conninfo))


def for_people(conninfo: str) -> str:
    """The address without its secrets; nothing where it is none, for then any word of it may be one."""
    left = without_secrets(conninfo)
    return left if re.match(_URI, left) or re.fullmatch(_PAIRS, left) else ""


def mistake(conninfo: str, parts: Mapping[str, str]) -> str | None:
    """What is wrong with an address of these `parts`, one of which may be a piece of a secret; else None."""
    from urllib.parse import unquote

    encode = "in a URI write / as %2F, : as %3A and @ as %40 within a password or a name"
    hosts, port = parts.get("host", "").split(","), parts.get("port", "")
    # The @ that begins a host's name stands for an abstract socket.
    if _is_unencoded(conninfo) or any("@" in host[1:] for host in hosts) or not re.fullmatch(r"[0-9,]*", port):
        return encode
    for name in _LEADING:
        if re.search(_NO_NAME, unquote(parts.get(name, ""))):
            return f"something else stands where the {name} belongs: an address, or a whole assignment"
    return None


def is_local(host: str) -> bool:
    """Whether packets to `host` stay on this machine; `host` is a name, an address or a socket's directory."""
    return not host or host[0] in "/@" or host in ("localhost", "::1") or host.startswith("127.")


def believing(parts: Mapping[str, str]) -> str | None:
    """The sslmode that takes another host for what it says it is; None when all are local or show a certificate."""
    hosts = zip_longest(parts.get("hostaddr", "").split(","), parts.get("host", "").split(","), fillvalue="")
    # With the system's authorities libpq takes no weaker mode than verify-full.
    if all(is_local(number or name) for number, name in hosts) or parts.get("sslrootcert") == "system":
        return None
    mode = parts.get("sslmode", "prefer")
    return None if mode == "verify-full" else mode


def told(value: object) -> str:
    """A configured value as an error may repeat it: not when it is long, or may hold an address or a password."""
    text = repr(value)
    return "what stands there" if len(text) > _TOLD_MAX or re.search(_PERHAPS_ADDRESS, text) else text


def _is_unencoded(conninfo: str) -> bool:
    """Whether a URI has an @ or / where only a password can have it, so that libpq would cut that in pieces."""
    return re.match(_URI + r"[^?]*[@/][^?]*@", conninfo) is not None
