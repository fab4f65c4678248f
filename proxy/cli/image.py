"""`weighbridge image`: the smallest client. One call through a base URL, the picture saved, its cost told."""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import os
import re
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx2
import typer
from PIL import Image
from rich.console import Console

from proxy.app import unix_us
from proxy.billing import charge
from proxy.billing.prices import PriceBook
from proxy.billing.records import to_usd
from proxy.cli import output
from proxy.cli.options import CommandError, JsonOption
from proxy.gemini import scanner
from proxy.gemini import usage as usages

DEFAULT_MODEL = "gemini-nano-banana-2.1"
TIMEOUT_S = 600
"""A 4K picture may take minutes; Google's own bound is ten."""

BaseUrl = Annotated[str, typer.Option(help="A Weighbridge, or Google itself.", show_default=True)]
Key = Annotated[str, typer.Option(envvar="WEIGHBRIDGE_KEY", help="A virtual key.", show_default=False)]
Refs = Annotated[
    list[Path],
    typer.Option("--ref", metavar="FILE", exists=True, dir_okay=False, help="A picture to go by; may be given again."),
]


class Made(NamedTuple):
    """What one call brought. `cost` is nano-dollars by the price book; None where that knows no price."""

    picture: bytes
    model: str
    request_id: str | None
    cost: int | None
    seconds: float


def register(app: typer.Typer) -> None:
    app.command()(image)


def image(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the picture goes.")],
    key: Key = "",
    base_url: BaseUrl = "http://127.0.0.1:8080",
    model: Annotated[str, typer.Option(help="An image model: `weighbridge prices list` names them.")] = DEFAULT_MODEL,
    size: Annotated[str | None, typer.Option(help="512, 1K, 2K or 4K.", show_default="1K")] = None,
    aspect: Annotated[str | None, typer.Option(help="Such as 16:9.", show_default="1:1")] = None,
    ref: Refs = [],  # noqa: B006  typer copies it
    json: JsonOption = False,
) -> None:
    """Make a picture: one call through a base URL, the picture saved, its cost told.

    Example: `WEIGHBRIDGE_KEY=wb_… weighbridge image 'a red lorry on a weighbridge' -o lorry.png --aspect 16:9`
    """
    if not key:
        raise CommandError("no key: give --key, or set WEIGHBRIDGE_KEY. `weighbridge key create PROJECT` makes one")
    if not re.fullmatch(r"[!-~]+", key):
        raise CommandError("what was given as key can't be one: it holds a space, or what isn't ASCII. Copy it anew")
    check_place(out)
    console = Console(stderr=True)
    with console.status(f"{model} draws; this may take a minute …"):
        made = make(base_url, key, model, request_body(prompt, size, aspect, ref), size)
    path = save(out, made.picture)
    told = describe(path, made)
    if json:
        output.document(told)
    else:
        output.line(sentence(told))


def request_body(prompt: str, size: str | None, aspect: str | None, references: list[Path]) -> dict[str, Any]:
    """A generateContent body: the text first, then one `inlineData` a reference picture. Raises OSError."""
    parts: list[dict[str, Any]] = [{"text": prompt}]
    for path in references:
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        parts.append({"inlineData": {"mimeType": kind, "data": base64.b64encode(path.read_bytes()).decode()}})
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    if image := {name: value for name, value in (("aspectRatio", aspect), ("imageSize", size)) if value}:
        config["imageConfig"] = image
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def make(base_url: str, key: str, model: str, body: dict[str, Any], size: str | None) -> Made:
    """Makes the call. Raises CommandError, which says why there is no picture and what to do."""
    url = f"{base_url.rstrip('/')}/v1beta/models/{model}:generateContent"
    began, began_at = time.monotonic(), unix_us()
    try:
        response = httpx2.post(url, json=body, headers={"x-goog-api-key": key}, timeout=TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise CommandError(f"{base_url} can't be reached ({error}): does `weighbridge serve` run there?") from None
    seconds = time.monotonic() - began
    try:
        answer = response.json()
    except ValueError:
        raise CommandError(
            f"{base_url} answered {response.status_code} and no JSON: is it the right base URL?"
        ) from None
    if response.status_code != 200:
        raise CommandError(error_of(answer) or f"{base_url} answered {response.status_code}: {response.text[:300]}")
    if not isinstance(answer, dict) or not answer.keys() & {"candidates", "promptFeedback"}:
        raise CommandError(f"{base_url} answered with other JSON than the Gemini API does: is it the right base URL?")
    spent = cost(response.content, model, size, began_at)
    return Made(
        picture(answer),
        answer.get("modelVersion", model),
        response.headers.get("x-weighbridge-request-id"),
        spent,
        seconds,
    )


def error_of(answer: Any) -> str | None:
    """What an error in Google's shape says; None for another one."""
    match answer:
        case {"error": {"status": str(status), "message": str(message)}}:
            return f"{status}: {message}"
    return None


def picture(answer: dict[str, Any]) -> bytes:
    """The last picture of a generateContent response: drafts may stand before it. Raises CommandError."""
    candidate = (answer.get("candidates") or [{}])[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    found = [part["inlineData"]["data"] for part in parts if "data" in part.get("inlineData", {})]
    if found:
        try:
            return base64.b64decode(found[-1], validate=True)
        except binascii.Error:
            raise CommandError(f"what stands where the picture should be is no base64: {found[-1][:80]!r}") from None
    said = " ".join(part["text"] for part in parts if "text" in part)[:300]
    blocked = (answer.get("promptFeedback") or {}).get("blockReason")
    why = blocked or candidate.get("finishReason") or "no reason given"
    what_to_do = (
        "is it an image model? `weighbridge prices list` names them" if why == "STOP" else "word it differently"
    )
    raise CommandError(f"the answer holds no picture ({why}): {what_to_do}" + (f". It said: {said}" if said else ""))


def cost(body: bytes, model: str, size: str | None, at: int) -> int | None:
    """What a response costs by the price book, in nano-dollars; None where the book knows no price of the model."""
    reading = scanner.scan("single", body)
    if reading.usage is None:
        return None
    usage = usages.parse(reading.usage)
    table = PriceBook.load().table(reading.model_version, model, model, usage.service_tier, at)
    return None if table is None else table.price(charge.weigh(reading, usage, size, table)).cost


def check_place(path: Path) -> None:
    """Raises CommandError where the picture couldn't be saved, before it is paid for."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"{path} can't be written: is its folder there, and may you write in it?")


def save(path: Path, content: bytes) -> Path:
    """Writes the picture. Raises CommandError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from None
    return path


def describe(path: Path, made: Made) -> dict[str, Any]:
    """What is told of a picture, as JSON has it. Raises CommandError."""
    try:
        with Image.open(io.BytesIO(made.picture)) as opened:
            pixels, kind = opened.size, opened.format
    except OSError:
        raise CommandError(f"{path} was saved, but it is no picture that can be read") from None
    return {
        "file": str(path),
        "bytes": len(made.picture),
        "format": kind,
        "width": pixels[0],
        "height": pixels[1],
        "model": made.model,
        "cost_usd": None if made.cost is None else to_usd(made.cost),
        "seconds": round(made.seconds, 1),
        "request_id": made.request_id,
    }


def sentence(told: dict[str, Any]) -> str:
    price = "no price known" if told["cost_usd"] is None else f"${told['cost_usd']}"
    size = f"{told['bytes'] / 1000:,.0f} kB" if told["bytes"] < 1e6 else f"{told['bytes'] / 1e6:.1f} MB"
    return (
        f"{told['file']}: {told['format']}, {told['width']} x {told['height']}, {size}; "
        f"{told['model']}, {told['seconds']} s, {price}"
    )
