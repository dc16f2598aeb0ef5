"""The reject file: the bad rows of an import with what is wrong, to be mended and fed again.

The columns of the file it came from, as CSV, and behind them `error`, which is ignored
when it is read. Cells keep their text, also what a spreadsheet would take for a
formula: the file is made to be read by tokenctl.
"""

from __future__ import annotations

import csv
import errno
import filecmp
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tokenctl.errors import CannotCreate, OutputFailed, UsageError
from tokenctl.grantfile.display import clean
from tokenctl.grantfile.fields import IGNORED
from tokenctl.grantfile.options import CheckOptions
from tokenctl.grantfile.shape import describe
from tokenctl.grantfile.source import Source

if TYPE_CHECKING:
    from tokenctl.grantfile.rows import BadRow

_ENDINGS = re.compile(r"(\.[0-9a-f]{12}\.rejected)?(\.(csv|tsv|txt|jsonl|ndjson|json))?(\.gz)?$", re.IGNORECASE)


class RejectFile:
    """Rows on their way into a reject file.

    They go to a temporary file beside it (0600) that `commit` makes the reject file in
    one step. A file of this name that the same batch wrote is replaced; any other stays.
    """

    def __init__(self, source: Source, options: CheckOptions, batch: str, wanted: str | None) -> None:
        """`wanted` is where to write; None means `<name>.<batch>.rejected.csv` beside the source.

        Raises UsageError when standard input was read and no place is given, and
        CannotCreate when nothing can be made there.
        """
        self.path = Path(wanted) if wanted is not None else _beside(source, batch)
        # The batch stands in a name that is made here: what has it is an earlier run's.
        self._is_own = wanted is None
        columns = (*describe(source, options).columns, IGNORED)
        try:
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            descriptor, temporary = tempfile.mkstemp(prefix=".rejected-", dir=self.path.parent)
        except OSError as error:
            raise self._cannot_create(error) from error
        self._temporary = Path(temporary)
        # What isn't text (half of a surrogate pair, out of JSON) is written as its escape.
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._write(columns)

    def add(self, row: BadRow) -> None:
        """Write a row; raises OutputFailed."""
        self._write((*row.cells, "; ".join(f"{problem.column}: {problem.why}" for problem in row.problems)))

    def commit(self) -> None:
        """Make it the reject file; raises OutputFailed, or CannotCreate when another file is there."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._put_in_place()
        except OSError as error:
            raise self._cannot_create(error) from error

    def discard(self) -> None:
        """Drop what was not committed."""
        with suppress(OSError):  # a full disk, once more
            self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def _put_in_place(self) -> None:
        if self._is_own:
            self._temporary.replace(self.path)
        else:
            try:
                self.path.hardlink_to(self._temporary)
            except FileExistsError:
                # A second run of the same batch writes the same bytes.
                if not filecmp.cmp(self._temporary, self.path, shallow=False):
                    raise
            self._temporary.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self, cells: tuple[str, ...]) -> None:
        try:
            # Out of JSON may come a NUL, which would make the whole file unreadable.
            self._writer.writerow([cell.replace("\0", r"\u0000") for cell in cells])
        except OSError as error:
            raise self._failed(error) from error

    def _cannot_create(self, error: OSError) -> CannotCreate:
        return CannotCreate(
            f"{clean(str(self.path))}: the reject file cannot be made: {error.strerror}",
            hint="name another place with --reject-file",
        )

    def _failed(self, error: OSError) -> OutputFailed:
        return OutputFailed(f"{clean(str(self.path))}: the reject file cannot be written: {error.strerror}")


def _beside(source: Source, batch: str) -> Path:
    """The place for the rejects of `batch`."""
    if source.path is None:
        raise UsageError(
            "rows out of standard input are bad, and nothing says where to put them",
            hint="name a file with --reject-file",
        )
    return beside(source.path, batch)


def beside(file: Path, batch: str) -> Path:
    """Where the rejects of `batch` go unless somebody says otherwise: beside the file that was read.

    Those of rejects that were fed again don't pile up endings.
    """
    return file.with_name(f"{_ENDINGS.sub('', file.name)}.{batch}.rejected.csv")
