"""Reading balances: known users in the order asked for, and who is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenctl.errors import UserNotFound
from tokenctl.models import Balance
from tokenctl.storage.ledger import Ledger


@dataclass(frozen=True)
class Balances:
    """Known users, and the error to end with when some were unknown."""

    known: tuple[Balance, ...]
    unknown: UserNotFound | None


def read(ledger: Ledger, users: Sequence[str], *, ledger_name: str) -> Balances:
    """The balances of `users`; a name given twice answers twice."""
    found = ledger.balances(list(dict.fromkeys(users)))
    missing = [user for user in dict.fromkeys(users) if user not in found]
    known = tuple(found[user] for user in users if user in found)
    return Balances(known, not_found(ledger, missing, ledger_name=ledger_name) if missing else None)


def not_found(ledger: Ledger, missing: Sequence[str], *, ledger_name: str) -> UserNotFound:
    """The error for unknown users, with the nearest known ids when there is just one."""
    if len(missing) > 1:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")  # noqa: PLR2004
        return UserNotFound(f"{len(missing)} users are not in ledger {ledger_name}: {shown}", users=list(missing))
    near = ledger.nearest(missing[0])
    hint = f"did you mean {' or '.join(near)}?" if near else "grant-bonus --new-user and batch-import make users"
    return UserNotFound(f"no user '{missing[0]}' in ledger {ledger_name}", hint=hint, users=list(missing), nearest=near)
