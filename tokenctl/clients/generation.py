"""The values of one generated image: what is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: How large the image is to be: about 1024, 2048 or 4096 pixels on its long side.
Quality = Literal["1K", "2K", "4K"]
QUALITIES: tuple[Quality, ...] = ("1K", "2K", "4K")
#: Width to height, as Gemini writes it.
ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")


@dataclass(frozen=True)
class InputImage:
    """A file that was judged and may be sent; its bytes are read when they are needed (images.read)."""

    path: Path
    mime: str
    width: int
    height: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Request:
    """What is asked of a model; inputs.judge makes one. The prompt is nobody else's business: never log it."""

    model: str
    prompt: str = field(repr=False)
    images: tuple[InputImage, ...]
    quality: Quality
    aspect_ratio: str | None = None


@dataclass(frozen=True)
class Usage:
    """The tokens that Gemini counted, which are not the ledger's; None is what it did not tell."""

    prompt: int | None = None
    output: int | None = None
    thoughts: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The image that came, and what the ledger is to remember of where it came from."""

    image: bytes = field(repr=False)
    mime: str
    width: int
    height: int
    response_id: str | None
    model_version: str | None
    usage: Usage
