"""Distributions on a terminal: one bar for each range of values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

from tokenctl.output import text
from tokenctl.output.views import Bars

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NARROWEST, _WIDEST = 8, 50


def draw(many: Sequence[Bars], *, width: int, color: bool, encoding: str) -> str:
    """The distributions as text, each after a blank line; no line is wider than `width` where that is possible."""
    blocks = text.can_show(_EIGHTHS, encoding)
    return "".join("\n" + _one(bars, width=width, color=color, blocks=blocks) for bars in many)


def _one(bars: Bars, *, width: int, color: bool, blocks: bool) -> str:
    title = text.clean(bars.title)
    lines = [f"\x1b[1m{title}\x1b[0m" if color else title, *_sentence(bars.facts, width - 2)]
    labels = max((cell_len(label) for label, _ in bars.rows), default=0)
    counts = max((len(text.count(count)) for _, count in bars.rows), default=0)
    room = min(max(width - labels - counts - 7, _NARROWEST), _WIDEST)
    longest = max((count for _, count in bars.rows), default=0)
    for label, count in bars.rows:
        bar = _bar(count, longest, room, blocks=blocks)
        lines.append(f"  {label}{' ' * (labels - cell_len(label))}  {text.count(count):>{counts}}  {bar}")
    return "".join(f" {line}".rstrip() + "\n" for line in lines)


def _sentence(facts: Sequence[str], width: int) -> list[str]:
    """The facts, joined by commas; a line ends between two of them."""
    whole = ", ".join(text.clean(fact).replace(" ", "\xa0") for fact in facts)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(whole, max(width, 20))]


def _bar(count: int, longest: int, room: int, *, blocks: bool) -> str:
    """A bar as long as the count's share of the longest; whatever happened at all can be seen."""
    eighths = max(round(8 * room * count / longest), 1) if count else 0
    if not blocks:
        return "#" * -(-eighths // 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
