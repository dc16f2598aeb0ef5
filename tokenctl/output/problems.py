"""An error as programs read it: an object with the members of RFC 9457."""

from __future__ import annotations

from typing import Annotated

from tokenctl.errors import TokenctlError
from tokenctl.output.schemas import Keyword, TypedDict

_URN = "urn:tokenctl:problem:"


class ProblemData(TypedDict):
    """An error on standard error. Further members say what it is about, such as user_id and operation."""

    type: Annotated[str, Keyword("pattern", f"^{_URN}[a-z-]+$")]
    title: str
    detail: str
    instance: str | None
    exit_code: Annotated[int, Keyword("minimum", 1), Keyword("maximum", 255)]
    retryable: bool
    hint: str | None


def problem(error: TokenctlError, *, request_id: str | None, exit_code: int | None) -> ProblemData:
    """The error; `exit_code` is for a command that does not end with the error's own."""
    return {
        "type": _URN + error.code,
        "title": error.title,
        "detail": error.detail,
        "instance": f"urn:tokenctl:request:{request_id}" if request_id else None,
        "exit_code": error.exit_code if exit_code is None else exit_code,
        "retryable": error.retryable,
        "hint": error.hint or None,
    }
