"""The columns of a grant file and the form of their values, as regular expressions.

Both judges use these: the fast one, which takes many lines at a time, and the
exact one, which says what is wrong with a row.
"""

from __future__ import annotations

from typing import Final

#: What a row says, by the names that messages use and in the order of reject files.
FIELDS = ("user_id", "amount", "reason", "idempotency_key", "note", "ticket", "kind")
#: Read as idempotency_key.
KEY_ALIAS = "key"
#: Left out wherever it stands: reject files have it.
IGNORED = "error"

USER_ID = r"[A-Za-z0-9._:@][A-Za-z0-9._:@-]{0,127}+"
#: Tokens: 1 to 999,999,999,999,999, so that every amount is below 2^53.
AMOUNT = r"[1-9][0-9]{0,14}+"
REASON = r"[a-z][a-z0-9_-]{0,31}+"
KEY = r"[A-Za-z0-9._:@/-]{1,128}+"
#: How keys begin that the ledger itself makes, for reversals and for payments; see sql/functions/020_reading.sql.
OWN_KEYS = ("reverse:", "generation:")
#: A key that a grant may have.
FREE_KEY = rf"(?!{'|'.join(OWN_KEYS)}){KEY}"
TICKET = r"[A-Za-z0-9._:@/#-]{1,64}+"
KINDS = ("bonus", "purchase")
DEFAULT_KIND: Final = "bonus"

MAX_AMOUNT = 10**15 - 1
#: The most characters in a value.
LENGTHS = {"user_id": 128, "reason": 32, "idempotency_key": 128, "note": 500, "ticket": 64}


def canonical(name: str) -> str:
    """The column's name without its alias."""
    return "idempotency_key" if name == KEY_ALIAS else name


def campaign_key(campaign: str) -> str:
    """The key of a grant in a campaign: one for each user."""
    return f"bonus:{campaign}"


def own_key(key: str) -> str:
    """Return how `key` begins if keys of the ledger's own begin so; "" for one that a grant may have."""
    return next((prefix for prefix in OWN_KEYS if key.startswith(prefix)), "")


def hidden_character(text: str) -> str:
    """Return the first character of `text` that a note may not have; "" when there is none.

    That is Unicode's category C (control and format characters, which can hide or turn
    text around; surrogates; private and unassigned ones) and its line and paragraph ends.
    """
    if text.isprintable():
        return ""
    import unicodedata

    return next((char for char in text if unicodedata.category(char) in _HIDDEN), "")


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
