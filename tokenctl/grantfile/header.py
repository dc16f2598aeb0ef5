"""Reading the header of a CSV file: delimiter and columns, or what is wrong with them."""

from __future__ import annotations

from tokenctl.errors import BadData, UsageError
from tokenctl.grantfile.cells import Splitter, Unclosed
from tokenctl.grantfile.display import shown
from tokenctl.grantfile.explain import did_you_mean
from tokenctl.grantfile.fields import FIELDS, IGNORED, KEY_ALIAS, canonical
from tokenctl.grantfile.options import CheckOptions

_NAMES = (*FIELDS, KEY_ALIAS, IGNORED)
_DELIMITERS = (",", ";", "\t")
_HINT = "columns: user_id, amount, reason, idempotency_key (or key); optional: note, ticket, kind"


def read_header(text: str, place: str, options: CheckOptions) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the names of the header line `text`, which stands at `place` (file:line).

    Raises BadData for anything but known columns, each once and none missing, and
    UsageError for a key column beside --campaign.
    """
    splits = {delimiter: _split(text, delimiter) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda sign: (_known(splits[sign]), len(splits[sign])))
    names = splits[delimiter]
    _refuse_no_header(text, names, place)
    _refuse_names(names, place)
    _refuse_missing({canonical(name) for name in names}, place, options)
    return delimiter, names


def _split(text: str, delimiter: str) -> tuple[str, ...]:
    try:
        record = Splitter(delimiter).record(text, 0)
    except Unclosed:
        return ()
    return () if record.problem else record.cells


def _known(names: tuple[str, ...]) -> int:
    return len({name.strip().lower() for name in names}.intersection(_NAMES))


def _refuse_no_header(text: str, names: tuple[str, ...], place: str) -> None:
    if text.lower().startswith("sep="):
        raise BadData(f"{place}: {shown(text.strip())} is a note for spreadsheets", hint="remove this line")
    if text.lstrip().startswith("{"):
        raise BadData(f"{place}: is JSON, not the header of a CSV file", hint="read it with --format-in jsonl")
    if not names:
        raise BadData(f"{place}: the quotes of the header are wrong", hint=_HINT)
    if not _known(names):
        raise BadData(f"{place}: no header: {shown(text.strip())} names no known column", hint=_HINT)
    if len(names) == 1:
        raise BadData(f"{place}: {shown(text.strip())} has no comma, semicolon or tab between columns", hint=_HINT)


def _refuse_names(names: tuple[str, ...], place: str) -> None:
    seen: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise BadData(f"{place}: column {number} has no name", hint="name it, or remove it from every line")
        if name not in _NAMES:
            blank = "; remove the blanks around it" if name.strip() in _NAMES else did_you_mean(name, _NAMES)
            raise BadData(f"{place}: {shown(name)} is no column of a grant file{blank}", hint=_HINT)
        if first := seen.get(canonical(name)):
            twice = f"column '{name}' stands twice" if first == name else f"'{first}' and '{name}' mean the same"
            raise BadData(f"{place}: {twice}", hint="remove one of them")
        seen[canonical(name)] = name


def _refuse_missing(names: set[str], place: str, options: CheckOptions) -> None:
    needed = {"user_id", "amount"} if options.default_reason else {"user_id", "amount", "reason"}
    if missing := [f"'{field}'" for field in FIELDS if field in needed - names]:
        remedy = "; --reason CODE stands for a missing reason" if "'reason'" in missing else ""
        raise BadData(f"{place}: the column {' and '.join(missing)} is missing", hint=_HINT + remedy)
    has_keys = "idempotency_key" in names
    if has_keys and options.campaign:
        raise keys_beside_campaign(place)
    if not has_keys and not options.campaign:
        raise BadData(
            f"{place}: no row has an idempotency key",
            hint="add the column idempotency_key, or give --campaign NAME for one grant per user",
        )


def keys_beside_campaign(place: str) -> UsageError:
    """The error for a file that has keys, and a campaign that gives others; `place` is where its first row is named."""
    return UsageError(
        f"{place}: the file has keys of its own, and --campaign gives others",
        hint="leave out --campaign, or remove the key column from the file",
    )
