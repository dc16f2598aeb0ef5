"""Rows that the ledger will not take, in the words of the file's own bad rows."""

from __future__ import annotations

from tokenctl.models import BadLine, Finding


def as_bad_line(finding: Finding) -> BadLine:
    """Say why the row of `finding` must not be posted, as a bad row of its file is told."""
    match finding.problem:
        case "unknown_user":
            return BadLine(finding.line, "user_id", f"no user '{finding.user_id}' in the ledger")
        case "repeated":
            why = f"stands twice in the file with other content (first in line {finding.other})"
            if finding.other == str(finding.line):
                why = "stands again below with other content"
            return BadLine(finding.line, "idempotency_key", why)
        case "reversed":
            return BadLine(
                finding.line,
                "idempotency_key",
                f"was granted before ({_entry(finding)}) and then reversed; to grant it after all, give it a new key",
            )
        case "refused":
            return BadLine(
                finding.line,
                "amount",
                f"the balance of {finding.user_id} would pass 9,007,199,254,740,991 tokens",
            )
        case _:
            return BadLine(finding.line, "idempotency_key", f"was used with other content ({_entry(finding)})")


def _entry(finding: Finding) -> str:
    return (
        f"{finding.user_id}:{finding.other}"
        if finding.other and ":" not in finding.other
        else finding.other or finding.user_id
    )
