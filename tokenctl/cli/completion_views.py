"""What `completion` prints for programs."""

from __future__ import annotations

from tokenctl.output import Column, Schema, Table, TypedDict, View


class ScriptData(TypedDict):
    """A shell's completion script."""

    shell: str
    script: str


SCRIPT = Schema("tokenctl.completion.v1", ScriptData)


def script(shell: str, text: str) -> View[ScriptData]:
    """The script of one shell."""
    return View(SCRIPT, {"shell": shell, "script": text}, Table((Column("SCRIPT"),), [(text,)], bare=True))
