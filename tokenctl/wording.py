"""Numbers in sentences."""


def counted(number: int, one: str, more: str | None = None) -> str:
    """The number with its noun: 1 row, 2,000 rows; `more` where the plural is not `one` with an s."""
    return f"{number:,} {fitting(number, one, more)}"


def fitting(number: int, one: str, more: str | None = None) -> str:
    """The noun or verb alone, as the number wants it: `row` or `rows`, `is` or `are`."""
    if number in {1, -1}:
        return one
    return f"{one}s" if more is None else more
