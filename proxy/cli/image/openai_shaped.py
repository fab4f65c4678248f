"""Pictures asked for in OpenAI's shape: the body that goes to a Weighbridge, and what stands in the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxy.cli.image.native import as_base64, decoded, media_type
from proxy.cli.options import CommandError

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def path(references: list[Path]) -> str:
    """Where to ask: pictures to go by make it an edit."""
    return EDITS if references else GENERATIONS


def request_body(
    prompt: str, model: str, n: int, size: str | None, aspect: str | None, references: list[Path]
) -> dict[str, Any]:
    """Raises OSError."""
    body: dict[str, Any] = {"prompt": prompt, "model": model, "n": n}
    body |= {name: value for name, value in (("size", size), ("aspect_ratio", aspect)) if value}
    if references:
        urls = (f"data:{media_type(path)};base64,{as_base64(path)}" for path in references)
        body["images"] = [{"image_url": url} for url in urls]
    return body


def pictures(answer: dict[str, Any]) -> list[bytes]:
    """In their order. Raises CommandError."""
    found = [one["b64_json"] for one in answer.get("data") or () if one.get("b64_json")]
    if not found:
        raise CommandError("the answer holds no picture: is it the right base URL?")
    return [decoded(text) for text in found]


def failures(answer: dict[str, Any]) -> list[str]:
    """What became of those that didn't come."""
    failed = (answer.get("x_weighbridge") or {}).get("failed") or ()
    return [f"{one.get('code')}: {one.get('message')}" for one in failed]
