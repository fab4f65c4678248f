"""The calls that try assumptions: small ones of every kind, each with the most that it can cost."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.billing.prices import PriceBook

TEXT, DRAWS, EMBEDS = "gemini-3.8-flash", "gemini-nano-banana-2.1", "gemini-embedding-2"
ROUTED = "gemini-3.7-flash"
"""A name that Google answers with another model."""
SEARCHES = "gemini-2.5-flash"
"""Grounding costs it once a call, however many queries it makes: so there is a most."""
TOOL_USE_TOKENS = 100_000
"""What a search is reckoned to read at most. Ours, of no source: bills of such calls show none."""
PARAGRAPH = (
    "A weighbridge is a large scale, set into the ground, on which lorries are weighed together with what they carry. "
    "It is read once when the lorry comes and once when it leaves, and the difference is what was brought or taken. "
) * 4
"""What a paragraph of English weighs is E-TEXT."""


class TrialCall(NamedTuple):
    """One call. `body` is its request; `image_size` and `tier` are what it asks for there."""

    name: str
    model: str
    body: dict[str, Any]
    operation: str = "generateContent"
    image_size: str | None = None
    tier: str | None = None
    searches: bool = False

    @property
    def cap(self) -> int:
        """Its maxOutputTokens; 0 where there is no output to cap."""
        return int(self.body.get("generationConfig", {}).get("maxOutputTokens", 0))

    def most(self, book: PriceBook, at: int) -> int | None:
        """Nano-dollars that it can cost at most by the book's rates, in standard; None where there is no bound.

        A token of text is a byte or more; the output is bounded as A-CAP-BOUNDS-OUTPUT says, and may be all images.
        """
        if self.operation == "countTokens":
            return 0
        table = book.rates_at(self.model, at)
        if table is None or (self.searches and table.search_per != "prompt"):
            return None
        quantities = {
            "input_text": len(json.dumps(self.body)) + (TOOL_USE_TOKENS if self.searches else 0),
            "output_image" if table.is_image_model else "output_text": self.cap,
            "search": int(self.searches),
        }
        return table.price(quantities).cost


def calls() -> tuple[TrialCall, ...]:
    """All of them, in the order in which they are made."""
    return (
        _count("count-text", TEXT, {"text": PARAGRAPH}),
        _count("count-picture", TEXT, _picture()),
        _count("count-picture-drawn-from", DRAWS, _picture()),
        TrialCall("embed", EMBEDS, {"content": {"parts": [{"text": PARAGRAPH[:110]}]}}, "embedContent"),
        _ask("text", "Name three things that are weighed on a weighbridge.", 1024),
        _ask("capped", "Write out the numbers from one to three hundred in words.", 64),
        _ask("stream", "Tell in about 300 words how a weighbridge is calibrated.", 2048, operation="stream"),
        _ask("flex", "Name a thing that is weighed on a weighbridge.", 512, tier="flex"),
        _ask("routed", "Name a thing that is weighed on a weighbridge.", 512, model=ROUTED),
        _ask("search", "What is in the news about weighbridges? Search.", 1024, model=SEARCHES, operation="search"),
        _draw("image", "512", "1:1", 2048),
        _draw("image-wide", "512", "16:9", 2048),
        _draw("image-2k", "2K", "1:1", 4096),
    )


def _ask(
    name: str, text: str, cap: int, *, model: str = TEXT, operation: str = "", tier: str | None = None
) -> TrialCall:
    body: dict[str, Any] = {"contents": [_said({"text": text})], "generationConfig": {"maxOutputTokens": cap}}
    if tier is not None:
        body["serviceTier"] = tier
    if operation == "search":
        body["tools"] = [{"googleSearch": {}}]
    google = "streamGenerateContent" if operation else "generateContent"
    return TrialCall(name, model, body, google, tier=tier, searches=operation == "search")


def _draw(name: str, size: str, ratio: str, cap: int) -> TrialCall:
    config = {"maxOutputTokens": cap, "imageConfig": {"imageSize": size, "aspectRatio": ratio}}
    said = _said({"text": "Draw one lorry on a weighbridge, flat colours, no text."})
    return TrialCall(name, DRAWS, {"contents": [said], "generationConfig": config}, image_size=size)


def _count(name: str, model: str, part: Mapping[str, Any]) -> TrialCall:
    return TrialCall(name, model, {"contents": [_said(part)]}, "countTokens")


def _said(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": [part]}


def _picture() -> dict[str, Any]:
    """A picture of 1024 x 1024."""
    from PIL import Image  # not before: every other command does without

    file = io.BytesIO()
    Image.new("RGB", (1024, 1024), "teal").save(file, "PNG")
    return {"inlineData": {"mimeType": "image/png", "data": b64encode(file.getvalue()).decode()}}
