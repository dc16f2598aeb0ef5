"""`Output`: prints results, talk, questions and errors, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from tokenctl.errors import (
    ConfirmationMissing,
    Declined,
    LimitNotConfirmed,
    OutputFailed,
    PipeClosed,
    TokenctlError,
)
from tokenctl.output import text
from tokenctl.output.views import Bars, Listing, Table, View, for_programs, json_ready
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.settings import Settings


class Output:
    """Knows the streams, the format and the manners that go with them."""

    def __init__(
        self,
        *,
        form: str | None = None,
        shown: str = "table",
        piped: str = "tsv",
        quiet: bool = False,
        no_input: bool = False,
        no_color: bool = False,
        force_color: bool = False,
        pager: str | None = None,
        columns: int | None = None,
    ) -> None:
        """Look at the process's streams once; `form` None chooses `shown` on a terminal, else `piped`."""
        self._stdout_tty = _is_terminal(sys.stdout)
        self._stderr_tty = _is_terminal(sys.stderr)
        self.form = form or (shown if self._stdout_tty else piped)
        self._asked_for = form is not None
        self.quiet = quiet
        self._can_ask = self._stderr_tty and _is_terminal(sys.stdin) and not no_input
        # Whoever wants no question wants no pager either, which waits for a key.
        self._pager = pager if self._stdout_tty and not no_input else None
        self._columns = columns
        self._color = (self._stdout_tty or force_color) and not no_color
        self._error_color = (self._stderr_tty or force_color) and not no_color
        #: Set once something is committed: from then on a failure to print must say so.
        self.committed: str | None = None
        self._file: BinaryIO | None = None
        #: What to do when a signal comes now, because something is half done.
        self.unfinished: str | None = None

    @classmethod
    def of(cls, settings: Settings, *, shown: str = "table", piped: str = "tsv") -> Output:
        """The output that the settings ask for; where nobody chose `shown` on a terminal, else `piped`."""
        return cls(
            form=settings.format,
            shown=shown,
            piped=piped,
            quiet=settings.quiet,
            no_input=settings.no_input,
            no_color=settings.no_color,
            force_color=settings.force_color,
            pager=settings.pager,
            columns=settings.columns,
        )

    @property
    def machine(self) -> bool:
        """Whether a program reads the result as JSON."""
        return self.form in ("json", "jsonl")

    def result(self, view: View[Any]) -> None:
        """Print a result in the chosen format; of a change nothing with --quiet, unless it is asked for.

        Raises OutputFailed when it cannot be written.
        """
        if self.quiet and self.committed and not (self._asked_for or view.kept):
            return
        if self.form in ("json", "jsonl"):
            self._write(self._json(view))
        elif self.form == "value":
            if view.value is not None:  # a dry run of a grant has no name yet
                self._write(view.value + "\n")
        elif self.form == "tsv":
            self._write("".join("\t".join(map(for_programs, row)) + "\n" for row in view.table.rows))
        else:
            self._show_table(view.table, bars=view.bars)

    def listing(self, listing: Listing[Any]) -> None:
        """Print a list in the chosen format, while its rows are read; on a terminal through the pager.

        Raises OutputFailed when it cannot be written.
        """
        if self.form == "table":
            table = Table(listing.columns, [cells for _, cells in listing.rows])
            self._show_table(table, trend=listing.trend, paged=True)
            return
        from tokenctl.output import listings  # csv is loaded by those who ask for it

        for block in listings.blocks(listing, self.form, listing.meta):
            self._write(block)

    def pieces(self, pieces: Iterable[str]) -> None:
        """Print a text that comes piece by piece. Raises OutputFailed when it cannot be written."""
        from tokenctl.output import listings

        for block in listings.joined(pieces):
            self._write(block)

    @contextlib.contextmanager
    def into(self, file: str | None) -> Iterator[None]:
        """Print to `file` instead, in UTF-8; it has that name, and the mode 0600, once the block has ended well.

        None and - change nothing. Raises CannotCreate, and OutputFailed when it cannot be written.
        """
        if file in (None, "-"):
            yield
            return
        from tokenctl import newfile

        with newfile.replacing(Path(file), mode=0o600) as self._file:
            yield
        self._file = None

    def text(self, content: str) -> None:
        """Print a text as it is. Raises OutputFailed when it cannot be written."""
        self._write(content)

    def say(self, line: str, *, mark: str = "▸", alarm: bool = False) -> None:
        """A line of talk on stderr, in red when it is an `alarm`; silent with --quiet."""
        if not self.quiet:
            self._talk(f"{mark} {line}" if mark else line, alarm=alarm)

    def warn(self, line: str) -> None:
        """A line on stderr that --quiet does not silence."""
        self._talk(line)

    def error(self, error: TokenctlError, *, request_id: str | None = None, exit_code: int | None = None) -> None:
        """One error on stderr: a sentence and a hint, or an RFC 9457 object for programs.

        `exit_code` is for a command that does not end with the error's own.
        """
        if self.machine:
            from tokenctl.output.problems import problem

            told = problem(error, request_id=request_id, exit_code=exit_code)
            self._talk(json.dumps({**told, **json_ready(error.context)}))
            return
        first, *places = error.detail.splitlines() or [error.title]
        for place in places:  # file:line: column: why, as editors and grep expect it
            self._talk(place)
        self._talk(f"tokenctl: {first}")
        for line in error.hint.splitlines():
            self._talk(f"          {line}")

    def require_answer(self, flag: str, *, given: bool) -> None:
        """Refuse early when a question will come that nobody can answer."""
        if not given and not self._can_ask:
            raise ConfirmationMissing(f"{flag} is required when nobody can answer a question", hint=f"add {flag}")

    def require_number(self, flag: str, number: int, limit: int, *, what: str) -> None:
        """Say that a limit of tokens is passed; raises LimitNotConfirmed when nobody can type the number."""
        line = f"{number:,} is above the limit of {counted(limit, 'token')} {what}"
        if not self._can_ask:
            raise LimitNotConfirmed(f"{line}; nothing was changed", hint=f"to confirm add {flag} {number}")
        self.warn(f"  {line}")

    def foretell_number(self, flag: str, number: int, limit: int, *, what: str) -> None:
        """Say after a dry run which number the run itself will want, because a limit of tokens is passed."""
        self.say(f"above the limit of {counted(limit, 'token')} {what}: it will need {flag} {number}", mark=" ")

    def confirm(self, question: str) -> None:
        """Ask y/N on the terminal; raises Declined unless the answer is yes."""
        if self._ask(f"{question} [y/N]: ").strip().lower() not in ("y", "yes"):
            raise Declined("answered no; nothing was changed")

    def confirm_number(self, what: str, number: int) -> None:
        """Have a number typed; raises LimitNotConfirmed unless it is the same."""
        answer = self._ask(f"To proceed, type the {what}: ").strip().replace(",", "")
        if answer != str(number):
            raise LimitNotConfirmed(f"'{answer}' is not {number}; nothing was changed")

    def require_name(self, flag: str, name: str, given: str | None, *, what: str) -> None:
        """Refuse early unless a severe step is confirmed by a name, or somebody can type it."""
        if given is not None and given != name:
            raise LimitNotConfirmed(f"{flag} {given} is not '{name}', which is {what}; nothing was changed")
        if given is None and not self._can_ask:
            raise LimitNotConfirmed(f"'{name}' is {what}; nothing was changed", hint=f"to confirm add {flag} {name}")

    def confirm_name(self, what: str, name: str) -> None:
        """Have a name typed; raises LimitNotConfirmed unless it is the same."""
        answer = self._ask(f"To proceed, type the {what} ({name}): ").strip()
        if answer != name:
            raise LimitNotConfirmed(f"'{answer}' is not '{name}'; nothing was changed")

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on stderr when that is a terminal; yields a function that hears of steps done."""
        if not self._stderr_tty or self.quiet or self.machine:
            yield lambda _done: None
            return
        from tokenctl.output.bars import bar  # rich's progress costs 30 ms

        with bar(what, total, color=self._error_color) as advance:
            yield advance

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on stderr, when that is a terminal, that `what` is going on, and for how long."""
        if not self._stderr_tty or self.quiet or self.machine:
            yield
            return
        from tokenctl.output.bars import clock

        with clock(what, color=self._error_color):
            yield

    def _ask(self, prompt: str) -> str:
        if not self._can_ask:
            raise ConfirmationMissing("nobody can answer a question here", hint="add --yes")
        sys.stderr.write(text.plain(text.clean(prompt), sys.stderr.encoding or "ascii"))
        sys.stderr.flush()
        answer = _typed()
        if not answer:
            self._talk("")
            raise Declined("no answer; nothing was changed")
        return answer

    def _json(self, view: View[Any]) -> str:
        if self.form == "jsonl" and (view.lines or view.schema.is_list):
            from tokenctl.output import listings

            return listings.lines(view)
        whole = {"schema": view.schema.name, "data": json_ready(view.data), "meta": json_ready(view.meta)}
        return json.dumps(whole) + "\n"

    def _show_table(
        self, table: Table, *, bars: Sequence[Bars] = (), trend: str | None = None, paged: bool = False
    ) -> None:
        """Print a table for people, with distributions below it, or with a line of one column's numbers above it."""
        from tokenctl.output.tables import render  # rich is only for terminals

        width, color, encoding = self._columns or _width(), self._color, _encoding(sys.stdout)
        drawn, left_out = render(table, width=width, color=color, encoding=encoding)
        if bars:
            from tokenctl.output.histograms import draw

            drawn += draw(bars, width=width, color=color, encoding=encoding)
        if trend is not None and self._stdout_tty:
            from tokenctl.output import sparklines

            place = [column.heading for column in table.columns].index(trend)
            numbers = [cell for row in reversed(table.rows) if isinstance(cell := row[place], int)]
            drawn = sparklines.draw(trend, numbers, width=width, encoding=encoding) + drawn
        if not paged or not self._paged(drawn, encoding):
            self._write(drawn)
        if left_out:
            self.say(f"no room here for {', '.join(left_out)}; a wider terminal or --format tsv shows all")

    def _paged(self, drawn: str, encoding: str) -> bool:
        """Whether the pager has shown it."""
        if self._pager is None or not drawn:
            return False
        from tokenctl.output import pager

        sys.stdout.flush()
        return pager.show(drawn.encode(encoding, "backslashreplace"), self._pager)

    def _write(self, content: str) -> None:
        if self._file is not None:
            self._file.write(content.encode())
            return
        try:
            stream = sys.stdout
            if stream is None:
                raise OSError(9, "standard output is closed")
            stream.flush()
            data = text.plain(content, _encoding(stream)).encode(_encoding(stream), "backslashreplace")
            stream.buffer.write(data)
            stream.buffer.flush()
        except BrokenPipeError:
            _silence(1)
            if self.committed:
                raise self._unwritten("closed by its reader") from None
            raise PipeClosed from None
        except (OSError, ValueError) as error:
            _silence(1)
            raise self._unwritten(getattr(error, "strerror", None) or str(error)) from error

    def _unwritten(self, why: str) -> OutputFailed:
        if self.committed:
            return OutputFailed(
                f"committed: {self.committed}; only the receipt could not be written ({why})",
                hint="do not run it again for the receipt's sake; it is done",
            )
        return OutputFailed(f"the output could not be written ({why})", hint="nothing was changed")

    def _talk(self, line: str, *, alarm: bool = False) -> None:
        try:
            # Cleaned here, because talk and errors repeat what the ledger and its users wrote.
            told = text.plain(text.clean(line), sys.stderr.encoding or "ascii")
            sys.stderr.write((f"\x1b[1;31m{told}\x1b[0m" if alarm and self._error_color else told) + "\n")
            sys.stderr.flush()
        except OSError:  # nobody is left to tell
            _silence(2)
        except (ValueError, AttributeError):  # closed before we came
            return


def _typed() -> str:
    """Wait for a line. A signal that comes just before the wait does not end it, and is noticed after a second."""
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        pass
    return sys.stdin.readline()


def _is_terminal(stream: TextIO | Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


def _encoding(stream: TextIO | None) -> str:
    return (stream.encoding if stream is not None else None) or "ascii"


def _width() -> int:
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            return os.get_terminal_size(fd).columns
    return 100


def _silence(fd: int) -> None:
    """Point a stream that cannot be written at nothing, or the interpreter complains when it ends."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)
