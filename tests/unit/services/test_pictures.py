"""Whose file an image is: one of the right content, under its own name and not behind a link."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tokenctl.errors import CannotCreate
from tokenctl.services.pictures import Place

IMAGE = b"what was paid for"
DIGEST = hashlib.sha256(IMAGE).hexdigest()


def test_a_link_to_the_same_content_is_no_image(tmp_path: Path) -> None:
    """What it leads to is somebody else's, who may change it or take it away."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(IMAGE)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0123456789ab.png").symlink_to(elsewhere)
    assert Place(folder, "0123456789ab", "run").found(DIGEST) is None
    (folder / "0123456789ab.png").unlink()
    (folder / "0123456789ab.png").write_bytes(IMAGE)
    assert Place(folder, "0123456789ab", "run").found(DIGEST) == folder / "0123456789ab.png"


def test_a_folder_that_cannot_be_written_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Place(tmp_path / "a" / "b", "0123456789ab", "run").foresee()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    with pytest.raises(CannotCreate, match="images cannot be put there: Permission denied"):
        Place(tmp_path / "a" / "b", "0123456789ab", "run").foresee()
