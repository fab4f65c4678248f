"""A picture asked for in Gemini's own shape: the body that goes up, and what stands in the answer."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from pathlib import Path
from typing import Any

from proxy.billing import charge
from proxy.billing.prices import PriceBook
from proxy.cli.options import CommandError
from proxy.gemini import scanner
from proxy.gemini import usage as usages


def request_body(prompt: str, size: str | None, aspect: str | None, references: list[Path]) -> dict[str, Any]:
    """A generateContent body: the text first, then one `inlineData` a reference picture. Raises OSError."""
    parts: list[dict[str, Any]] = [{"text": prompt}]
    for path in references:
        parts.append({"inlineData": {"mimeType": media_type(path), "data": as_base64(path)}})
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    if image := {name: value for name, value in (("aspectRatio", aspect), ("imageSize", size)) if value}:
        config["imageConfig"] = image
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def media_type(path: Path) -> str:
    """What a picture is, by its name's ending."""
    return mimetypes.guess_type(path.name)[0] or "image/png"


def as_base64(path: Path) -> str:
    """Raises OSError."""
    return base64.b64encode(path.read_bytes()).decode()


def picture(answer: dict[str, Any]) -> bytes:
    """The last picture of a generateContent response: drafts may stand before it. Raises CommandError."""
    candidate = (answer.get("candidates") or [{}])[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    found = [part["inlineData"]["data"] for part in parts if "data" in part.get("inlineData", {})]
    if found:
        return decoded(found[-1])
    said = " ".join(part["text"] for part in parts if "text" in part)[:300]
    blocked = (answer.get("promptFeedback") or {}).get("blockReason")
    why = blocked or candidate.get("finishReason") or "no reason given"
    what_to_do = (
        "is it an image model? `weighbridge prices list --models` names them"
        if why == "STOP"
        else "word it differently"
    )
    raise CommandError(f"the answer holds no picture ({why}): {what_to_do}" + (f". It said: {said}" if said else ""))


def decoded(text: str) -> bytes:
    """Raises CommandError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    if text.startswith(("https://", "http://")):
        what = f"an address ({text[:200]}), as some resellers send it: fetch it yourself, or ask another upstream"
    else:
        what = "something else: is it the right base URL?"
    raise CommandError(f"what stands where the picture should be is no base64: {text[:80]!r}. It is {what}")


def cost(body: bytes, model: str, size: str | None, at: int) -> int | None:
    """What a response costs by the price book, in nano-dollars; None where the book knows no price of the model."""
    reading = scanner.scan("single", body)
    if reading.usage is None:
        return None
    usage = usages.parse(reading.usage)
    table = PriceBook.load().table(reading.model_version, model, model, usage.service_tier, at)
    return None if table is None else table.price(charge.weigh(reading, usage, size, table)).cost
