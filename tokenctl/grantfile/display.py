"""Making text from a grant file fit to be shown: nothing that moves a cursor, nothing endless."""

from __future__ import annotations

#: Characters of a value that a message repeats.
SHOWN_CHARACTERS = 40


def clean(text: str) -> str:
    r"""Write what isn't printable as \x.., \u.... or \U........; a blank stays."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def shown(text: str) -> str:
    """Return `text` in quotes, cleaned, and cut when it is long."""
    if len(text) > SHOWN_CHARACTERS:
        return f"'{clean(text[:SHOWN_CHARACTERS])}…'"
    return f"'{clean(text)}'"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
