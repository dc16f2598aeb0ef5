"""What may be asked for, and that every mistake is told at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import REAL, png
from tokenctl.clients import images
from tokenctl.clients.generation import ASPECT_RATIOS
from tokenctl.clients.inputs import LONGEST_PROMPT, judge
from tokenctl.errors import BadData, NoInput, TokenctlError, UsageError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three images, one of each kind."""
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.webp")]
    for path, kind in zip(paths, ("png", "jpeg", "webp lossy"), strict=True):
        path.write_bytes(REAL[kind])
    return paths


def _asked(files: list[Path], **changed: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": "a cat", "paths": files, "quality": "2K", "aspect_ratio": None, **changed}


def _refused(kind: type[TokenctlError], asked: dict[str, Any]) -> str:
    with pytest.raises(kind) as caught:
        judge(**asked)
    assert type(caught.value) is kind
    return caught.value.detail


def test_a_good_request_is_complete(files: list[Path]) -> None:
    request = judge(**_asked(files, aspect_ratio="16:9"))
    assert (request.model, request.prompt, request.quality, request.aspect_ratio) == ("m", "a cat", "2K", "16:9")
    assert [image.mime for image in request.images] == ["image/png", "image/jpeg", "image/webp"]
    assert "a cat" not in repr(request)


@pytest.mark.parametrize("ratio", [None, *ASPECT_RATIOS])
def test_every_listed_ratio_is_taken(files: list[Path], ratio: str | None) -> None:
    assert judge(**_asked(files, aspect_ratio=ratio)).aspect_ratio == ratio


@pytest.mark.parametrize(("count", "good"), [(0, False), (2, False), (3, True), (10, True), (11, False)])
def test_three_to_ten_images_are_taken(files: list[Path], count: int, good: bool) -> None:
    asked = _asked((files * 4)[:count])
    if good:
        assert len(judge(**asked).images) == count
    else:
        assert _refused(UsageError, asked) == f"--image: must be given 3 to 10 times, not {count}"


@pytest.mark.parametrize("prompt", ["x", "two\nlines\tand a tab\r\n", "猫 and 🐈", "x" * LONGEST_PROMPT])
def test_a_prompt_is_any_text(files: list[Path], prompt: str) -> None:
    assert judge(**_asked(files, prompt=prompt)).prompt == prompt


@pytest.mark.parametrize("prompt", ["", " \n", "secret\0plan", "secret\x1b[31m", "secret\udcff", "s" * 20_001])
def test_a_prompt_that_is_no_text_is_refused_and_not_repeated(files: list[Path], prompt: str) -> None:
    told = _refused(UsageError, _asked(files, prompt=prompt))
    assert told.startswith("--prompt: must be a text of 1 to 20,000 characters")
    assert "secret" not in told
    assert "sss" not in told


@pytest.mark.parametrize(
    ("field", "value"),
    [("quality", "2k"), ("quality", "8K"), ("quality", ""), ("aspect_ratio", "16/9"), ("aspect_ratio", "")],
)
def test_a_word_beside_the_listed_ones_is_refused(files: list[Path], field: str, value: str) -> None:
    option = f"--{field.replace('_', '-')}"
    assert _refused(UsageError, _asked(files, **{field: value})).startswith(f"{option}: '{value}' is not one of 1")


def test_what_is_missing_is_told_as_by_every_command(files: list[Path]) -> None:
    assert _refused(UsageError, _asked(files, quality=None)) == "missing option '--quality'"
    assert _refused(UsageError, _asked(files, prompt=None)) == "missing option '--prompt' or '--prompt-file'"
    both = _asked(files, prompt_file=files[0])
    assert _refused(UsageError, both) == "--prompt and --prompt-file contradict each other"


def test_every_mistake_is_told_at_once_with_its_place(files: list[Path], tmp_path: Path) -> None:
    files[0].write_bytes(b"GIF89a" + bytes(10))
    asked = _asked([*files, tmp_path / "missing.png"], prompt="", quality="9K", aspect_ratio="1:9")
    heading, *lines = _refused(UsageError, asked).splitlines()
    assert heading == "5 mistakes; nothing was sent"
    places = [
        "--prompt:",
        "--quality:",
        "--aspect-ratio:",
        f"image 1 ({files[0]}) is a GIF",
        f"image 4 ({tmp_path}/missing.png): No",
    ]
    assert all(line.startswith(place) for line, place in zip(lines, places, strict=True)), lines


def test_the_gravest_kind_of_mistake_gives_the_exit_code(files: list[Path], tmp_path: Path) -> None:
    missing = [*files[1:], tmp_path / "missing.png"]
    assert "No such file" in _refused(NoInput, _asked(missing))
    files[1].write_bytes(b"text")
    assert "of another kind" in _refused(BadData, _asked(missing))


def test_a_pipe_is_refused_and_not_waited_for(files: list[Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in _refused(BadData, _asked([*files, tmp_path / "pipe"]))


def test_all_images_together_have_a_limit(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(path.stat().st_size for path in files)
    monkeypatch.setattr(images, "MAX_BYTES", total)
    judge(**_asked(files))
    monkeypatch.setattr(images, "MAX_BYTES", total - 1)
    assert _refused(BadData, _asked(files)) == (
        f"the images have {total:,} bytes together; at most {total - 1:,} can be sent"
    )


def test_of_a_thousand_files_ten_are_looked_at(tmp_path: Path) -> None:
    told = _refused(UsageError, _asked([tmp_path / str(n) for n in range(1_000)]))
    assert len(told.splitlines()) == 12


@given(prompt=st.text(max_size=50), quality=st.text(max_size=3), ratio=st.none() | st.text(max_size=5))
def test_any_texts_give_a_request_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, quality: str, ratio: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(png(9, 9))
    try:
        judge(**_asked([path] * 3, prompt=prompt, quality=quality, aspect_ratio=ratio))
    except UsageError as error:
        assert "must be" in error.detail or "is not one of" in error.detail  # noqa: PT017 — either is right
