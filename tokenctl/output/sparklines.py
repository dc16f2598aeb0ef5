"""One line that shows how a number went: its past on the left, the newest on the right."""

from __future__ import annotations

from collections.abc import Sequence

from tokenctl.output import text

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.,-~=+#"
_WIDEST = 60


def draw(title: str, numbers: Sequence[int], *, width: int, encoding: str) -> str:
    """The numbers, the oldest first, between their lowest and their highest; a line of text, or none for less than two.

    Of more numbers than there is room for, the last of each group is drawn.
    """
    if len(numbers) < 2:  # noqa: PLR2004 — one number goes nowhere
        return ""
    low, high = min(numbers), max(numbers)
    words = f"{text.count(low)} to {text.count(high)}, now {text.count(numbers[-1])}"
    room = max(min(width - len(title) - len(words) - 6, _WIDEST, len(numbers)), 8)
    steps = _BLOCKS if text.can_show(_BLOCKS, encoding) else _ASCII
    picked = _picked(numbers, room)
    line = "".join(steps[(number - low) * (len(steps) - 1) // ((high - low) or 1)] for number in picked)
    return f" {title}  {line}  {words}\n\n"


def _picked(numbers: Sequence[int], room: int) -> list[int]:
    if len(numbers) <= room:
        return list(numbers)
    return [numbers[(place + 1) * len(numbers) // room - 1] for place in range(room)]
