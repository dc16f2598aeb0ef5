"""What the caller wants of a check, refused when it contradicts itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tokenctl.errors import UsageError
from tokenctl.grantfile.display import shown
from tokenctl.grantfile.explain import unlisted_reason, why
from tokenctl.grantfile.fields import KEY, REASON, campaign_key


@dataclass(frozen=True)
class CheckOptions:
    """How a grant file is to be read.

    `format` is found out when None. `default_reason` is for rows without one; `campaign`
    gives every row the key bonus:CAMPAIGN. `reasons` are the allowed codes, None means any.
    `max_rows` bounds the file. Raises UsageError for a reason or campaign that can't be.
    """

    format: Literal["csv", "jsonl"] | None = None
    default_reason: str | None = None
    campaign: str | None = None
    reasons: frozenset[str] | None = None
    max_rows: int = 50_000_000

    def __post_init__(self) -> None:
        """Refuse what no row could be granted with."""
        reason, campaign = self.default_reason, self.campaign
        if reason is not None and not re.fullmatch(REASON, reason):
            raise UsageError(f"--reason: {why('reason', reason)}")
        if reason is not None and self.reasons is not None and reason not in self.reasons:
            raise UsageError(f"--reason: {unlisted_reason(reason, self.reasons)}")
        if campaign is not None and not (campaign and re.fullmatch(KEY, campaign_key(campaign))):
            raise UsageError(
                f"--campaign: {shown(campaign)} is no campaign's name",
                hint="1 to 122 letters, digits and . _ : @ / -",
            )
