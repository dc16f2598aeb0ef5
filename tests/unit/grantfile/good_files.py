"""Unusual grant files that are fine, with the rows that must come out of them."""

from __future__ import annotations

import codecs
import gzip
from dataclasses import dataclass, field
from typing import Any

from tests.unit.grantfile.corpus import HEADER, NOTED, csv, jsonl
from tests.unit.grantfile.opened import Row


@dataclass(frozen=True)
class Good:
    """A file that is read without complaint."""

    name: str
    content: bytes
    rows: list[Row]
    options: dict[str, Any] = field(default_factory=dict)


def row(
    line: int, user: str = "u1", amount: int = 5, key: str = "k1", *,
    kind: str = "bonus", reason: str = "test", note: str | None = None, ticket: str | None = None,
) -> Row:  # fmt: skip
    """A row that is as most are."""
    return Row(line, user, amount, kind, reason, note, ticket, key)


TWO = [row(2), row(3, "u2", 7, "k2")]
_LINES = ("u1,5,test,k1", "u2,7,test,k2")
_OBJECTS = (
    '{"user_id": "u1", "amount": 5, "reason": "test", "idempotency_key": "k1"}',
    '{"user_id": "u2", "amount": 7, "reason": "test", "idempotency_key": "k2"}',
)
_JSON_TWO = [row(1), row(2, "u2", 7, "k2")]
_LONGEST = ("u" * 128, 999_999_999_999_999, "r" * 32, "k" * 128)


def _noted(line: int, *notes: str) -> list[Row]:
    return [row(line + index, note=note) for index, note in enumerate(notes)]


GOOD_FILES = [
    Good("plain", csv(*_LINES), TWO),
    Good("byte-order-mark", codecs.BOM_UTF8 + csv(*_LINES), TWO),
    Good("crlf", csv(*_LINES, end="\r\n"), TWO),
    Good("mixed-line-ends", b"\r\n".join([HEADER.encode(), b"u1,5,test,k1\nu2,7,test,k2", b""]), TWO),
    Good("semicolons", csv(*_LINES).replace(b",", b";"), TWO),
    Good("tabs", csv(*_LINES).replace(b",", b"\t"), TWO),
    Good("spreadsheet", codecs.BOM_UTF8 + csv(*_LINES, end="\r\n").replace(b",", b";"), TWO),
    Good(
        "all-quoted",
        csv('"u1","5","test","k1"', '"u2","7","test","k2"', header='"user_id","amount","reason","key"'),
        TWO,
    ),
    Good("some-quoted", csv('u1,5,"test",k1', '"u2",7,test,"k2"'), TWO),
    Good("no-newline-at-the-end", csv(*_LINES)[:-1], TWO),
    Good("carriage-return-at-the-end", csv(*_LINES, end="\r\n")[:-1], TWO),
    Good("blank-lines", b"\n\r\n" + csv("", _LINES[0], "", "", _LINES[1], "", ""), [row(5), row(8, "u2", 7, "k2")]),
    Good("other-order", csv("k1,test,5,u1", "k2,test,7,u2", header="key,reason,amount,user_id"), TWO),
    Good("header-only", csv(), []),
    Good("header-without-newline", csv()[:-1], []),
    Good("gzip", gzip.compress(csv(*_LINES)), TWO),
    Good("gzip-members", gzip.compress(csv(_LINES[0])) + gzip.compress(b"") + gzip.compress(b"u2,7,test,k2\n"), TWO),
    Good(
        "campaign",
        csv("u1,5,test", header="user_id,amount,reason"),
        [row(2, key="bonus:spring")],
        {"campaign": "spring"},
    ),
    Good(
        "longest-campaign",
        csv("u1,5,test", header="user_id,amount,reason"),
        [row(2, key=f"bonus:{'c' * 122}")],
        {"campaign": "c" * 122},
    ),
    Good("default-reason", csv("u1,5,k1", header="user_id,amount,key"), [row(2)], {"default_reason": "test"}),
    Good(
        "some-default-reasons",
        csv("u1,5,,k1", "u2,7,promo,k2"),
        [row(2), row(3, "u2", 7, "k2", reason="promo")],
        {"default_reason": "test"},
    ),
    Good("listed-reasons", csv(*_LINES), TWO, {"reasons": frozenset({"test", "promo"})}),
    Good(
        "listed-default-reason", csv("u1,5,,k1"), [row(2)], {"default_reason": "test", "reasons": frozenset({"test"})}
    ),
    Good(
        "kinds",
        csv("u1,5,test,k1,,,purchase", "u1,5,test,k1,,,", "u1,5,test,k1,,,bonus", header=NOTED),
        [row(2, kind="purchase"), row(3), row(4)],
    ),
    Good(
        "errors-ignored",
        csv('u1,5,test,k1,"amount: \'x\', or ""y"""', "u2,7,test,k2,\x1b[2J", header=f"{HEADER},error"),
        TWO,
    ),
    Good("long-error-ignored", csv(f"u1,5,test,k1,{'x' * 9000}", header=f"{HEADER},error"), [row(2)]),
    Good(
        "notes",
        csv("u1,5,test,k1,Für Ä,T-1,", 'u1,5,test,k1,"a, ""b"" c",T-2,', header=NOTED),
        [row(2, note="Für Ä", ticket="T-1"), row(3, note='a, "b" c', ticket="T-2")],
    ),
    Good(
        "quoted-delimiters",
        csv('"u1",5,test,"k1",",,","",""', 'u1,5,test,k1,"x,y",,', header=NOTED),
        _noted(2, ",,", "x,y"),
    ),
    Good(
        "quoted-semicolons",
        csv('u1;5;test;k1;"a; b, c"', header=f"{HEADER},note".replace(",", ";")),
        _noted(2, "a; b, c"),
    ),
    Good(
        "backslashes",
        csv(r"u1,5,test,k1,\N,,", r"u1,5,test,k1,\.,,", r"u1,5,test,k1,a\tb\,,", header=NOTED),
        _noted(2, r"\N", r"\.", r"a\tb" + "\\"),
    ),
    Good(
        "wide-notes",
        csv("u1,5,test,k1,画像が　なかった,,", "u1,5,test,k1,a\u00a0b,,", "u1,5,test,k1,🎄,,", header=NOTED),
        _noted(2, "画像が　なかった", "a\u00a0b", "🎄"),
    ),
    Good(
        "longest-values",
        csv(",".join(map(str, _LONGEST)) + f",{'🎄' * 500},{'t' * 64},", header=NOTED),
        [row(2, _LONGEST[0], _LONGEST[1], _LONGEST[3], reason=_LONGEST[2], note="🎄" * 500, ticket="t" * 64)],
    ),
    Good(
        "all-characters",
        csv("._:@-,1,a_-9,._:@/-,-,._:@/#-,", header=NOTED),
        [row(2, "._:@-", 1, "._:@/-", reason="a_-9", note="-", ticket="._:@/#-")],
    ),
    Good("json-lines", jsonl(*_OBJECTS), _JSON_TWO),
    Good("json-compact", jsonl(*_OBJECTS).replace(b": ", b":").replace(b", ", b","), _JSON_TWO),
    Good("json-byte-order-mark-crlf", codecs.BOM_UTF8 + jsonl(*_OBJECTS).replace(b"\n", b"\r\n"), _JSON_TWO),
    Good("json-blank-lines", jsonl("", _OBJECTS[0], "", " \t", _OBJECTS[1], ""), [row(2), row(5, "u2", 7, "k2")]),
    Good("json-no-newline-at-the-end", jsonl(*_OBJECTS)[:-1], _JSON_TWO),
    Good("json-spaces", jsonl("  " + _OBJECTS[0].replace(":", " : ").replace("{", "{ "), _OBJECTS[1] + " "), _JSON_TWO),
    Good(
        "json-other-order",
        jsonl(_OBJECTS[0], '{"key": "k2", "reason": "test", "amount": 7, "user_id": "u2"}'),
        _JSON_TWO,
    ),
    Good("json-nulls", jsonl(_OBJECTS[0][:-1] + ', "note": null, "ticket": "", "kind": null, "error": "x"}'), [row(1)]),
    Good(
        "json-escapes",
        jsonl(_OBJECTS[0][:-1] + r', "note": "F\u00fcr \"\ud83c\udf84\" \\N", "ticket": "A\/1"}'),
        [row(1, note='Für "🎄" \\N', ticket="A/1")],
    ),
    Good(
        "json-optional-members",
        jsonl(_OBJECTS[0][:-1] + ', "note": "a"}', _OBJECTS[1]),
        [row(1, note="a"), row(2, "u2", 7, "k2")],
    ),
    Good(
        "json-campaign",
        jsonl('{"user_id": "u1", "amount": 5}'),
        [row(1, key="bonus:spring")],
        {"campaign": "spring", "default_reason": "test"},
    ),
    Good("json-forced", jsonl(*_OBJECTS), _JSON_TWO, {"format": "jsonl"}),
    Good("csv-forced", csv(*_LINES), TWO, {"format": "csv"}),
]
