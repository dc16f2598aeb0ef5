"""Numbers in sentences."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """The number with its noun: 1 row, 2,000 rows; `more` where the plural is not `one` with an s."""
    return f"{number:,} {fitting(number, one, more)}"


def fitting(number: int, one: str, more: str | None = None) -> str:
    """The noun or verb alone, as the number wants it: `row` or `rows`, `is` or `are`."""
    if number in {1, -1}:
        return one
    return f"{one}s" if more is None else more


def pace(posted: int, whole: int, seconds: float, unit: str) -> str:
    """What follows the `whole` count: how many of them a run posted and how fast, or that none was left to it."""
    if not posted:
        return f", {fitting(whole, 'posted before', 'all of them posted before')}" if whole else ""
    part = f", {posted:,} of them" if posted != whole else ""
    return f"{part} in {seconds:.1f} s ({posted / max(seconds, 0.001):,.0f} {unit}/s)"
