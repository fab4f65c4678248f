"""Usages as users of other gateways published them, with what each should have cost (docs/metering.md links them)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.journeys.ugly.case import (
    IMAGE,
    PRO,
    PRO_IMAGE,
    Case,
    Charged,
    by,
    charge,
    events,
    picture,
    said,
    single,
    usage,
)


def cases() -> Iterator[Case]:
    found = usage(326, 2340, 337, promptTokensDetails=by(TEXT=326), candidatesTokensDetails=by(IMAGE=2000))
    charged = charge(PRO_IMAGE, input_text=326, output_image=2000, output_text=677)
    yield single("$0.2488 billed as $0.0328", said(found, picture()), charged, images=1, model=PRO_IMAGE)
    found = usage(500, 1193, candidatesTokensDetails=by(TEXT=73, IMAGE=1120))
    charged = charge(PRO_IMAGE, input_text=500, output_image=1120, output_text=73)
    yield single("a picture with a caption", said(found, picture()), charged, images=1, model=PRO_IMAGE)
    found = usage(262, 20, promptTokensDetails=by(TEXT=4, IMAGE=258))
    charged = charge(PRO_IMAGE, input_text=4, input_image=258, output_text=20)
    yield single("a picture to be described", said(found), charged, model=PRO_IMAGE)
    found = usage(6, 1301, promptTokensDetails=by(TEXT=6), candidatesTokensDetails=by(IMAGE=1290))
    older: Charged = {"input_text": (6, "0.30"), "output_image": (1290, "30"), "output_text": (11, "2.50")}
    answer = said(found, picture())
    yield single("a picture of an older model", answer, older, images=1, model="gemini-2.5-flash-image")
    found = usage(262_960, 1744, cachedContentTokenCount=257_955)
    cached: Charged = {"input_text": (5005, "2.50"), "cached_text": (257_955, "0.25"), "output_text": (1744, "15")}
    yield single("a long prompt, nearly all from the cache", said(found), cached, model=PRO)
    first, last = {"promptTokenCount": 349, "totalTokenCount": 349}, usage(349, 2269, 346)
    charged = charge(IMAGE, input_text=349, output_text=2615)
    yield events("events: output in the last usage only", [said(first), said(last)], charged, last, model=IMAGE)
