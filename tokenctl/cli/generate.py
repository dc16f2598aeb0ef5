"""`tokenctl generate`: an image of three to ten photos, paid in tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenctl import commandline
from tokenctl.cli import options
from tokenctl.cli.command import command
from tokenctl.errors import CannotCreate, NoInput, UsageError
from tokenctl.wording import counted

if TYPE_CHECKING:
    from tokenctl.cli.run import Run
    from tokenctl.clients.generation import Request
    from tokenctl.clients.generator import Generator
    from tokenctl.models import Generation
    from tokenctl.services.generations import Job, Order, Result

Prompt = Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="What the image is to show.")]
PromptFile = Annotated[str | None, typer.Option("--prompt-file", metavar="FILE", help="A file with the prompt.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="FILE", help="A photo: PNG, JPEG or WebP; 3 to 10 times.", show_default=False),
]
Quality = Annotated[
    str | None, typer.Option("--quality", metavar="Q", help="1K, 2K or 4K: the image's size, and its price.")
]
Aspect = Annotated[
    str | None, typer.Option("--aspect-ratio", metavar="W:H", help="1:1, 3:4, 16:9 … [the model chooses]")
]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="The folder that the image goes to.")]
MaxCost = Annotated[
    int | None,
    typer.Option("--max-cost", metavar="N", parser=options.reads("amount"), help="Refuse if it costs more tokens."),
]
SavePrompt = Annotated[bool, typer.Option("--save-prompt", help="Keep the prompt in the JSON file beside the image.")]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume", metavar="ID", parser=options.reads("hold"), help="Finish a run that had paid and was cut off."
    ),
]


def _generate(
    run: Run,
    user: options.User,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    image: Images = None,
    quality: Quality = None,
    aspect_ratio: Aspect = None,
    out: Out = ".",
    max_cost: MaxCost = None,
    save_prompt: SavePrompt = False,
    idempotency_key: options.Key = None,
    resume: Resume = None,
    dry_run: options.DryRun = False,
    yes: options.PlainYes = False,
) -> None:
    """Make an image from photos of a user, and charge the user if and only if the image exists.

    \b
    tokenctl generate u_42 --prompt "the three of us at the sea" --quality 2K \\
      --image a.jpg --image b.jpg --image c.jpg --out images/
    tokenctl generate u_42 --prompt-file p.txt --image a.png --image b.png --image c.png --quality 1K -n
    tokenctl generate u_42 --resume 5f0c22ab9d10 --out images/

    The price is held first, taken when the image is on the disk, and given back by any failure.
    A run that was cut off is finished by the same command with its --idempotency-key, and paid once.
    --timeout is how long Gemini may be asked; the ledger is told what came of it after that too.
    """
    if resume is not None:
        given = {"--prompt": prompt, "--prompt-file": prompt_file, "--image": image, "--quality": quality}
        more = {"--aspect-ratio": aspect_ratio, "--max-cost": max_cost, "--idempotency-key": idempotency_key}
        _alone({**given, **more, "--save-prompt": save_prompt, "--dry-run": dry_run})
        _finish(run, _job(run, out).resume(user, resume), out, None)
        return
    request, order = _asked(run, user, (prompt, prompt_file, image or [], quality, aspect_ratio), max_cost=max_cost)
    if not dry_run:
        run.output.require_answer("--yes", given=yes)
    run.banner()
    job, generator = _job(run, out), run.runtime.generator  # without a key to ask with nothing is held
    if dry_run or not yes:
        _preview(run, request, order, job.preview(order, key=idempotency_key), dry_run=dry_run)
    if not dry_run:
        result = _work(run, job, generator, request, order, key=idempotency_key)
        _finish(run, result, out, request.prompt if save_prompt else None)


def _alone(others: dict[str, Any]) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"--resume finishes what was paid and takes no {' or '.join(given)}")


def _asked(
    run: Run,
    user: str,
    asked: tuple[str | None, str | None, list[str], str | None, str | None],
    *,
    max_cost: int | None,
) -> tuple[Request, Order]:
    """The request and what it costs. Raises what is wrong with either, before anything is connected to."""
    from tokenctl.clients import inputs
    from tokenctl.services import generations

    prompt, prompt_file, images, quality, aspect_ratio = asked
    request = inputs.judge(
        model=run.settings.gemini.model,
        prompt=prompt,
        prompt_file=None if prompt_file is None else Path(prompt_file),
        paths=[Path(image) for image in images],
        quality=quality,
        aspect_ratio=aspect_ratio,
    )
    return request, generations.order(user, request, run.settings.prices, max_cost=max_cost)


def _preview(run: Run, request: Request, order: Order, at: Generation, *, dry_run: bool) -> None:
    """Show what it costs and what would be sent; ask, unless nothing is to be done or to be paid."""
    from tokenctl.cli import generation_views

    view = generation_views.plan(request, order, at)
    has = f"{order.user_id} has {counted(view.data['available_before'] or 0, 'token')} available"
    if at.outcome == "captured":
        run.output.say(f"{has} · already paid, {at.transaction}: this costs nothing more")
    else:
        run.output.say(f"{has} · this costs {order.price:,} and leaves {at.available:,}")
    if dry_run:
        run.output.say("dry run: nothing was held or sent")
        run.show(view, dry_run=True)
    elif at.outcome != "captured":
        sent = f"{len(request.images)} images, {_size(view.data['bytes'])}, to {request.model}"
        run.output.confirm(f"Charge {counted(order.price, 'token')} and send {sent}?")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"  # noqa: PLR2004 — 0.1 MB


def _job(run: Run, out: str) -> Job:
    from tokenctl.services.generations import Job

    runtime = run.runtime
    return Job(runtime.generations, Path(out), run.output.say, runtime.metrics, runtime.asking)


def _work(run: Run, job: Job, generator: Generator, request: Request, order: Order, *, key: str | None) -> Result:
    """Hold, call, pay; say on the way what happens."""
    runtime, output = run.runtime, run.output
    at = job.open(order, key=key)
    output.unfinished = f"the same command with --idempotency-key {at.idempotency_key} finishes it, and pays once"
    if at.outcome != "captured":
        held = f"held {counted(at.amount or 0, 'token')}"
        output.say(f"{held} · generation {at.generation_id} · key {at.idempotency_key}", mark=" ")
    with output.waiting(f"making a {request.quality} image"):
        result = job.run(
            lambda claim: generator.generate(
                request, deadline=runtime.asking, request_id=runtime.operation.request_id, before_call=claim
            )
        )
    output.unfinished = None
    return result


def _finish(run: Run, result: Result, out: str, prompt: str | None) -> None:
    """The receipt, and a sidecar beside the image."""
    from tokenctl.cli import generation_views
    from tokenctl.models import SIDES

    at, path, output = result.generation, result.path, run.output
    tokens = counted(at.amount or 0, "token")
    output.committed = f"{at.transaction}, {tokens}, generation {at.generation_id}"
    if path is None:
        raise NoInput(
            f"generation {at.generation_id} is paid, {at.transaction}, and its image is not in {out}",
            hint="name the folder it was made for with --out; if it is lost: "
            + commandline.line("reverse", str(at.transaction), "--reason", commandline.reason("lost")),
        )
    _sidecar(run, result, path, prompt)
    if not at.is_full_size:
        side = SIDES[at.quality or "1K"]
        _warn(run, f"the image has {at.width} x {at.height} pixels; {at.quality} promises about {side} x {side}")
    paid = f"charged {tokens}, balance {at.balance:,}   {at.transaction}"
    output.say(f"{'already paid: ' if result.replayed else ''}{path}  {at.width} x {at.height}", mark="✓")
    output.say(paid, mark=" ")
    run.show(generation_views.generation(at, str(path)), replayed=result.replayed)


def _sidecar(run: Run, result: Result, path: Path, prompt: str | None) -> None:
    """Write it; the image is there and paid without it too."""
    from tokenctl.cli import generation_views
    from tokenctl.services.pictures import Place

    place = Place(path.parent, result.generation.generation_id, run.runtime.generations.run_id)
    try:
        place.sidecar(generation_views.sidecar(result.generation, prompt))
    except CannotCreate as error:
        _warn(run, f"the file beside the image could not be written: {error.detail}")


def _warn(run: Run, line: str) -> None:
    run.warnings.append(line)
    run.output.warn(f"tokenctl: {line}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "generate", formats=options.VALUED)(_generate)
