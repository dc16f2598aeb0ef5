"""What one row of a grant file must be, judged exactly and with words.

Loaded when a row first needs it: most files have none that does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tokenctl.grantfile.explain import unlisted_reason, why
from tokenctl.grantfile.fields import (
    AMOUNT,
    DEFAULT_KIND,
    FIELDS,
    IGNORED,
    KEY,
    KEY_ALIAS,
    LENGTHS,
    MAX_AMOUNT,
    REASON,
    TICKET,
    USER_ID,
    campaign_key,
    hidden_character,
    own_key,
)
from tokenctl.grantfile.rows import Problem
from tokenctl.grantfile.values import Number, Value

_AMOUNT = re.compile(AMOUNT)


def _whole(value: object) -> int:
    """Convert a number by its digits as they are written, not by what Python would make of them."""
    if isinstance(value, Number) and _AMOUNT.fullmatch(value.text):
        return int(value.text)
    raise ValueError


def _one_line(text: str) -> str:
    """Refuse blanks around a note and characters that don't show."""
    if text != text.strip() or hidden_character(text):
        raise ValueError
    return text


def _free_key(key: str) -> str:
    if own_key(key):
        raise ValueError
    return key


def _whole_text(pattern: str) -> str:
    # The pattern is also part of the published schema, which knows no possessive repetition.
    return f"^{pattern.replace('}+', '}')}$"


class GrantRow(BaseModel):
    """One grant, complete: what a default fills in is filled in. The amount is in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Annotated[str, Field(pattern=_whole_text(USER_ID))]
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT), BeforeValidator(_whole)]
    reason: Annotated[str, Field(pattern=_whole_text(REASON))]
    idempotency_key: Annotated[str, Field(pattern=_whole_text(KEY)), AfterValidator(_free_key)]
    note: Annotated[str, Field(max_length=LENGTHS["note"]), AfterValidator(_one_line)] | None = None
    ticket: Annotated[str, Field(pattern=_whole_text(TICKET))] | None = None
    kind: Literal["bonus", "purchase"] = DEFAULT_KIND


class Judge:
    """Judges rows one by one, exactly and with words."""

    def __init__(self, *, default_reason: str | None, campaign: str | None, reasons: frozenset[str] | None) -> None:
        """What is filled in where a row has nothing, and which reasons are allowed (None: all)."""
        filled = {"reason": default_reason, "idempotency_key": campaign and campaign_key(campaign)}
        self._defaults = {column: value for column, value in filled.items() if value}
        self._campaign = campaign
        self._reasons = reasons

    def judge(self, values: Mapping[str, Value]) -> GrantRow | tuple[Problem, ...]:
        """Return the row that `values` (by column) make, or everything that is wrong with them.

        None and "" count as absent.
        """
        present = {column: value for column, value in values.items() if value is not None and value != ""}
        wrong: dict[str, str] = {}
        try:
            row = GrantRow.model_validate({**self._defaults, **present})
        except ValidationError as error:
            row = None
            for column in {str(item["loc"][0]) for item in error.errors(include_url=False, include_context=False)}:
                wrong[column] = why(column, present.get(column))
        if self._campaign and "idempotency_key" in present:
            wrong["idempotency_key"] = "has a key beside --campaign, which gives one: leave out one of them"
        reason = present.get("reason")
        if isinstance(reason, str) and "reason" not in wrong and self._is_unlisted(reason):
            wrong["reason"] = unlisted_reason(reason, self._reasons or ())
        if row is None or wrong:
            return tuple(Problem(column, wrong[column]) for column in FIELDS if column in wrong)
        return row

    def _is_unlisted(self, reason: str) -> bool:
        return self._reasons is not None and reason not in self._reasons


def row_schema() -> dict[str, Any]:
    """One line of JSON Lines as JSON Schema: what the model wants, and what may be left out of a file.

    It cannot say two things: that 5.0 is refused as an amount, and which characters of a note don't show.
    """
    model = GrantRow.model_json_schema()
    judged: dict[str, Any] = model["properties"]
    must = ("user_id", "amount")
    empty = ({"const": ""}, {"type": "null"})
    optional = {name: {"anyOf": [judged[name], *empty]} for name in FIELDS if name not in must}
    return {
        "description": (
            "A row of a grant file. Without a reason it needs --reason, without an idempotency_key --campaign; "
            f"{KEY_ALIAS} is another name for idempotency_key. An amount is digits only: 5.0 is refused. "
            "A note is one line without hidden characters, and has no blanks at its ends."
        ),
        "type": "object",
        "properties": {
            **{name: judged[name] for name in must},
            **optional,
            KEY_ALIAS: optional["idempotency_key"],
            IGNORED: {"description": "Left out wherever it stands: reject files have it."},
        },
        "required": list(must),
        "not": {"required": ["idempotency_key", KEY_ALIAS]},
        "additionalProperties": False,
    }
