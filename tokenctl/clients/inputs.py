"""What a person asks for, judged before anything is held, imported or sent.

Every mistake is told at once, with its place. A prompt is never repeated in one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tokenctl.clients import images
from tokenctl.clients.generation import ASPECT_RATIOS, QUALITIES, InputImage, Quality, Request
from tokenctl.errors import BadData, NoInput, TokenctlError, UsageError

# Characters of a value that a mistake repeats.
_SHOWN = 40
FEWEST_IMAGES, MOST_IMAGES = 3, 10
LONGEST_PROMPT = 20_000
# No character has more than four bytes; a mark in front and a line end come on top.
_LONGEST_FILE = 4 * LONGEST_PROMPT + 5

# Line ends and tabs belong to a text; other control characters come from a file that is none, and half
# characters from one that is no UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NO_PROMPT = f"must be a text of 1 to {LONGEST_PROMPT:,} characters, without control characters"


def _text(prompt: str) -> str:
    if not prompt.strip() or _UNPRINTABLE.search(prompt):
        raise ValueError
    return prompt


def _listed(ratio: str) -> str:
    if ratio not in ASPECT_RATIOS:
        raise ValueError
    return ratio


class _Asked(BaseModel):
    """What the command line says, before any file is looked at."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    prompt: Annotated[str, Field(max_length=LONGEST_PROMPT), AfterValidator(_text)]
    quality: Quality
    aspect_ratio: Annotated[str, AfterValidator(_listed)] | None
    images: Annotated[list[Path], Field(min_length=FEWEST_IMAGES, max_length=MOST_IMAGES)]


def judge(
    *,
    model: str,
    prompt: str | None,
    paths: Sequence[Path],
    quality: str | None,
    aspect_ratio: str | None = None,
    prompt_file: Path | None = None,
) -> Request:
    """The request, if it is one that can be sent; the prompt is a text or in a file, whose last line end is no part.

    Raises UsageError (what is asked for), BadData (what a file holds) or NoInput (a file that cannot
    be read): the first of these that fits, naming every mistake of all three.
    """
    text, unread = _prompt(prompt, prompt_file)
    judged, mistakes = _files(paths[:MOST_IMAGES])  # to look at a thousand files would help nobody
    asked: dict[str, object] = {
        "prompt": "-" if unread else text, "quality": quality, "aspect_ratio": aspect_ratio, "images": list(paths)
    }  # fmt: skip
    wrong: dict[str, None] = {}
    try:
        _Asked.model_validate(asked)
    except ValidationError as error:
        wrong = dict.fromkeys(str(one["loc"][0]) for one in error.errors(include_input=False, include_context=False))
    sentences = {
        "prompt": f"--prompt{'' if prompt_file is None else '-file'}: {_NO_PROMPT}",
        "quality": "missing option '--quality'" if quality is None else _unlisted("--quality", quality, QUALITIES),
        "aspect_ratio": _unlisted("--aspect-ratio", aspect_ratio, ASPECT_RATIOS),
        "images": f"--image: must be given {FEWEST_IMAGES} to {MOST_IMAGES} times, not {len(paths)}",
    }
    told: list[_Mistake] = [(UsageError, sentences[name]) for name in wrong]
    if told or unread or mistakes:
        raise _all([*unread, *told, *mistakes])
    return Request(model, text, tuple(judged), QUALITIES[QUALITIES.index(str(quality))], aspect_ratio)


_Mistake = tuple[type[TokenctlError], str]


def _prompt(prompt: str | None, file: Path | None) -> tuple[str, list[_Mistake]]:
    """The prompt, or why there is none to judge."""
    if prompt is not None and file is not None:
        return "", [(UsageError, "--prompt and --prompt-file contradict each other")]
    if prompt is not None:
        return prompt, []
    if file is None:
        return "", [(UsageError, "missing option '--prompt' or '--prompt-file'")]
    try:
        with file.open("rb") as opened:  # a pipe will do
            content = opened.read(_LONGEST_FILE + 1)
        if len(content) > _LONGEST_FILE:
            return "", [(UsageError, f"--prompt-file: {_NO_PROMPT}")]
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r"), []
    except OSError as error:
        return "", [(NoInput, f"the prompt's file ({file}): {error.strerror}")]
    except UnicodeDecodeError:
        return "", [(BadData, f"the prompt's file ({file}) is not UTF-8")]


def _files(paths: Sequence[Path]) -> tuple[list[InputImage], list[_Mistake]]:
    good: list[InputImage] = []
    mistakes: list[_Mistake] = []
    for number, path in enumerate(paths, 1):
        place = f"image {number} ({path})"
        try:
            good.append(images.judge(path))
        except images.NotAnImage as error:
            mistakes.append((BadData, f"{place} {error}"))
        except OSError as error:
            mistakes.append((NoInput, f"{place}: {error.strerror}"))
    total = sum(image.size_bytes for image in good)
    if total > images.MAX_BYTES:
        too_much = f"the images have {total:,} bytes together; at most {images.MAX_BYTES:,} can be sent"
        mistakes.append((BadData, too_much))
    return good, mistakes


def _unlisted(option: str, value: str | None, listed: Sequence[str]) -> str:
    return f"{option}: {(value or '')[:_SHOWN]!r} is not one of {', '.join(listed)}"


def _all(mistakes: Sequence[_Mistake]) -> TokenctlError:
    """One error of the gravest class, with a line for each mistake."""
    gravest = next(kind for kind in (UsageError, BadData, NoInput) if any(kind is found for found, _ in mistakes))
    heading = [f"{len(mistakes)} mistakes; nothing was sent"] if len(mistakes) > 1 else []
    hint = "tokenctl generate --help" if gravest is UsageError else ""
    return gravest("\n".join([*heading, *(text for _, text in mistakes)]), hint=hint, mistakes=len(mistakes))
