"""Pictures: details that leave something out, several at once, drafts, addresses, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.journeys.ugly.case import (
    DRAWN,
    GUESSED,
    IMAGE,
    ONE,
    ONE_CHARGED,
    PRO_IMAGE,
    WORDS,
    Case,
    asking,
    by,
    candidate,
    charge,
    events,
    picture,
    response,
    said,
    single,
    usage,
)

BARE = {name: value for name, value in ONE.items() if not name.endswith("Details")}
LINK = {"fileData": {"mimeType": "image/png", "fileUri": "https://x/y"}}


def cases() -> Iterator[Case]:
    for group in several, one, without_details, refusals, large, others:
        yield from group()


def several() -> Iterator[Case]:
    for count in range(2, 11):
        found = usage(100, 1120 * count + 90, 200, candidatesTokensDetails=by(IMAGE=1120 * count))
        charged = charge(IMAGE, input_text=100, output_image=1120 * count, output_text=290)
        yield single(f"{count} pictures", said(found, *[picture()] * count), charged, images=count, model=IMAGE)


def one() -> Iterator[Case]:
    """Details list the image only; the rest of the output is text."""
    yield single("a picture", said(ONE, picture()), ONE_CHARGED, images=1, **DRAWN)
    yield single("words before a picture", said(ONE, WORDS, picture()), ONE_CHARGED, images=1, **DRAWN)
    yield single("an address in place of base64", said(ONE, LINK), ONE_CHARGED, images=1, **DRAWN)
    drafts = [picture(thought=True), picture(thought=True), picture()]
    yield single("pictures among the thoughts", said(ONE, *drafts), ONE_CHARGED, images=3, **DRAWN)
    answers = [response(candidate(part, finish=None)) for part in (WORDS, *drafts)]
    yield events("events: pictures", [*answers, said(ONE)], ONE_CHARGED, ONE, images=3, **DRAWN)


def without_details() -> Iterator[Case]:
    """Pictures by the table of sizes, at most all of the output; the rest is text."""
    yield single("no details", said(BARE, picture()), ONE_CHARGED, images=1, **DRAWN)
    yield single("no details: an address", said(BARE, LINK), ONE_CHARGED, images=1, **DRAWN)
    yield single("no details, no picture", said(BARE), charge(IMAGE, input_text=2076, output_text=1469), **DRAWN)
    for name, details in {
        "empty": [],
        "of text only": by(TEXT=349),
        "of text in part": by(TEXT=100),
        "of no modality": [{"tokenCount": 1120}],
        "with an image of nothing": [{"modality": "IMAGE"}],
    }.items():
        answer = said(BARE | {"candidatesTokensDetails": details}, picture())
        yield single(f"details {name}, a picture", answer, ONE_CHARGED, images=1, **DRAWN)
    for name, details, image in ("all is text", by(TEXT=1469), 0), ("more than all is image", by(IMAGE=9999), 1469):
        parts = {"output_image": image, "output_text": 1469 - image}
        charged = charge(IMAGE, input_text=2076, **{part: tokens for part, tokens in parts.items() if tokens})
        answer = said(BARE | {"candidatesTokensDetails": details}, picture())
        yield single(f"details: {name}", answer, charged, images=1, **DRAWN)
    for count, image, text in ((3, 3360, 140), (4, 3500, 0)):
        charged = charge(IMAGE, input_text=100, output_image=image, **({"output_text": text} if text else {}))
        answer = said(usage(100, 3500), *[picture()] * count)
        yield single(f"no details: {count} pictures", answer, charged, images=count, model=IMAGE)
    for size, tokens in {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}.items():
        asks = asking(generationConfig={"imageConfig": {"imageSize": size}})
        charged = charge(IMAGE, input_text=100, output_image=tokens, output_text=3000 - tokens)
        answer = said(usage(100, 3000), picture())
        yield single(f"no details: {size}", answer, charged, images=1, asks=asks, model=IMAGE)


def refusals() -> Iterator[Case]:
    """Thoughts that are repeated as candidates are charged once."""
    mirrored = usage(100, 200, 200) | {"totalTokenCount": 300}
    charged = charge(IMAGE, input_text=100, output_text=200)
    nothing = {"content": {"parts": None}, "finishReason": "NO_IMAGE"}
    answer = response(nothing, usageMetadata=mirrored)
    yield single("a refusal that mirrors thoughts", answer, charged, model=IMAGE)
    yield events("events: a refusal that mirrors thoughts", [answer], charged, mirrored, model=IMAGE)


def large() -> Iterator[Case]:
    """Far beyond what is held of a response, with and without tools in the request."""
    heavy = picture(300_000)
    for name, asks in {"": asking(), " with tools": asking(tools=[{"googleSearch": {}}])}.items():
        hidden = {"candidates": [candidate(heavy)], "usageMetadata": ONE, "x": "y" * 100_000}
        estimate = charge(IMAGE, input_text=-(-len(asks) // 4), output_image=1120, output_text=400)
        of: dict[str, Any] = {"usage": None, "finish": "STOP" if name else None, "model": IMAGE, **GUESSED}
        yield single(f"usage out of sight{name}", hidden, estimate, images=1, asks=asks, **of)
        both = said(ONE, heavy, heavy)
        yield single(f"large pictures{name}", both, ONE_CHARGED, images=2, asks=asks, **DRAWN)
        answers = [response(candidate(heavy, finish=None)), both]
        yield events(f"events: large pictures{name}", answers, ONE_CHARGED, ONE, images=3, asks=asks, **DRAWN)


def others() -> Iterator[Case]:
    found = usage(50, 2340, 337, candidatesTokensDetails=by(IMAGE=2000))
    charged = charge(PRO_IMAGE, input_text=50, output_image=2000, output_text=677)
    yield single("a picture of 4K", said(found, picture()), charged, images=1, model=PRO_IMAGE)
    edited = usage(563, 1210, promptTokensDetails=by(TEXT=3, IMAGE=560), candidatesTokensDetails=by(IMAGE=1120))
    charged = charge(PRO_IMAGE, input_text=3, input_image=560, output_image=1120, output_text=90)
    yield single("a picture in and one out", said(edited, picture()), charged, images=1, model=PRO_IMAGE)
    details = {"promptTokensDetails": by(TEXT=380, IMAGE=1120), "cacheTokensDetails": by(IMAGE=1120)}
    cached = usage(1500, 1210, cachedContentTokenCount=1120, candidatesTokensDetails=by(IMAGE=1120), **details)
    charged = charge(IMAGE, input_text=380, cached_image=1120, output_image=1120, output_text=90)
    yield single("a picture from the cache", said(cached, picture()), charged, images=1, model=IMAGE)
