"""A failed call to Gemini in our words: whose turn it is now, and what Gemini said."""

from __future__ import annotations

from typing import Any

from tokenctl import commandline
from tokenctl.clients.keyfile import Key
from tokenctl.clients.outcomes import Ended, Kind, Verdict
from tokenctl.errors import (
    BadData,
    ConfigError,
    ContentRefused,
    GeminiUnavailable,
    NoImage,
    RateLimited,
    TimedOut,
    TokenctlError,
)
from tokenctl.telemetry.redaction import filtered
from tokenctl.wording import counted

_AGAIN = "nothing was kept; try again later"


def told(ended: Ended) -> str:
    """How the call ended, in a few words of Gemini's own."""
    match ended.kind:
        case Kind.ANSWERED:
            return filtered(ended.blocked or ended.finish or "no reason")
        case Kind.REFUSED:
            return filtered(f"{ended.http_status} {ended.reason or ended.status}".strip())
        case Kind.UNSENT:
            return "no connection"
        case Kind.LOST:
            return "no whole answer in time"
        case Kind.UNREADABLE:
            return f"an answer that is none of Gemini's ({ended.message})"
        case Kind.UNTRUSTED:
            return "its certificate is not trusted"


def failure(ended: Ended, verdict: Verdict, key: Key, *, model: str, calls: int) -> TokenctlError:
    """The error that a command ends with after `calls` calls, of which the last ended like this."""
    said = told(ended) + (f": {filtered(ended.message)}" if ended.kind is Kind.REFUSED and ended.message else "")
    tries = counted(calls, "call")
    tests = commandline.line("keys", "test")
    known: dict[str, Any] = {"gemini": verdict.label, "calls": calls, "key": key.id, "model": model}
    match verdict.label:
        case "blocked":
            return ContentRefused(f"Gemini refuses this prompt or these images ({said})", **known)
        case "no_image":
            return NoImage(f"Gemini answered without an image ({said})", hint="say in the prompt what to draw", **known)
        case "key_rejected":
            return ConfigError(f"Gemini rejects the key {key.id} ({said})", hint=tests, **known)
        case "project_refused" | "precondition":
            return ConfigError(f"Gemini refuses the project {key.project} ({said})", hint=tests, **known)
        case "not_found":
            hint = "was it retired? generate.model names another one"
            return ConfigError(f"Gemini does not know the model {model} ({said})", hint=hint, **known)
        case "untrusted":
            hint = "behind a proxy of your own SSL_CERT_FILE names its certificate"
            return ConfigError("the certificate of Gemini's address is not trusted", hint=hint, **known)
        case "bad_request":
            return BadData(f"Gemini does not accept the request ({said})", **known)
        case "quota_minute" | "quota_day":
            known["retry_after_s"] = round(verdict.cooldown_s or 0.0, 3)
            return RateLimited(f"the quota of the project {key.project} is used up ({said})", **known)
        case "ambiguous":
            return TimedOut(f"Gemini gave {told(ended)} in {tries}", hint=_AGAIN, **known)
        case _:
            return GeminiUnavailable(f"Gemini did not answer in {tries} ({said})", hint=_AGAIN, **known)
