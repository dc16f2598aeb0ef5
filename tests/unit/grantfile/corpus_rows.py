"""More of the corpus: files with one bad row, and the words that say what is wrong with it."""

from __future__ import annotations

from tests.unit.grantfile.corpus import GOOD, HEADER, NOTED, WHOLE_FILES, Case, csv, jsonl
from tokenctl.errors import BadData

_AMOUNTS = {
    "underscore": ("1_000", r"'1_000' is not a whole number of tokens; write 1000, without separators"),
    "point": ("1.000", r"'1\.000' is not a whole number of tokens; write 1000 or 1, without separators"),
    "point-and-more": ("1.500", r"'1\.500' is not a whole number of tokens; write 1500, without separators"),
    "comma": ('"1,000"', r"'1,000' is not a whole number of tokens; write 1000 or 1, without separators"),
    "two-commas": ('"1,000,000"', r"write 1000000, without separators"),
    "blank-inside": ("1 000", r"'1 000' is not a whole number of tokens; write 1000, without separators"),
    "apostrophe": ("1'000", r"write 1000, without separators"),
    "plus": ("+5", r"'\+5' has a sign; write 5"),
    "minus": ("-5", r"'-5' is negative; .*tokenctl reverse"),
    "typographic-minus": ("\u22125", r"is negative"),
    "zero": ("0", r"'0' grants nothing; the smallest amount is 1"),
    "zeros": ("000", r"'000' grants nothing"),
    "leading-zero": ("05", r"'05' has a leading zero; write 5"),
    "blank-before": (" 5", r"' 5' has blanks before it; remove them"),
    "blank-after": ("5 ", r"'5 ' has blanks after it; remove them"),
    "blanks-around": (" 5 ", r"' 5 ' has blanks before and after it; remove them"),
    "only-blanks": ("  ", r"'  ' is only blanks"),
    "decimal": ("5.0", r"'5\.0' is not a whole number of tokens; write 5$"),
    "fraction": ("5.5", r"'5\.5' is not a whole number of tokens; tokens are not divided"),
    "decimal-comma": ('"5,25"', r"'5,25' is not a whole number of tokens; tokens are not divided"),
    "scientific": ("1e3", r"'1e3' is in scientific notation; write 1000"),
    "scientific-capital": ("25E+2", r"'25E\+2' is in scientific notation; write 2500"),
    "scientific-huge": ("1e99", r"'1e99' is in scientific notation; write it out"),
    "arabic-digits": ("\u0663", r"'\u0663' is not written with the digits 0 to 9; write 3"),
    "fullwidth-digits": ("\uff15\uff10", r"is not written with the digits 0 to 9; write 50"),
    "sixteen-digits": ("1000000000000000", r"has 16 digits; the largest amount is 999999999999999"),
    "nineteen-digits": ("9223372036854775808", r"has 19 digits; the largest amount"),
    "hundreds-of-digits": ("9" * 900, r"has 900 digits; the largest amount"),
    "empty": ("", r"is missing; write a whole number of tokens"),
    "nan": ("NaN", r"'NaN' is not a number"),
    "infinity": ("-inf", r"'-inf' is not a number"),
    "dash": ("-", r"'-' is not a number"),
    "hexadecimal": ("0x10", r"'0x10' is not a whole number of tokens; write digits only"),
    "unit": ("5 tokens", r"'5 tokens' is not a whole number of tokens; write digits only"),
    "formula": ("=5", r"'=5' is not a whole number of tokens"),
    "superscript": ("5\u00b2", r"is not a whole number of tokens; write digits only"),
}

_VALUES = {
    "user-missing": ("user_id", ",5,test,k1,,,", r"is missing"),
    "user-blank": ("user_id", "u 1,5,test,k1,,,", r"'u 1' has a blank at character 2; a user id has only"),
    "user-dash": ("user_id", "-u1,5,test,k1,,,", r"'-u1' begins with '-'; a user id begins with"),
    "user-long": ("user_id", f"{'u' * 129},5,test,k1,,,", r"has 129 characters; at most 128 are allowed"),
    "user-umlaut": ("user_id", "m\u00fcller,5,test,k1,,,", r"has '\u00fc' \(U\+00FC\) at character 2"),
    "user-homoglyph": ("user_id", "\u0430bc,5,test,k1,,,", r"has '\u0430' \(U\+0430\) at character 1"),
    "user-slash": ("user_id", "a/b,5,test,k1,,,", r"has '/' \(U\+002F\) at character 2"),
    "user-invisible": ("user_id", "u\u200b1,5,test,k1,,,", r"'u\\u200b1' has U\+200B at character 2"),
    "user-formula": ("user_id", "=u1,5,test,k1,,,", r"'=u1' has '=' \(U\+003D\) at character 1"),
    "user-no-break-space": ("user_id", "u1\u00a0,5,test,k1,,,", r"'u1\\xa0' has blanks after it; remove them"),
    "reason-missing": ("reason", "u1,5,,k1,,,", r"is missing; write one, or give --reason CODE"),
    "reason-capital": ("reason", "u1,5,Test,k1,,,", r"'Test' has capitals; write 'test'"),
    "reason-digit": ("reason", "u1,5,4test,k1,,,", r"'4test' begins with '4'; a reason begins with a letter"),
    "reason-long": ("reason", f"u1,5,{'t' * 33},k1,,,", r"has 33 characters; at most 32 are allowed"),
    "reason-blank": ("reason", "u1,5,a test,k1,,,", r"'a test' has a blank at character 2"),
    "key-missing": ("idempotency_key", "u1,5,test,,,,", r"is missing; give every row a key, or --campaign NAME"),
    "key-character": ("idempotency_key", "u1,5,test,k#1,,,", r"'k#1' has '#' \(U\+0023\) at character 2"),
    "key-long": ("idempotency_key", f"u1,5,test,{'k' * 129},,,", r"has 129 characters; at most 128"),
    "note-long": ("note", f"u1,5,test,k1,{'n' * 501},,", r"has 501 characters; at most 500 are allowed"),
    "note-very-long": ("note", f"u1,5,test,k1,{'n' * 20_000},,", r"has 20,000 characters; at most 500"),
    "note-escape": ("note", "u1,5,test,k1,\x1b[2J,,", r"has the control character U\+001B at character 1"),
    "note-delete": ("note", "u1,5,test,k1,a\x7f,,", r"control character U\+007F at character 2"),
    "note-c1": ("note", "u1,5,test,k1,a\u009b,,", r"control character U\+009B at character 2"),
    "note-right-to-left": ("note", "u1,5,test,k1,a\u202eb,,", r"control character U\+202E at character 2"),
    "note-zero-width": ("note", "u1,5,test,k1,a\u200bb,,", r"control character U\+200B at character 2"),
    "note-line-separator": ("note", "u1,5,test,k1,a\u2028b,,", r"a line break U\+2028 at character 2"),
    "note-private": ("note", "u1,5,test,k1,a\ue000b,,", r"control character U\+E000 at character 2"),
    "note-blank": ("note", "u1,5,test,k1, a,,", r"' a' has blanks before it; remove them"),
    "note-no-break-space": ("note", "u1,5,test,k1,a\u00a0,,", r"'a\\xa0' has blanks after it"),
    "note-tab": ("note", "u1,5,test,k1,a\tb,,", r"control character U\+0009 at character 2"),
    "ticket-character": ("ticket", "u1,5,test,k1,,T 1,", r"'T 1' has a blank at character 2; a ticket has only"),
    "ticket-long": ("ticket", f"u1,5,test,k1,,{'9' * 65},", r"has 65 characters; at most 64 are allowed"),
    "kind-unknown": ("kind", "u1,5,test,k1,,,gift", r"'gift' is no kind that an import may post"),
    "kind-forbidden": ("kind", "u1,5,test,k1,,,adjustment", r"write bonus or purchase"),
    "kind-blank": ("kind", "u1,5,test,k1,,,bonus ", r"'bonus ' has blanks after it"),
}

_MEMBERS = '"user_id": "u2", "reason": "test", "key": "k2"'
_OBJECTS = {
    "cut": (r'{"user_id": "u2", "am', r"row: is not JSON: .* at character \d+"),
    "trailing-comma": (f'{{{_MEMBERS}, "amount": 5,}}', r"row: is not JSON"),
    "comment": (f'{{{_MEMBERS}, "amount": 5}} // fine', r"row: is not JSON: Extra data"),
    "python-dict": ("{'user_id': 'u2'}", r"row: is not JSON: Expecting property name"),
    "two-values": (f'{{{_MEMBERS}, "amount": 5}} {{}}', r"row: is not JSON: Extra data at character"),
    "number": ("5", r"row: is no object"),
    "list": ('["u2", 5]', r"row: is no object"),
    "null": ("null", r"row: is no object"),
    "deep": ("[" * 30_000, r"row: is nested too deeply"),
    "deep-value": (f'{{{_MEMBERS}, "amount": {"[" * 30_000}', r"row: is nested too deeply"),
    "member-twice": (f'{{{_MEMBERS}, "amount": 5, "amount": 50}}', r"row: the member 'amount' stands twice"),
    "member-twice-escaped": (
        f'{{{_MEMBERS}, "amount": 5, "\\u0061mount": 50}}',
        r"row: the member 'amount' stands twice",
    ),
    "unknown-member": (f'{{{_MEMBERS}, "amuont": 5}}', r"row: has an unknown member 'amuont'; did you mean 'amount'\?"),
    "both-keys": (f'{{{_MEMBERS}, "amount": 5, "idempotency_key": "x"}}', r"row: has both idempotency_key and key"),
    "control-character": ('{"user_id": "u\t2"}', r"row: is not JSON: Invalid control character"),
    "amount-text": (f'{{{_MEMBERS}, "amount": "5"}}', r"amount: '5' is in quotes; write the number without them"),
    "amount-decimal": (f'{{{_MEMBERS}, "amount": 5.0}}', r"amount: '5\.0' is not a whole number of tokens; write 5"),
    "amount-scientific": (f'{{{_MEMBERS}, "amount": 1e3}}', r"amount: '1e3' is in scientific notation; write 1000"),
    "amount-true": (f'{{{_MEMBERS}, "amount": true}}', r"amount: is true, not a number"),
    "amount-null": (f'{{{_MEMBERS}, "amount": null}}', r"amount: is missing"),
    "amount-nan": (f'{{{_MEMBERS}, "amount": NaN}}', r"amount: 'NaN' is not a number"),
    "amount-huge": (f'{{{_MEMBERS}, "amount": {"9" * 5000}}}', r"amount: '9+…' has 5000 digits"),
    "amount-zero": (f'{{{_MEMBERS}, "amount": 0}}', r"amount: '0' grants nothing"),
    "amount-minus": (f'{{{_MEMBERS}, "amount": -5}}', r"amount: '-5' is negative"),
    "amount-list": (f'{{{_MEMBERS}, "amount": [5]}}', r"amount: is a list, not a number"),
    "amount-object": (f'{{{_MEMBERS}, "amount": {{"value": 5}}}}', r"amount: is an object, not a number"),
    "no-amount": (f"{{{_MEMBERS}}}", r"amount: is missing"),
    "user-number": (
        '{"user_id": 42, "amount": 5, "reason": "test", "key": "k2"}',
        r"user_id: 42 is a number; put it in quotes",
    ),
    "user-true": (
        '{"user_id": true, "amount": 5, "reason": "test", "key": "k2"}',
        r"user_id: is true; write text in quotes",
    ),
    "note-list": (f'{{{_MEMBERS}, "amount": 5, "note": []}}', r"note: is a list; write text in quotes"),
    "lone-surrogate": (f'{{{_MEMBERS}, "amount": 5, "note": "a\\ud800"}}', r"note: has the control character U\+D800"),
    "surrogate-in-id": (
        '{"user_id": "\\udc00", "amount": 5, "reason": "test", "key": "k2"}',
        r"user_id: '\\udc00' has U\+DC00",
    ),
    "nul-escape": (f'{{{_MEMBERS}, "amount": 5, "note": "a\\u0000"}}', r"note: has the control character U\+0000"),
    "newline-escape": (
        f'{{{_MEMBERS}, "amount": 5, "note": "a\\nb"}}',
        r"note: has a line break U\+000A at character 2",
    ),
    "no-key": (
        '{"user_id": "u2", "amount": 5, "reason": "test"}',
        r"idempotency_key: is missing; give every row a key",
    ),
}
_FIRST = '{"user_id": "u1", "amount": 5, "reason": "test", "key": "k1"}'

ROWS = [
    *[
        Case(f"amount-{name}", rf":3: amount: .*{message}", csv(GOOD, f"u2,{text},test,k2"), error=None)
        for name, (text, message) in _AMOUNTS.items()
    ],
    *[
        Case(name, rf":2: {column}: .*{message}", csv(row, "u2,5,test,k2,,,", header=NOTED), error=None)
        for name, (column, row, message) in _VALUES.items()
    ],
    *[
        Case(f"json-{name}", rf":2: {message}", jsonl(_FIRST, row), error=None, file_name="grants.jsonl")
        for name, (row, message) in _OBJECTS.items()
    ],
    Case(
        "unlisted-reason",
        r":2: reason: 'tset' is not among the configured reasons; did you mean 'test'\?",
        csv("u1,5,tset,k1"),
        error=None,
        options={"reasons": frozenset({"test", "promo"})},
    ),
    Case(
        "json-key-and-campaign",
        r":2: idempotency_key: has a key beside --campaign",
        jsonl('{"user_id": "u0", "amount": 5, "reason": "test", "key": ""}', _FIRST),
        error=None,
        options={"campaign": "spring"},
    ),
    Case("several-columns", r":2: reason: .*\n.*:2: idempotency_key: is missing", csv("u1,5,Test,"), error=None),
    Case("bad-row-in-stdin", r"^-:2: amount: '5,0'", csv('u1,"5,0",test,k1', header=HEADER), error=None, stdin=True),
    Case("json-array", r"is a JSON array, not JSON Lines", jsonl(f"[{_FIRST}]"), error=BadData),
    Case("json-array-lines", r":1: is a JSON array", jsonl("[", f"{_FIRST},", f"{_FIRST}]"), error=BadData),
    Case("json-pretty", r":1: an object runs over several lines", jsonl("{", '  "user_id": "u1"', "}"), error=BadData),
    Case("json-wrapped", r":1: an object runs over several", jsonl('{"user_id": "u1",', '"amount": 5}'), error=BadData),
]

CORPUS = [*WHOLE_FILES, *ROWS]
