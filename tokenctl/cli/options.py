"""The options that commands share, each declared once, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer


def reads(form: str) -> Callable[[str], Any]:
    """The judge of that name in tokenctl.cli.forms as a parser for typer; its ValueError becomes a usage error.

    By name, because `--help` needs no judge and should not wait for their patterns.
    """

    def parse(text: Any) -> Any:
        from tokenctl.cli import forms

        if not isinstance(text, str):  # a default, which typer has parsed as well
            return text
        try:
            return getattr(forms, form)(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    parse.__name__ = form.upper()  # typer shows it as the value's name
    return parse


User = Annotated[str, typer.Argument(metavar="USER", parser=reads("user_id"), help="User id.", show_default=False)]
Amount = Annotated[int, typer.Option("--amount", metavar="N", parser=reads("amount"), help="Tokens, digits only.")]
Reason = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="CODE",
        parser=reads("reason"),
        help="Why, as a code: goodwill, outage, mistake …",
    ),
]
Note = Annotated[
    str | None,
    typer.Option("--note", metavar="TEXT", parser=reads("note"), help="Why, in your words; up to 500 characters."),
]
Ticket = Annotated[
    str | None, typer.Option("--ticket", metavar="ID", parser=reads("ticket"), help="The support ticket.")
]
Campaign = Annotated[
    str | None,
    typer.Option(
        "--campaign",
        metavar="NAME",
        parser=reads("campaign"),
        help="One claim per user of this campaign.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="K",
        parser=reads("key"),
        help="The same key is the same change, done once.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Check everything, write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; a limit still needs its own confirmation.")]
#: Of what no limit binds.
PlainYes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ConfirmAmount = Annotated[
    int | None,
    typer.Option(
        "--confirm-amount",
        metavar="N",
        parser=reads("amount"),
        help="Confirm an amount above the limit; implies --yes.",
    ),
]
ExpectRows = Annotated[
    int | None,
    typer.Option("--expect-rows", metavar="N", parser=reads("count"), help="Refuse unless the file has N rows."),
]
ExpectTotal = Annotated[
    int | None,
    typer.Option(
        "--expect-total",
        metavar="N",
        parser=reads("count"),
        help="Refuse unless the good rows sum to N tokens; confirms a total above the limit.",
    ),
]

Since = Annotated[
    datetime | None,
    typer.Option("--since", metavar="T", parser=reads("since"), help="From this time on: 2026-11-23, or RFC 3339."),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", metavar="T", parser=reads("until"), help="Before this time; a date includes its day."),
]
OneUser = Annotated[str | None, typer.Option("--user", metavar="U", parser=reads("user_id"), help="This user only.")]
AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", metavar="T", parser=reads("as_of"), help="As it was at this moment; a date means its end."),
]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", parser=reads("limit"), help="At most so many rows, up to 100000.")
]


#: What a command prints unless it says otherwise, and with the one value that some have.
FORMATS = ("table", "tsv", "json", "jsonl")
VALUED = (*FORMATS, "value")


def form(formats: tuple[str, ...], piped: str) -> tuple[Any, Any]:
    """--format of a command that prints these: the first on a terminal, `piped` elsewhere."""
    named = f"{', '.join(formats[:-1])} or {formats[-1]}"
    default = f"default: {piped}" if piped == formats[0] else f"{formats[0]} on a terminal, else {piped}"
    text = f"{named}. [{default}]"
    return Annotated[str | None, typer.Option("--format", metavar="F", help=text)], None


#: Accepted after every command; they become `Flags`.
COMMON: dict[str, tuple[Any, Any]] = {
    "json_": (Annotated[bool, typer.Option("--json", help="JSON, the same as --format json.")], False),
    "form": form(FORMATS, "tsv"),
    "profile": (
        Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The ledger to work on.")],
        None,
    ),
    "config": (
        Annotated[str | None, typer.Option("--config", metavar="FILE", help="This configuration file only.")],
        None,
    ),
    "timeout": (
        Annotated[
            float | None,
            typer.Option("--timeout", metavar="SECONDS", parser=reads("seconds"), help="Give up after so long."),
        ],
        None,
    ),
    "request_id": (
        Annotated[str | None, typer.Option("--request-id", metavar="ID", help="Name this run in ledger and errors.")],
        None,
    ),
    "no_input": (Annotated[bool, typer.Option("--no-input", help="Never ask.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="No talk, and of a change no receipt.")], False),
    "verbose": (Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done, on stderr.")], False),
    "ignore_breaker": (
        Annotated[bool, typer.Option("--ignore-breaker", help="Try even what earlier failures marked as down.")],
        False,
    ),
    "no_color": (Annotated[bool, typer.Option("--no-color", help="No colours.")], False),
}
