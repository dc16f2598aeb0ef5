"""What the blocks of a file sum to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenctl.grantfile.block import Block


@dataclass
class Tally:
    """The sums over the blocks of a file: `rows` counts all of them, `tokens` those of good rows."""

    rows: int = 0
    tokens: int = 0
    last_line: int = 0
    by_reason: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, block: Block) -> None:
        """Add a block."""
        self.rows += block.rows + len(block.bad)
        self.tokens += block.tokens
        self.last_line = block.last_line
        for reason, (rows, tokens) in block.by_reason.items():
            before = self.by_reason.get(reason, (0, 0))
            self.by_reason[reason] = (before[0] + rows, before[1] + tokens)
