"""The files of a paid job: written whole before it is paid, named after, and never over another file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenctl.errors import CannotCreate
from tokenctl.statefile import discard

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True)
class Place:
    """Where the image of one generation goes: `<folder>/<id>.<extension>`, beside it a sidecar.

    Until it is paid it is `.<id>.<run>.<extension>.part`, so that no run meets the file of another.
    """

    folder: Path
    generation_id: str
    run_id: str

    def prepare(self) -> None:
        """Make the folder and see that it can be written, before anything is held or sent.

        Raises CannotCreate.
        """
        import tempfile

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()  # it never has a name that could be left behind
        except OSError as error:
            raise self._unusable(error.strerror) from error

    def foresee(self) -> None:
        """Raise CannotCreate where `prepare` would, as far as it shows with nothing made."""
        there = next((path for path in (self.folder, *self.folder.parents) if os.path.lexists(path)), Path())
        if not there.is_dir():
            raise self._unusable(os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise self._unusable(os.strerror(errno.EACCES))

    def write(self, image: bytes, mime: str) -> Path:
        """Put the image on the disk under a temporary name. Raises CannotCreate, and leaves nothing then."""
        path = self.folder / f".{self.generation_id}.{self.run_id}.{EXTENSIONS[mime]}.part"
        try:
            _write_synced(path, image)
        except OSError as error:
            discard(path)
            raise CannotCreate(f"{self.folder}: the image cannot be written: {error.strerror}") from error
        return path

    def name(self, part: Path, digest: str) -> Path:
        """Give a written image of that sha256 its name; another file that has it stays. Raises CannotCreate.

        Somebody who finishes the same generation at the same time may have done it.
        """
        extension = part.name.removesuffix(".part").rpartition(".")[2]
        named = self.folder / f"{self.generation_id}.{extension}"
        try:
            try:
                os.link(part, named, follow_symlinks=False)  # fails when the name is taken, a rename would not
            except (FileExistsError, FileNotFoundError):
                if not _holds(named, digest):
                    raise
            discard(part)
            _sync_folder(self.folder)
        except FileExistsError as error:
            raise CannotCreate(
                f"{named} is there already and stays as it is; the image is in {part}",
                hint="move that file away and run the same command again",
            ) from error
        except OSError as error:
            raise CannotCreate(f"{named}: {error.strerror}; the image is in {part}") from error
        return named

    def found(self, digest: str) -> Path | None:
        """The image of that sha256 under its name, which it is given if it still waits for it; None without one.

        What other runs wrote and did not pay is removed. Raises CannotCreate.
        """
        named = next((path for path in self._named() if _holds(path, digest)), None)
        if named is None:
            waiting = next((path for path in self._unnamed() if _holds(path, digest)), None)
            named = self.name(waiting, digest) if waiting is not None else None
        if named is not None:
            self.tidy()
        return named

    def tidy(self) -> None:
        """Remove what runs of this generation wrote; none of them may be able to pay any more."""
        for path in self._unnamed():
            discard(path)

    def withdraw(self) -> None:
        """Remove what this run wrote."""
        for path in self._unnamed(self.run_id):
            discard(path)

    def sidecar(self, content: dict[str, Any]) -> Path:
        """Write what is known of the image beside it, as JSON; one of an earlier run is replaced."""
        path = self.folder / f"{self.generation_id}.json"
        part = self.folder / f".{self.generation_id}.{self.run_id}.json.part"
        try:
            for left in self.folder.glob(f".{self.generation_id}.*.json.part"):
                discard(left)
            _write_synced(part, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
            with contextlib.suppress(FileNotFoundError):  # who finishes it at the same time writes the same
                part.replace(path)
        except OSError as error:
            raise CannotCreate(f"{path}: {error.strerror}") from error
        return path

    def _unusable(self, why: str | None) -> CannotCreate:
        return CannotCreate(f"{self.folder}: images cannot be put there: {why}")

    def _named(self) -> list[Path]:
        return [self.folder / f"{self.generation_id}.{extension}" for extension in EXTENSIONS.values()]

    def _unnamed(self, run_id: str = "*") -> list[Path]:
        return [
            path
            for extension in EXTENSIONS.values()
            for path in self.folder.glob(f".{self.generation_id}.{run_id}.{extension}.part")
        ]


def _holds(path: Path, digest: str) -> bool:
    """Whether it is a file of that sha256, in hex."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


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
