"""One call through Google's own library to a server that misbehaves."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest

from tests import gemini_server as fake
from tests import waiting
from tests.gemini_server import GeminiServer, Reply
from tests.pictures import REAL, png
from tests.unit.clients.asking import ENOUGH_S, SECRET, ask
from tokenctl.clients import gemini
from tokenctl.clients.gemini import Gemini
from tokenctl.clients.generation import Request, Usage
from tokenctl.clients.outcomes import Kind
from tokenctl.errors import NoInput


def test_an_image_comes_back_with_what_it_is(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.append(fake.image(png(2048, 1152)))
    answer = ask(client, request_)
    assert answer.ended.image
    assert answer.image == png(2048, 1152)
    assert answer.measured is not None
    assert (answer.measured.mime, answer.measured.width, answer.measured.height) == ("image/png", 2048, 1152)
    assert (answer.response_id, answer.model_version) == ("r-1", "gemini-test-001")
    assert answer.usage == Usage(prompt=800, output=1120, thoughts=90, total=2010)


def test_the_kind_of_the_image_is_read_from_its_bytes(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.append(fake.image(REAL["jpeg"], mime="image/png"))
    measured = ask(client, request_).measured
    assert measured is not None
    assert measured.mime == "image/jpeg"


def test_the_request_on_the_wire(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.append(fake.image())
    ask(client, request_, limit_s=90)
    [asked] = server.asked
    assert asked.path == "/v1beta/models/gemini-3-pro-image:generateContent"
    assert asked.key == [SECRET]
    assert asked.headers["x-request-id"] == ["req-1"]
    assert asked.headers["x-server-timeout"] == ["90"]
    [content] = asked.body["contents"]
    *pictures, text = content["parts"]
    assert text == {"text": "a very private prompt"}
    sent = [base64.urlsafe_b64decode(one["inlineData"]["data"]) for one in pictures]
    assert sent == [REAL["png"], REAL["jpeg"]]
    assert asked.body["generationConfig"] == {
        "candidateCount": 1,
        "responseModalities": ["IMAGE"],
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    }
    assert SECRET not in asked.path + str(asked.body)


def test_a_server_is_never_told_less_than_ten_seconds(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.append(fake.image())
    ask(client, request_, limit_s=3)
    assert server.asked[0].headers["x-server-timeout"] == ["10"]


def test_each_call_has_its_own_key_on_one_connection(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.extend([fake.image(), fake.model(), fake.image()])
    ask(client, request_, secret=f"first-{SECRET}")
    client.look_up("m", f"second-{SECRET}", limit_s=ENOUGH_S, request_id="req-2")
    ask(client, request_, secret=f"third-{SECRET}")
    assert server.keys == [f"{which}-{SECRET}" for which in ("first", "second", "third")]


def test_drafts_are_passed_over(server: GeminiServer, client: Gemini, request_: Request) -> None:
    draft = fake.inline(png(1, 1), thought=True)
    thinking = {"text": "hm", "thought": True}
    server.script.append(fake.image(png(2, 2), before=[thinking, draft, {"text": "here it is"}, fake.inline(b"")]))
    assert ask(client, request_).image == png(2, 2)
    server.script.append(fake.parts(draft, thinking))
    assert ask(client, request_).ended.image is False


WITHOUT_IMAGE = {
    "text": (fake.parts({"text": "I cannot draw"}), "STOP", ""),
    "no parts": (fake.parts(), "STOP", ""),
    "refused": (fake.finished("IMAGE_SAFETY"), "IMAGE_SAFETY", ""),
    "a new reason": (fake.finished("A_WORD_OF_NEXT_YEAR"), "A_WORD_OF_NEXT_YEAR", ""),
    "blocked": (fake.blocked(), "", "PROHIBITED_CONTENT"),
    "blocked for a new reason": (fake.blocked("A_WORD_OF_NEXT_YEAR"), "", "A_WORD_OF_NEXT_YEAR"),
    "no candidates": (fake.answer({"candidates": []}), "", ""),
}


@pytest.mark.parametrize("case", WITHOUT_IMAGE)
def test_an_answer_without_an_image_says_why(
    server: GeminiServer, client: Gemini, request_: Request, case: str
) -> None:
    reply, finish, blocked = WITHOUT_IMAGE[case]
    server.script.append(reply)
    ended = ask(client, request_).ended
    assert (ended.kind, ended.image, ended.finish, ended.blocked) == (Kind.ANSWERED, False, finish, blocked)


_BAD_BASE64 = {"content": {"parts": [{"inlineData": {"data": "!!", "mimeType": "image/png"}}]}}
NO_ANSWER = {
    "html": fake.body(b"<html>welcome to the hotel</html>", kind="text/html"),
    "half of an object": fake.body(b'{"candidates": ['),
    "no utf-8": fake.body(b"\xff\xfe\xfd"),
    "an empty object": fake.body(b"{}"),
    "an empty body": fake.body(b""),
    "null": fake.body(b"null"),
    "a list": fake.body(b"[1]"),
    "a text": fake.body(b'"text"'),
    "another form": fake.body(b'{"candidates": 7}'),
    "no base64": fake.answer({"candidates": [_BAD_BASE64]}),
    "a gif": fake.image(b"GIF89a" + bytes(20)),
    "half of a header": fake.image(png(9, 9)[:20]),
    "packed": fake.body(gzip.compress(b"{}"), content_encoding="gzip"),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_a_200_that_is_no_answer_is_unreadable(
    server: GeminiServer, client: Gemini, request_: Request, case: str
) -> None:
    server.script.append(NO_ANSWER[case])
    answer = ask(client, request_)
    assert (answer.ended.kind, answer.image) == (Kind.UNREADABLE, b"")


def test_an_answer_without_end_is_read_up_to_a_limit(
    server: GeminiServer, client: Gemini, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemini, "MAX_ANSWER_BYTES", 1_000)
    server.script.append(fake.image(png(9, 9, pixels=bytes(2_000))))
    ended = ask(client, request_).ended
    assert (ended.kind, ended.message) == (Kind.UNREADABLE, "TooLarge")


REFUSALS = {
    "a rejected key": (fake.rejected(), 400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
    "403": (fake.error(403, "PERMISSION_DENIED"), 403, "PERMISSION_DENIED", ""),
    "404": (fake.error(404, "NOT_FOUND"), 404, "NOT_FOUND", ""),
    "503": (fake.error(503, "UNAVAILABLE"), 503, "UNAVAILABLE", ""),
    "a proxy's 502": (fake.html(), 502, "Bad Gateway", ""),
    "a list": (fake.body(b"[]", code=500), 500, "", ""),
    "an error that is a text": (fake.body(b'{"error": "text"}', code=500), 500, "", ""),
    "an empty body": (fake.body(b"", code=504), 504, "Gateway Timeout", ""),
    "no utf-8": (fake.body(b"\xff\xfe", code=500), 500, "Internal Server Error", ""),
    "created": (fake.body(b"{}", code=201), 201, "", ""),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_another_status_is_told_with_what_stands_in_it(
    server: GeminiServer, client: Gemini, request_: Request, case: str
) -> None:
    reply, code, status, reason = REFUSALS[case]
    server.script.append(reply)
    ended = ask(client, request_).ended
    assert (ended.kind, ended.http_status, ended.status, ended.reason) == (Kind.REFUSED, code, status, reason)
    assert len(server.asked) == 1


def test_hints_to_wait_come_through(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.extend([fake.exhausted(37.5, period="Day"), fake.error(503, "UNAVAILABLE", retry_after="8")])
    ended = ask(client, request_).ended
    assert (ended.retry_after_s, ended.quota) == (37.5, "GenerateRequestsPerDayPerProjectPerModel")
    assert ask(client, request_).ended.retry_after_s == 8


@pytest.mark.parametrize("reply", [fake.reset(), fake.closed(), fake.truncated()], ids=["reset", "closed", "truncated"])
def test_a_connection_that_breaks_leaves_us_in_doubt_and_is_not_tried_again(
    server: GeminiServer, client: Gemini, request_: Request, reply: Reply
) -> None:
    server.script.append(reply)
    assert ask(client, request_).ended.kind is Kind.LOST
    assert len(server.asked) == 1
    server.script.append(fake.image())
    assert ask(client, request_).ended.image


def test_the_time_limit_is_a_total(server: GeminiServer, client: Gemini, request_: Request) -> None:
    server.script.extend([fake.silent(), fake.dripping()])
    assert ask(client, request_, limit_s=0.3).ended.kind is Kind.LOST
    assert ask(client, request_, limit_s=0.3).ended.kind is Kind.LOST
    waiting.until(server.left.is_set, "the connection to be closed")


def test_a_signal_ends_the_wait_and_the_call(
    server: GeminiServer, client: Gemini, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script.append(fake.dripping())

    class Stopped(BaseException):
        pass

    def stop(_future: Any, _timeout: float) -> None:
        waiting.until(lambda: server.asked, "the call to be on its way")
        raise Stopped

    monkeypatch.setattr("concurrent.futures.Future.result", stop)
    with pytest.raises(Stopped):
        ask(client, request_)
    monkeypatch.undo()
    waiting.until(server.left.is_set, "the call to be given up")
    server.script.append(fake.image())
    assert ask(client, request_).ended.image


def test_a_file_that_was_changed_is_not_sent(server: GeminiServer, client: Gemini, request_: Request) -> None:
    request_.images[1].path.write_bytes(REAL["png"])
    with pytest.raises(NoInput):
        ask(client, request_)
    assert server.asked == []


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fake.model(), Kind.ANSWERED),
        (fake.body(b"{}"), Kind.UNREADABLE),
        (fake.rejected(), Kind.REFUSED),
        (fake.closed(), Kind.LOST),
    ],
    ids=["a model", "an empty object", "rejected", "closed"],
)
def test_a_key_is_tested_by_asking_what_the_model_is(
    server: GeminiServer, client: Gemini, reply: Reply, kind: Kind
) -> None:
    server.script.append(reply)
    ended = client.look_up("gemini-3-pro-image", SECRET, limit_s=ENOUGH_S, request_id="req-1").ended
    assert (ended.kind, ended.image) == (kind, kind is Kind.ANSWERED)
    [asked] = server.asked
    assert (asked.path, asked.body) == ("/v1beta/models/gemini-3-pro-image", None)
