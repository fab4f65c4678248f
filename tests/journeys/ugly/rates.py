"""What is charged besides plain tokens, and at which rates: grounding, tools, caches, modalities, tiers, models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.journeys.ugly.case import (
    FLASH,
    GUESSED,
    LITE,
    PLAIN,
    PLAIN_CHARGED,
    PRO,
    WORDS,
    Case,
    Charged,
    asking,
    by,
    candidate,
    charge,
    events,
    response,
    said,
    single,
    usage,
)

PAGE, PLACE = {"web": {"uri": "https://x", "title": "x"}}, {"maps": {"uri": "https://x", "placeId": "places/x"}}
SEARCHING = asking(tools=[{"googleSearch": {}}, {"googleMaps": {}}])


def cases() -> Iterator[Case]:
    for group in searches, look_ups, tools, caches, modalities, tiers, long_prompts, models:
        yield from group()


def grounded(*queries: str, **more: Any) -> dict[str, Any]:
    return candidate(WORDS, groundingMetadata={"webSearchQueries": list(queries), **more})


def searches() -> Iterator[Case]:
    two: dict[str, Any] = {"charged": PLAIN_CHARGED | charge(LITE, search=2), "searches": 2, "asks": SEARCHING}
    for name, candidates in {
        "2 searches": [grounded("a", "b", groundingChunks=[PAGE])],
        "a search for pictures": [grounded("a", imageSearchQueries=["b"])],
        "searches of 2 candidates": [grounded("a"), grounded("b")],
        "searches before 90 KB of sources": [grounded("a", "b", groundingChunks=[PAGE | {"x": "y" * 900}] * 100)],
    }.items():
        yield single(name, response(*candidates, usageMetadata=PLAIN), **two)
    for name, nothing in {"no query": {"webSearchQueries": []}, "grounding null": None}.items():
        answer = response(candidate(WORDS, groundingMetadata=nothing), usageMetadata=PLAIN)
        yield single(name, answer, PLAIN_CHARGED, asks=SEARCHING)
    repeated = [
        response(grounded("a")),
        response(grounded("a", "b")),
        response(grounded("a", "b"), usageMetadata=PLAIN),
    ]
    yield events("events: searches repeated", repeated, last=PLAIN, **two)
    older = charge(PRO, input_text=3, output_text=5, search=1)
    answer = response(grounded("a", "b", "c"), usageMetadata=PLAIN)
    yield single("searches charged by prompt", answer, older, searches=3, model=PRO, asks=SEARCHING)


def look_ups() -> Iterator[Case]:
    for size in (1, 1000):
        many, of = [PLACE | {"x": "y" * 90}] * size, f" of {size} places"
        looked = PLAIN_CHARGED | charge(LITE, maps=2)
        answer = response(grounded("a", "b", groundingChunks=many), usageMetadata=PLAIN)
        yield single(f"look-ups{of}", answer, looked, asks=SEARCHING)
        looked = PLAIN_CHARGED | charge(LITE, maps=1)
        answer = response(grounded(groundingChunks=many), usageMetadata=PLAIN)
        yield single(f"a look-up without queries{of}", answer, looked, asks=SEARCHING)
        both = PLAIN_CHARGED | charge(LITE, search=2, maps=1)
        answer = response(grounded("a", "b", groundingChunks=[PAGE, *many]), usageMetadata=PLAIN)
        yield single(f"searches and look-ups{of}", answer, both, searches=2, asks=SEARCHING)
    older = charge(PRO, input_text=3, output_text=5, maps=1)
    answer = response(grounded("a", "b", groundingChunks=[PLACE]), usageMetadata=PLAIN)
    yield single("look-ups charged by prompt", answer, older, model=PRO, asks=SEARCHING)


def tools() -> Iterator[Case]:
    """What tools read is input, and no output."""
    read = usage(3, 5, toolUsePromptTokenCount=1000, toolUsePromptTokensDetails=by(TEXT=1000))
    url = candidate(WORDS, urlContextMetadata={"urlMetadata": [{"retrievedUrl": "https://x"}]})
    charged = charge(LITE, input_text=1003, output_text=5)
    yield single("pages read by address", response(url, usageMetadata=read), charged)
    parts = {"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}, WORDS
    charged = charge(LITE, input_text=43, output_text=12)
    yield single("code that was run", said(usage(3, 5, 7, toolUsePromptTokenCount=40), *parts), charged)


def caches() -> Iterator[Case]:
    cached = usage(1000, 5, cachedContentTokenCount=900)
    charged = charge(LITE, input_text=100, cached_text=900, output_text=5)
    yield single("cached tokens", said(cached), charged)
    flex: Charged = {"input_text": (100, "0.15"), "cached_text": (900, "0.02"), "output_text": (5, "1.25")}
    yield single("cached tokens in flex", said(cached | {"serviceTier": "flex"}), flex, tier="flex")
    charged = charge(LITE, cached_text=10, output_text=5)
    yield single("more cached than there was", said(usage(10, 5, cachedContentTokenCount=900)), charged)
    details = {"promptTokensDetails": by(TEXT=300, AUDIO=700), "cacheTokensDetails": by(TEXT=200, AUDIO=700)}
    spoken: Charged = {
        "input_text": (100, "0.25"),
        "cached_text": (200, "0.025"),
        "cached_audio": (700, "0.05"),
        "output_text": (5, "1.50"),
    }
    answer = said(usage(1000, 5, cachedContentTokenCount=900, **details))
    yield single("cached audio", answer, spoken, model="gemini-3.1-flash-lite")


def modalities() -> Iterator[Case]:
    every = by(TEXT=100, IMAGE=258, AUDIO=320, VIDEO=64, DOCUMENT=258)
    media = {"input_image": 258, "input_audio": 320, "input_video": 64, "input_document": 258}
    charged = charge(FLASH, input_text=100, output_text=5, **media)
    yield single("every modality in", said(usage(1000, 5, promptTokensDetails=every)), charged, model=FLASH)
    spoken = said(usage(3, 5, candidatesTokensDetails=by(AUDIO=5)))
    out: Charged = {"input_text": (3, "0.75"), "output_audio": (5, "12")}
    yield single("audio out", spoken, out, model="gemini-3.8-live")
    found = usage(700, 0, promptTokensDetails=by(TEXT=100, IMAGE=200, AUDIO=300, VIDEO=100))
    embedded: Charged = {
        "input_text": (100, "0.20"),
        "input_image": (200, "0.45"),
        "input_audio": (300, "6.50"),
        "input_video": (100, "12"),
    }
    for verb in ("embedContent", "batchEmbedContents"):
        of: dict[str, Any] = {"model": "gemini-embedding-2", "verb": verb}
        yield single(f"{verb}", {"embeddings": [{"values": [0.5]}], "usageMetadata": found}, embedded, **of)
        estimate: Charged = {"input_text": (10, "0.20")}
        yield single(f"{verb} without usage", {"embeddings": [{"values": [0.5]}]}, estimate, **of, **GUESSED)


def tiers() -> Iterator[Case]:
    """By what was served, and not by what was asked for."""
    asks = asking(serviceTier="priority")
    for tier, (into, out) in {
        "flex": ("0.15", "1.25"),
        "priority": ("0.54", "4.5"),
        "standard": ("0.30", "2.50"),
    }.items():
        charged: Charged = {"input_text": (3, into), "output_text": (5, out)}
        of: dict[str, Any] = {"charged": charged, "asks": asks, "tier": tier}
        yield single(f"{tier} by the header", said(PLAIN), fields=(f"X-Gemini-Service-Tier: {tier}",), **of)
        answer = said(PLAIN | {"serviceTier": tier})
        yield single(f"{tier} by the usage", answer, **of)
        yield single(f"{tier} by the usage, not the header", answer, fields=("X-Gemini-Service-Tier: flex",), **of)
    yield single("no tier said, priority asked", said(PLAIN), PLAIN_CHARGED, asks=asks)
    unknown = said(PLAIN | {"serviceTier": "platinum"})
    yield single("a tier that nobody knows", unknown, PLAIN_CHARGED, tier="platinum")


def long_prompts() -> Iterator[Case]:
    """Over 200,000 tokens, the cached ones among them, the whole call is dearer."""
    for prompt, (into, kept, out) in {200_000: ("1.25", "0.125", "10"), 200_001: ("2.50", "0.25", "15")}.items():
        charged: Charged = {
            "input_text": (prompt - 50_000, into),
            "cached_text": (50_000, kept),
            "output_text": (5, out),
        }
        found = usage(prompt, 5, cachedContentTokenCount=50_000)
        yield single(f"a prompt of {prompt:,}", said(found), charged, model=PRO)


def models() -> Iterator[Case]:
    """Who answered is charged."""
    other: dict[str, Any] = {"charged": charge(FLASH, input_text=3, output_text=5), "priced_as": FLASH, "model": PRO}
    for version in (FLASH, f"models/{FLASH}", f"{FLASH}-preview-09-2025"):
        yield single(f"answered by {version}", said(PLAIN, modelVersion=version), version=version, **other)
    late = [response(candidate(WORDS, finish=None), modelVersion=FLASH), said(PLAIN)]
    yield events("events: answered by another", late, last=PLAIN, version=FLASH, **other)
    version = "gemini-9-neon"
    yield single("answered by who has no price", said(PLAIN, modelVersion=version), PLAIN_CHARGED, version=version)
    nobody = said(PLAIN | {"candidatesTokensDetails": by(AUDIO=5)})
    charged: Charged = {"input_text": (3, "0.30"), "output_audio": (5, "")}
    yield single("audio out without a rate", nobody, charged, unpriced=True)
    neither: Charged = {"input_text": (3, ""), "output_text": (5, "")}
    yield single("a model without a price", said(PLAIN), neither, model="gemini-9-neon", unpriced=True)
