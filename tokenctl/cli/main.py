"""The command line as a whole, and the one place where failures become exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import typer

from tokenctl.cli.app import assemble
from tokenctl.cli.command import Interrupted, State
from tokenctl.errors import Bug, PipeClosed, TokenctlError, UsageError, exit_code

_FORMAT = "TOKENCTL_FORMAT"


class Terminated(BaseException):
    """SIGTERM or SIGHUP came: clean up and end."""

    exit_code = 143


def main(argv: Sequence[str]) -> int:
    """Run one command line and answer its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError):  # it flushes; whoever writes next tells what is wrong
                stream.reconfigure(errors="backslashreplace")
    environ = dict(os.environ)  # noqa: TID251 — handed to settings, which alone reads it
    state = State(environ, debug=environ.get("TOKENCTL_DEBUG", "0") not in ("", "0"))
    _catch_signals()
    try:
        code = assemble(argv)(list(argv), prog_name="tokenctl", standalone_mode=False, obj=state)
    except (KeyboardInterrupt, Interrupted, Terminated) as stop:
        if state.output is not None and state.output.unfinished:
            for line in f"tokenctl: interrupted; {state.output.unfinished}".splitlines():
                state.output.warn(line)
        return stop.exit_code if isinstance(stop, Terminated) else 130
    except PipeClosed as error:
        return error.exit_code
    except TokenctlError as error:
        return _fail(argv, state, error)
    except typer.TyperException as error:
        return _fail(argv, state, _usage(error))
    except Exception as error:  # noqa: BLE001 — the last resort: a bug is one line, not a traceback
        hint = "TOKENCTL_DEBUG=1 shows the traceback; please report it" if not state.debug else ""
        return _fail(argv, state, Bug(f"unexpected {type(error).__name__}", hint=hint))
    return code if isinstance(code, int) else 0


def _fail(argv: Sequence[str], state: State, error: TokenctlError) -> int:
    from tokenctl.output import Output

    output = state.output or Output(form=_form(argv, state.environ))
    command = "".join(argv[:1])
    if command == "health":  # what reads its exit code knows four of them
        from tokenctl.cli import health  # loaded by that command

        health.ended(output, error, request_id=state.request_id)
    else:
        output.error(error, request_id=state.request_id)
    if state.debug and sys.stderr is not None:
        # Without the messages: those of drivers may hold values and passwords.
        traceback.print_tb(sys.exc_info()[2])
        cause: BaseException | None = error.__cause__
        while cause is not None:
            sys.stderr.write(f"caused by {type(cause).__name__}\n")
            traceback.print_tb(cause.__traceback__)
            cause = cause.__cause__
    return exit_code(command, error)


def _usage(error: typer.TyperException) -> UsageError:
    """Typer's usage errors in our words: the option first, then what is wrong with it."""
    message = re.sub(r"^Invalid value for '?([^']+?)'?: (Value error, )?", r"\1: ", error.format_message()).rstrip(".")
    message = message.replace(". Did you mean", "; did you mean")
    message, _, choices = message.partition(". Choose from:")  # with a tab and a line for each
    message += f": one of {' '.join(choices.split())}" if choices else ""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tokenctl"
    if message[1:2].islower():  # a sentence; names such as USER stay as they are
        message = message[0].lower() + message[1:]
    return UsageError(message or "wrong usage", hint=f"{path} --help")


def _form(argv: Sequence[str], environ: dict[str, str]) -> str | None:
    """The format that errors should have when the command line itself cannot be read."""
    words = list(argv)
    if words[:1] == ["health"] and {"nagios", "--format=nagios"} & {*words, environ.get(_FORMAT)}:
        return "nagios"
    if "--json" in words or "--format=json" in words or "--format=jsonl" in words:
        return "json"
    if "--format" in words[:-1] and words[words.index("--format") + 1] in ("json", "jsonl"):
        return "json"
    return "json" if environ.get(_FORMAT) in ("json", "jsonl") else None


def _catch_signals() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
    except ValueError:  # not the main thread: whoever called main(argv) keeps its signals
        return
