"""What a call costs, by plain arithmetic on what the upstream reported. Nothing of our own billing is in here.

The rates are Google's published ones, in USD per million tokens; searches per thousand. docs/metering.md has the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from zoneinfo import ZoneInfo

PACIFIC = ZoneInfo("America/Los_Angeles")
ALWAYS = date(2020, 1, 1)
FLASH = (
    (ALWAYS, {"text": "0.75", "cached": "0.075", "out": "3.75", "search": "14"}),
    (date(2027, 1, 1), {"text": "1.50", "cached": "0.15", "out": "7.50", "search": "14"}),
)
RATES: dict[str, tuple[tuple[date, dict[str, str]], ...]] = {
    "gemini-3.8-flash": FLASH,
    "gemini-3.6-flash": FLASH,
    "gemini-4-argon": (
        (ALWAYS, {"text": "2", "cached": "0.10", "out": "10", "search": "14"}),
        (date(2026, 12, 1), {"text": "4", "cached": "0.20", "out": "20", "search": "14"}),
    ),
    "gemini-2.5-pro": ((ALWAYS, {"text": "1.25", "cached": "0.125", "out": "10", "search": "35"}),),
    "gemini-2.5-pro, long": ((ALWAYS, {"text": "2.50", "cached": "0.25", "out": "15", "search": "35"}),),
    "gemini-3.1-flash-lite": ((ALWAYS, {"text": "0.25", "cached": "0.025", "out": "1.50", "search": "14"}),),
    "gemini-nano-banana-2.1": ((ALWAYS, {"text": "1.50", "out": "7.50", "image out": "30", "search": "14"}),),
    "gemini-3.1-flash-image": ((ALWAYS, {"text": "0.50", "out": "3", "image out": "60", "search": "14"}),),
    "gemini-3-pro-image": ((ALWAYS, {"text": "2", "out": "12", "image out": "120", "search": "14"}),),
    "gemini-embedding-2": ((ALWAYS, {"text": "0.20", "image": "0.45"}),),
    "gemini-embedding-001": ((ALWAYS, {"text": "0.15"}),),
}
SUCCESSOR = {"gemini-3.5-flash": "gemini-3.6-flash"}
"""Who answers since 2026-10-08."""
TIERS = {"standard": Decimal(1), "flex": Decimal("0.5"), "priority": Decimal("1.8")}
LONG_ABOVE = 200_000
BY_PROMPT = ("gemini-2.5-pro",)
"""Whose searches are charged once a call."""
CACHED_IN_FULL = ("gemini-2.5-pro",)
"""Whose cached tokens cost in cheaper tiers what they do in the standard one."""
IMAGE_TOKENS = {
    "gemini-nano-banana-2.1": {"512": 400, "1K": 1120, "2K": 1680, "4K": 3780},
    "gemini-3.1-flash-image": {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
    "gemini-3-pro-image": {"1K": 1120, "2K": 1120, "4K": 2000},
}
PICTURE_TOKENS = {"gemini-nano-banana-2.1": 1120, "gemini-3.1-flash-image": 1120, "gemini-3-pro-image": 560}


def reported(usage: Mapping[str, Any], model: str, images: int, size: str | None) -> Counter[str]:
    """What a usageMetadata comes to; `images` of `size` were in the response."""
    prompt, cached, tool = (
        usage.get(name, 0) for name in ("promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount")
    )
    sent, made = _details(usage, "promptTokensDetails"), _details(usage, "candidatesTokensDetails")
    output = usage.get("totalTokenCount", 0) - prompt - tool
    drawn = made.get("IMAGE", 0)
    if images and not made and model in IMAGE_TOKENS:
        drawn = min(output, images * IMAGE_TOKENS[model][size or "1K"])
    pictures = sent.get("IMAGE", 0)
    return Counter(
        {
            "text": prompt - pictures - cached + tool,
            "image": pictures,
            "cached": cached,
            "out": output - drawn,
            "image out": drawn,
        }
    )


def estimated(
    model: str, verb: str, text_bytes: int, pictures: int, candidates: int, most_out: int | None, size: str | None
) -> Counter[str]:
    """What a call is taken for whose usage nobody learned."""
    weighed = Counter({"text": -(-text_bytes // 4), "image": pictures * PICTURE_TOKENS.get(model, 258)})
    if model in IMAGE_TOKENS:
        weighed |= Counter({"image out": candidates * IMAGE_TOKENS[model][size or "1K"], "out": 400})
    elif "embed" not in verb.lower():
        weighed |= Counter({"out": candidates * min(1024, most_out or 1024)})
    return weighed


def cost(model: str, tier: str | None, started_at: int, weighed: Mapping[str, int], searches: int = 0) -> int:
    """Nano-dollars. `started_at` is Unix microseconds, by the clock of whoever wrote the bill."""
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=started_at)).astimezone(PACIFIC).date()
    name = SUCCESSOR.get(model, model)
    if f"{name}, long" in RATES and sum(weighed[kind] for kind in ("text", "image", "cached")) > LONG_ABOVE:
        rates = _on(day, f"{name}, long")
    else:
        rates = _on(day, name)
    factor = TIERS[tier or "standard"]
    total = Decimal(0)
    for kind, tokens in weighed.items():
        rate = Decimal(rates.get(kind, rates["text"]))
        whole = kind == "cached" and name in CACHED_IN_FULL and factor < 1
        total += tokens * rate * (1 if whole else factor)
    total += 1000 * Decimal(rates.get("search", "0")) * (min(searches, 1) if name in BY_PROMPT else searches)
    # USD per million tokens are thousands of nano-dollars per token.
    return int((total * 1000).quantize(Decimal(1), ROUND_HALF_EVEN))


def _on(day: date, model: str) -> dict[str, str]:
    return [rates for since, rates in RATES[model] if since <= day][-1]


def _details(usage: Mapping[str, Any], name: str) -> dict[str, int]:
    return {entry["modality"]: entry["tokenCount"] for entry in usage.get(name) or ()}
