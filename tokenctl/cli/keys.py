"""`tokenctl keys`: Gemini's keys, which are read from a file or the environment and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import Body, StrictGroup, command
from tokenctl.errors import GeminiUnavailable, Refused
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id.", show_default=False)]


def _list(run: Run) -> None:
    """List the keys: the end of each, and whether it can be used now.

    \b
    tokenctl keys list
    tokenctl keys list --json

    The one in use is the one that went well last. One that is cooling comes back by itself:
    its project had used up its quota, or Gemini refused it for now. One that Gemini rejected
    stays out until `keys enable`, a `keys test` that goes well, or a new secret.

    Keys come from the TOML file that GEMINI_API_KEYS_FILE or gemini.keys_file names, which
    only you may read (mode 0600): a [[key]] table for each, with id, project and secret.
    Without a file GEMINI_API_KEY is the only key.
    """
    from tokenctl.cli import key_views as views

    gemini = run.settings.gemini
    if gemini.keys_file is None and gemini.key is None:  # an empty list is no failure
        run.show(views.keys([]))
        run.output.say("no key is configured; GEMINI_API_KEYS_FILE or gemini.keys_file names a file of them")
        return
    run.show(views.keys(run.runtime.keyring.states(gemini.model)))


def _test(
    run: Run,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Only these keys.", show_default=False)
    ] = None,
) -> None:
    """Ask Gemini whether it accepts the keys; this costs nothing.

    \b
    tokenctl keys test
    tokenctl keys test main --timeout 5

    It asks for the description of the configured model with each key. That says whether the key
    and the model are good, and nothing of quotas. A key that is accepted is used again; one that
    `keys disable` took out stays out. Ends with 1 when a key is not accepted, 69 when Gemini does
    not answer; with -q nothing else is told.
    """
    from tokenctl.cli import key_views as views

    keyring, runtime = run.runtime.keyring, run.runtime
    chosen = [keyring.find(key_id) for key_id in dict.fromkeys(keys)] if keys else list(keyring.keys)
    model, request_id = run.settings.gemini.model, runtime.operation.request_id
    ask = runtime.generator.test_key
    tests = [ask(key, model, deadline=runtime.deadline, request_id=request_id) for key in chosen]
    run.output.committed = "what Gemini said of the keys is noted on this machine"
    run.show(views.tests(tests))
    silent = [test for test in tests if views.silent(test)]
    if silent:
        raise GeminiUnavailable(f"no answer for {len(silent)} of {counted(len(tests), 'key')} ({silent[0].said})")
    if refused := [test.key.id for test in tests if not views.accepted(test)]:
        raise Refused(f"not accepted: {', '.join(refused)}", hint=commandline.line("keys", "list"))


def _disable(run: Run, key: KeyId) -> None:
    """Use a key no more on this machine, until `keys enable`.

    \b
    tokenctl keys disable main
    """
    run.runtime.keyring.disable(key)
    run.output.committed = f"{key} is disabled on this machine"
    run.output.say(run.output.committed, mark="✓")
    _list(run)


def _enable(run: Run, key: KeyId) -> None:
    """Use a key again, whoever took it out, and forget its cool-downs.

    \b
    tokenctl keys enable main
    """
    run.runtime.keyring.enable(key, run.settings.gemini.model)
    run.output.committed = f"{key} can be used on this machine"
    run.output.say(run.output.committed, mark="✓")
    _list(run)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="keys", cls=StrictGroup, help="Gemini's keys.", rich_markup_mode=None)
    bodies: dict[str, Body] = {"list": _list, "test": _test, "disable": _disable, "enable": _enable}
    for name, body in bodies.items():
        command(group, name, formats=None if name == "test" else options.VALUED)(body)
    app.add_typer(group)
