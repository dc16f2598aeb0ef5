"""What a cell or a member of a row can be before it is judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written in the file: digits are not converted before they are judged."""

    text: str


#: Cells of CSV are text (an amount is a Number); members of JSON may be anything.
Value = str | Number | bool | list[object] | dict[str, object] | None
