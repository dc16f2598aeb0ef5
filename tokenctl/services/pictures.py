"""The files of a paid job: written whole before it is paid, named after, and never over another file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenctl.errors import CannotCreate

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True)
class Place:
    """Where the image of one generation goes: `<folder>/<id>.<extension>`, beside it a sidecar."""

    folder: Path
    generation_id: str

    def prepare(self) -> None:
        """Make the folder and see that it can be written, before anything is held or sent.

        Raises CannotCreate.
        """
        probe = self.folder / f".{self.generation_id}.probe"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            probe.unlink()
        except OSError as error:
            raise CannotCreate(f"{self.folder}: images cannot be put there: {error.strerror}") from error

    def finished(self) -> Path | None:
        """The image under its name, if it is there."""
        return next((path for path in self._named() if path.is_file()), None)

    def waiting(self) -> Path | None:
        """An image that was written whole and has no name yet."""
        return next((path for path in self._unnamed() if path.is_file()), None)

    def write(self, image: bytes, mime: str) -> Path:
        """Put the image on the disk under a temporary name. Raises CannotCreate, and leaves nothing then."""
        self.discard()
        path = self.folder / f".{self.generation_id}.{EXTENSIONS[mime]}.part"
        try:
            _write_synced(path, image)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise CannotCreate(f"{self.folder}: the image cannot be written: {error.strerror}") from error
        return path

    def name(self, part: Path) -> Path:
        """Give a written image its name; a file that has it already stays. Raises CannotCreate."""
        extension = part.name.removesuffix(".part").rpartition(".")[2]
        named = self.folder / f"{self.generation_id}.{extension}"
        try:
            os.link(part, named, follow_symlinks=False)  # fails when the name is taken, a rename would not
            part.unlink()
            _sync_folder(self.folder)
        except FileExistsError as error:
            raise CannotCreate(
                f"{named} is there already and stays as it is; the image is in {part}",
                hint="move that file away and run the same command again",
            ) from error
        except OSError as error:
            raise CannotCreate(f"{named}: {error.strerror}; the image is in {part}") from error
        return named

    def sidecar(self, content: dict[str, Any]) -> Path:
        """Write what is known of the image beside it, as JSON; one of an earlier run is replaced."""
        path = self.folder / f"{self.generation_id}.json"
        part = self.folder / f".{self.generation_id}.json.part"
        try:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            _write_synced(part, (json.dumps(content, indent=2) + "\n").encode())
            part.replace(path)
        except OSError as error:
            raise CannotCreate(f"{path}: {error.strerror}") from error
        return path

    def discard(self) -> None:
        """Remove images of this generation that were written and not paid."""
        for path in self._unnamed():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _named(self) -> list[Path]:
        return [self.folder / f"{self.generation_id}.{extension}" for extension in EXTENSIONS.values()]

    def _unnamed(self) -> list[Path]:
        return [self.folder / f".{self.generation_id}.{extension}.part" for extension in EXTENSIONS.values()]


def sha256(path: Path) -> str:
    """The digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """The name is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
