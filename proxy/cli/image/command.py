"""`weighbridge image`: pictures through a base URL, saved, their cost told; `--check` tests the way without any."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from proxy.billing.records import to_usd
from proxy.cli import options, output
from proxy.cli.image import calls, check, files, preview, target
from proxy.cli.image.calls import Made, Wish
from proxy.cli.image.target import Target
from proxy.cli.options import CommandError, JsonOption

DEFAULT_MODEL = "gemini-nano-banana-2.1"
MOST = 10
"""Pictures of one command: as many as OpenAI's `n` may be."""
INTERRUPTED = 130

Prompt = Annotated[str, typer.Argument(help="What to draw.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the picture goes; of several, FILE-1.png, FILE-2.png …",
        show_default=False,
    ),
]
Key = Annotated[
    str,
    typer.Option(
        help="A virtual key. Default: $WEIGHBRIDGE_KEY; of Google itself, $GEMINI_API_KEY.", show_default=False
    ),
]
BaseUrl = Annotated[str, typer.Option(help="A Weighbridge, or Google itself.", show_default=True)]
Model = Annotated[str, typer.Option(help="An image model: `weighbridge prices list --models` names them.")]
Size = Annotated[str | None, typer.Option(help="512, 1K, 2K or 4K.", show_default="1K")]
Aspect = Annotated[str | None, typer.Option(help="Such as 16:9.", show_default="1:1")]
Refs = Annotated[
    list[Path],
    typer.Option("--ref", metavar="FILE", exists=True, dir_okay=False, help="A picture to go by; may be given again."),
]
Count = Annotated[int, typer.Option("--n", min=1, max=MOST, help="How many pictures.")]
Via = Annotated[
    Literal["native", "openai"],
    typer.Option(help="The shape to ask in: Gemini's own, or that of OpenAI's image API, which a Weighbridge speaks."),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        show_default=False,
        help="Make no picture: test base URL, key and model, and tell what is left. Free.",
    ),
]
NoPreview = Annotated[bool, typer.Option("--no-preview", help="Don't show it on the terminal.", show_default=False)]


app = options.alone()


@app.command()
def image(
    prompt: Prompt = "",
    out: Out = None,
    key: Key = "",
    base_url: BaseUrl = "http://127.0.0.1:8080",
    model: Model = DEFAULT_MODEL,
    size: Size = None,
    aspect: Aspect = None,
    ref: Refs = [],  # noqa: B006  typer copies it
    n: Count = 1,
    via: Via = "native",
    check_only: Check = False,
    no_preview: NoPreview = False,
    json: JsonOption = False,
) -> None:
    """Make a picture: one call through a base URL, the picture saved, its cost told.

    Example: `WEIGHBRIDGE_KEY=wb_… weighbridge image 'a red lorry on a weighbridge' -o lorry.jpg --aspect 16:9`

    If there is no picture: `weighbridge image --check` tests base URL, key and model without making one.
    """
    where = target.read(base_url, key, os.environ)
    wish = Wish(prompt, model.removeprefix("models/"), size, aspect, tuple(ref), n)
    if check_only:
        check.run(where, wish, via, json=json)
        return
    if not prompt.strip():
        raise CommandError("say what is to be drawn: weighbridge image 'a red lorry' -o lorry.jpg")
    if out is None:
        raise CommandError("say where the picture goes: -o lorry.jpg. (Without one, --check tests the way to it)")
    if via == "openai" and where.google:
        raise CommandError("Google doesn't serve this shape: --via native, or give a Weighbridge's --base-url")
    if where.note:
        typer.echo(f"note: {where.note}", err=True)
    _tell(*_make(where, wish, files.places(out, n), via), wish, show=not no_preview, json=json)


class Arrivals:
    """What has come: each picture is saved at once, so that what comes later can't take it along."""

    def __init__(self, places: list[Path]) -> None:
        self._places = places
        self.told: dict[int, dict[str, Any]] = {}
        self.pictures: dict[int, bytes] = {}
        self.failed: dict[int, str] = {}

    def take(self, number: int, what: Made | CommandError) -> None:
        """A picture, or why there is none."""
        try:
            if isinstance(what, CommandError):
                raise what
            self.told[number] = files.describe(files.save(self._places[number], what.picture), what)
            self.pictures[number] = what.picture
        except CommandError as error:
            self.failed[number] = str(error)


def _make(where: Target, wish: Wish, places: list[Path], via: str) -> tuple[Arrivals, dict[str, Any]]:
    """Has all made. Returns them, and what is told of them together. Raises CommandError where there is none."""
    arrivals, began = Arrivals(places), time.monotonic()
    make = calls.make_openai if via == "openai" else calls.make_native

    async def run() -> int | None:
        async with calls.client() as http:
            return await make(http, where, wish, arrivals.take)

    try:
        with _progress(wish):
            cost = asyncio.run(run())
    except KeyboardInterrupt:
        kept = ", ".join(told["file"] for told in arrivals.told.values()) or "nothing"
        typer.echo(f"stopped; {kept} was saved. What is under way may be drawn, and billed, all the same.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not arrivals.told:
        raise CommandError("\n".join(dict.fromkeys(arrivals.failed.values())))
    seconds = round(time.monotonic() - began, 1)
    return arrivals, {"cost_usd": None if cost is None else to_usd(cost), "seconds": seconds}


def _progress(wish: Wish) -> Progress:
    """What is shown while waiting, with its seconds; nothing where nobody looks."""
    console = Console(stderr=True)
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    )
    pictures = "a picture" if wish.n == 1 else f"{wish.n} pictures"
    shown.add_task(f"{wish.model} draws {pictures}; that may take a minute", total=None)
    return shown


def _tell(arrivals: Arrivals, together: dict[str, Any], wish: Wish, *, show: bool, json: bool) -> None:
    """Prints what came; ends with 1 where something is missing."""
    pictures = [arrivals.told[number] for number in sorted(arrivals.told)]
    if json:
        failed = list(arrivals.failed.values())
        output.document(pictures[0] if wish.n == 1 else {"pictures": pictures, "failed": failed, **together})
    else:
        _print(arrivals, pictures, together, wish.n, show=show)
    for number, why in sorted(arrivals.failed.items()):
        typer.echo(f"error: picture {number + 1} of {wish.n}: {why}", err=True)
    if arrivals.failed:
        raise typer.Exit(1)


def _print(arrivals: Arrivals, pictures: list[dict[str, Any]], together: dict[str, Any], n: int, *, show: bool) -> None:
    console = Console()
    if show and preview.can_show(console):
        for number in sorted(arrivals.pictures):
            preview.show(console, arrivals.pictures[number])
    for told in pictures:
        output.line(files.sentence(told, price=n == 1 or told["cost_usd"] is not None))
    for said in dict.fromkeys(told[name] for name in ("hint", "note") for told in pictures if told[name]):
        typer.echo(f"note: {said}", err=True)
    if n > 1:
        output.line(f"{len(pictures)} of {n} pictures, {together['seconds']} s, {files.dollars(together['cost_usd'])}")
