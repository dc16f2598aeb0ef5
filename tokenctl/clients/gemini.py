"""The only module that knows Google's library: one call in, one plain value out.

The library is told everything explicitly, because it takes much from the environment, has no
time limit of its own, follows redirects with the key, may send several billed requests for
one call, and answers HTTP 200 for an image that it did not make. Importing it takes half a
second, so this module is imported when the first call is due.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
from google import genai
from google.genai import errors, types

from tokenctl.clients import images
from tokenctl.clients.generation import Request, Usage
from tokenctl.clients.loop import LoopThread
from tokenctl.clients.outcomes import Ended, Kind, refused
from tokenctl.resilience.deadline import NoAnswer

#: More than four images of the largest kind with drafts of each, as base64.
MAX_ANSWER_BYTES = 256_000_000
# Below ten seconds the service answers 500 by itself, so it is never told less.
_LEAST_SERVER_LIMIT_S = 10.0
_CLOSE_S = 1.0
_TEXT_CHARACTERS = 128
_ENVIRONMENT = ("GOOGLE_", "GEMINI_")
# What is not sent yet when these are raised; all other failures of the transport leave us in doubt.
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclass(frozen=True)
class Answer:
    """How a call ended, and what came with it; `image` is empty unless `ended.image`."""

    ended: Ended
    image: bytes = field(default=b"", repr=False)
    measured: images.Measured | None = None
    response_id: str | None = None
    model_version: str | None = None
    usage: Usage = field(default_factory=Usage)


class TooLarge(Exception):  # noqa: N818 — a limit of ours
    """The answer is larger than anything that was asked for."""


class Gemini:
    """One client, one connection pool; the key goes with each call. Not for several threads."""

    def __init__(self, base_url: str, api_version: str) -> None:
        """Connect to nothing yet. `base_url` was checked: https, or http to this machine."""
        secure = urlsplit(base_url).scheme == "https"
        # Proxies and certificates of the environment are for what leaves this machine: a proxy that
        # speaks plain HTTP would be handed the key.
        context = httpx2.create_ssl_context(trust_env=secure)
        self._http = httpx2.AsyncClient(
            verify=context,
            trust_env=secure,
            follow_redirects=False,
            headers={"accept-encoding": "identity"},  # so that what is measured is what comes
            event_hooks={"response": [_limit]},
        )
        self._unused = httpx2.Client(verify=context, trust_env=False)
        options = types.HttpOptions(
            base_url=base_url,
            api_version=api_version,
            httpx_client=self._unused,
            httpx_async_client=self._http,
            async_client_args={"ssl": context},
        )
        with _without_environment():
            self._client = genai.Client(enterprise=False, api_key="sent-with-each-call", http_options=options)
        self._loop = LoopThread()

    def generate(self, request: Request, secret: str, *, limit_s: float, request_id: str) -> Answer:
        """Ask for one image, once. Never raises for anything that a peer does; NoInput when a file changed."""
        contents = [
            *(types.Part.from_bytes(data=images.read(image), mime_type=image.mime) for image in request.images),
            types.Part(text=request.prompt),
        ]
        config = types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            image_config=types.ImageConfig(aspect_ratio=request.aspect_ratio, image_size=request.quality),
            candidate_count=1,
            automatic_continuation=False,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            http_options=_options(secret, limit_s, request_id),
        )
        return self._call(
            lambda: self._client.aio.models.generate_content(model=request.model, contents=contents, config=config),
            _image,
            limit_s,
        )

    def look_up(self, model: str, secret: str, *, limit_s: float, request_id: str) -> Answer:
        """Ask what the model is: free, and it tells whether the key is accepted and the model known.

        An answer of the right form counts as an image.
        """
        config = types.GetModelConfig(http_options=_options(secret, limit_s, request_id))
        return self._call(lambda: self._client.aio.models.get(model=model, config=config), _model, limit_s)

    def close(self) -> None:
        """Close the connections and the thread."""
        with contextlib.suppress(NoAnswer):
            self._loop.run(self._http.aclose, _CLOSE_S)
        self._loop.close()
        self._unused.close()

    def _call(self, send: Callable[[], Awaitable[Any]], read: Callable[[Any], Answer], limit_s: float) -> Answer:
        """Do one call and translate whatever comes of it, here and nowhere else."""

        async def sent() -> Answer:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of words that are newer than the library
                return read(await send())

        try:
            return self._loop.run(sent, limit_s)
        except errors.APIError as error:
            headers = getattr(error.response, "headers", {})
            return Answer(refused(error.code, error.details, headers, now=datetime.now(UTC)))
        except _UNSENT as error:
            return Answer(Ended(Kind.UNTRUSTED if _is_untrusted(error) else Kind.UNSENT))
        except (httpx2.TransportError, NoAnswer):
            return Answer(Ended(Kind.LOST))
        except Exception as error:  # noqa: BLE001 — the library fails in many ways on an answer that is none
            return Answer(Ended(Kind.UNREADABLE, message=type(error).__name__))


def _options(secret: str, limit_s: float, request_id: str) -> types.HttpOptions:
    return types.HttpOptions(
        headers={"x-goog-api-key": secret, "x-request-id": request_id},  # in capitals both keys would be sent
        timeout=round(max(limit_s, _LEAST_SERVER_LIMIT_S) * 1000),  # of each step, in milliseconds
        retry_options=types.HttpRetryOptions(attempts=1),
    )


def _model(response: types.Model) -> Answer:
    if not response.name:
        raise ValueError
    return Answer(Ended(Kind.ANSWERED, image=True))


def _image(response: types.GenerateContentResponse) -> Answer:
    """The first image that is not a draft, or why there is none; what holds nothing at all is no answer."""
    if not (response.candidates or response.prompt_feedback or response.response_id):
        raise ValueError
    candidate = response.candidates[0] if response.candidates else None
    parts = candidate.content.parts if candidate and candidate.content and candidate.content.parts else []
    blobs = [part.inline_data.data for part in parts if part.inline_data and not part.thought]
    image = next((data for data in blobs if data), b"")
    feedback, used = response.prompt_feedback, response.usage_metadata
    measured = images.measured(image) if image else None  # raises for bytes that are no image
    return Answer(
        Ended(
            Kind.ANSWERED,
            image=bool(image),
            finish=_name(candidate.finish_reason) if candidate else "",
            blocked=_name(feedback.block_reason) if feedback else "",
        ),
        image=image,
        measured=measured,
        response_id=_short(response.response_id),
        model_version=_short(response.model_version),
        usage=Usage(
            used.prompt_token_count, used.candidates_token_count, used.thoughts_token_count, used.total_token_count
        )
        if used
        else Usage(),
    )


def _name(word: Any) -> str:
    """The name of one of the library's enumerated words, known to it or not."""
    return _short(str(getattr(word, "value", word or ""))) or ""


def _short(text: str | None) -> str | None:
    return "".join(c for c in text if c.isprintable())[:_TEXT_CHARACTERS] if text else None


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def _limit(response: httpx2.Response) -> None:
    """Have an answer's body read up to a limit only."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TooLarge  # a few packed bytes can become any number of them
    response.stream = _Limited(response.stream)


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ANSWER_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise TooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextlib.contextmanager
def _without_environment() -> Iterator[None]:
    """Hide the variables that the library would obey: other keys, other servers, other transports."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_ENVIRONMENT)}
    try:
        yield
    finally:
        os.environ.update(hidden)
