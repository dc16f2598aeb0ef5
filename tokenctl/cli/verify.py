"""`tokenctl verify`: the ledger's rules, from its rows alone; and its seals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import LedgerBroken, UsageError
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.services.verify import Report

SinceLast = Annotated[
    bool, typer.Option("--since-last", help="Only users whose accounts have entries since the last seal.")
]
Deep = Annotated[
    bool, typer.Option("--deep", help="Also the form of every entry, the hash of every seal, and the triggers.")
]
MakeSeal = Annotated[
    bool, typer.Option("--seal", help="Then seal what was looked at and print the head: keep it elsewhere.")
]
Head = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="H",
        parser=options.reads("head"),
        help="A head that was kept: fail unless all that was sealed under it is as it was.",
    ),
]


def _verify(
    run: Run,
    user: options.OneUser = None,
    since_last: SinceLast = False,
    deep: Deep = False,
    seal: MakeSeal = False,
    head: Head = None,
) -> None:
    """Prove the ledger's rules from its rows; exit 1 and name what breaks them.

    \b
    tokenctl verify
    tokenctl verify --user u_42
    tokenctl verify --since-last --seal
    tokenctl verify --head "$(cat ledger.head)" --seal --format value > ledger.new

    Balances are the sums of their entries, seq has no gap, reversals pair, holds and
    imports add up. Writers need not wait, and cause no finding. Someone who owns the
    tables can rewrite them so that all of this holds: for that keep the head of a seal
    out of the database, and verify against it. Nothing is sealed when there is a finding.

    What no verify finds: changes of entries that no kept head covers, where these still agree
    with each other and their account (a reason, an operator, or all of it rewritten); an old
    backup in place of the ledger, for whoever kept no younger head; changes of holds, imports,
    jobs and the audit log that still agree with the entries.
    """
    from tokenctl.cli import verify_views
    from tokenctl.services import verify
    from tokenctl.storage.inspection import Scope

    if user is not None and (since_last or seal):
        raise UsageError(f"--user is one user; {'--since-last' if since_last else '--seal'} is about all of them")
    if seal:
        run.output.unfinished = "whether it was sealed is unknown; the same command seals what is not, and tells"
    report = verify.run(
        run.runtime.inspection,
        run.runtime.ledger,
        verify.Asked(Scope(user, since_last), deep, seal, head),
        ledger_name=run.settings.profile,
        progress=run.output.progress,
        metrics=run.runtime.metrics,
    )
    run.output.unfinished = None
    _talk(run, report)
    run.show(verify_views.report(report))
    _end(report)


def _talk(run: Run, report: Report) -> None:
    """What was looked at, and what was sealed."""
    seal = report.seal
    if report.sealed and seal is not None:
        run.output.committed = f"seal {seal.seal_no}, head {seal.head}"
    looked = f"{counted(report.entries, 'entry', 'entries')} of {counted(report.users, 'user')}"
    if report.asked.scope.since_last:
        looked += f" with entries since seal {seal.seal_no - report.sealed}" if seal else ", all: there is no seal yet"
    hashed = f", {counted(report.seals_checked, 'seal')} made anew" if report.seals_checked else ""
    run.output.say(f"{looked}{hashed}: {_findings(report.total)}", mark="▸" if report.total else "✓")
    if report.asked.seal and not report.total:
        if seal is None:
            run.output.say("there is nothing to seal yet", mark=" ")
        elif report.sealed:
            what = f"{counted(seal.entries, 'entry', 'entries')} of {counted(seal.users, 'user')}"
            run.output.say(f"sealed {what} as seal {seal.seal_no}", mark="✓")
        else:
            run.output.say(f"nothing is new since seal {seal.seal_no}; its head stands", mark=" ")


def _end(report: Report) -> None:
    """Exit 1 when something was found, saying what to do about each kind of finding."""
    if not report.total:
        return
    rules = list(dict.fromkeys(flaw.rule for flaw in report.flaws))
    hints = {flaw.rule: flaw.hint for flaw in report.flaws}
    lines = [
        ", ".join(rule for rule in rules if hints[rule] == hint) + ": " + hint for hint in dict.fromkeys(hints.values())
    ]
    shown = f"; the first {len(report.flaws)} are shown" if report.total > len(report.flaws) else ""
    sealed = "; nothing was sealed" if report.asked.seal else ""
    raise LedgerBroken(f"{_findings(report.total)}{shown}{sealed}", hint="\n".join(lines), findings=report.total)


def _findings(number: int) -> str:
    return counted(number, "finding") if number else "no finding"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "verify", formats=options.VALUED)(_verify)
