"""How tests ask through Google's library."""

from __future__ import annotations

from tokenctl.clients.gemini import Answer, Gemini
from tokenctl.clients.generation import Request

SECRET = "AIzaSy-first-secret-0001"  # noqa: S105 — it opens nothing
ENOUGH_S = 60.0


def ask(client: Gemini, request: Request, *, limit_s: float = ENOUGH_S, secret: str = SECRET) -> Answer:
    return client.generate(request, secret, limit_s=limit_s, request_id="req-1")
