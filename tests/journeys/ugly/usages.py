"""Usage that is missing, null, zero, twice, first, malformed; in streams, in codings, before an upstream breaks off."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

from tests.journeys.ugly.case import (
    ARRAY,
    BROKEN,
    DRAWN,
    ESTIMATED,
    EVENTS,
    GUESSED,
    IMAGE,
    LITE,
    ONE,
    ONE_CHARGED,
    PLAIN,
    PLAIN_CHARGED,
    WORDS,
    Case,
    array,
    by,
    candidate,
    charge,
    compact,
    events,
    picture,
    response,
    said,
    single,
    usage,
)


def cases() -> Iterator[Case]:
    for group in missing, repeated, malformed, streams, events_as_written, codings, breaks:
        yield from group()


def missing() -> Iterator[Case]:
    yield single("usage missing", response(candidate(WORDS)), ESTIMATED, **GUESSED)
    zeros = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
    for name, nothing in {"null": None, "empty": {}, "zero": zeros, "a text": "8", "a list": [PLAIN]}.items():
        yield single(f"usage {name}", said(nothing), ESTIMATED, **GUESSED)
    for count, tokens in {1: 1120, 3: 3360, 10: 11_200}.items():
        charged = charge(IMAGE, input_text=10, output_image=tokens, output_text=400)
        pictures = response(candidate(*[picture()] * count))
        yield single(f"usage missing with pictures: {count}", pictures, charged, model=IMAGE, images=count, **GUESSED)


def repeated() -> Iterator[Case]:
    yield single("usage", said(PLAIN), PLAIN_CHARGED)
    yield single("usage first", {"usageMetadata": PLAIN, "candidates": [candidate(WORDS)]}, PLAIN_CHARGED)
    kept = compact(PLAIN)
    for name, text in {
        "twice": f'{{"usageMetadata":{compact(usage(1, 1))},"candidates":[],"usageMetadata":{kept}}}',
        "twice, the last null": f'{{"usageMetadata":{kept},"candidates":[],"usageMetadata":null}}',
    }.items():
        yield Case(f"usage {name}", text.encode(), PLAIN_CHARGED, kept)
    null_parts = {"content": {"parts": None, "role": "model"}, "finishReason": "STOP"}
    yield single("usage under null parts", response(null_parts, usageMetadata=PLAIN), PLAIN_CHARGED)
    yield single("usage under null content", response({"content": None}, usageMetadata=PLAIN), PLAIN_CHARGED)
    yield single("usage under null candidates", {"candidates": None, "usageMetadata": PLAIN}, PLAIN_CHARGED)
    spaced = json.dumps(said(PLAIN), indent=2)
    kept = spaced[spaced.rindex("{") : -2]
    yield Case("usage in many lines", spaced.encode(), PLAIN_CHARGED, kept, finish="STOP")
    call = {"functionCall": {"name": "f", "args": {"usageMetadata": usage(66, 66), "error": {"code": 1}}}}
    yield single("usage among a function's arguments", said(PLAIN, call), PLAIN_CHARGED)


def malformed() -> Iterator[Case]:
    """Counts that can't be read, and sums that don't add up."""
    yield single("counts as texts", said({name: str(count) for name, count in PLAIN.items()}), PLAIN_CHARGED)
    negative = PLAIN | {"promptTokenCount": -3}
    yield single("a negative count", said(negative), charge(LITE, output_text=8), estimated=True)
    new = PLAIN | {"newTokenCount": 7, "newDetails": [{"a": {}}]}
    yield single("counts that nobody knows", said(new), PLAIN_CHARGED)
    thought = charge(LITE, input_text=3, output_text=12)
    parts = {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 7}
    yield single("total missing", said(parts), thought)
    yield single("thoughts in no count but the total", said(PLAIN | {"totalTokenCount": 15}), thought)
    prompt = charge(LITE, input_text=3)
    yield single("total below its prompt", said(PLAIN | {"totalTokenCount": 1}), prompt)
    yield single("prompt only", said({"promptTokenCount": 3}), prompt)
    for name, claims in {"partial": by(TEXT=2), "larger than the sum": by(TEXT=99), "of no modality": by(X=3)}.items():
        both = {"promptTokensDetails": claims, "candidatesTokensDetails": claims}
        yield single(f"details {name}", said(PLAIN | both), PLAIN_CHARGED)


def streams() -> Iterator[Case]:
    """Running totals: the last one counts, and nothing is summed."""
    begun, ended = response(candidate(WORDS, finish=None)), response(candidate(WORDS))
    first, half = ({"usageMetadata": usage(3, candidates)} for candidates in (0, 2))
    last, null, empty = ({"usageMetadata": found} for found in (PLAIN, None, {}))
    running = [begun | first, begun | half, ended | last]
    for framed in (events, array):
        of = framed.__name__
        for name, answers in {
            "running totals": running,
            "usage in the first only": [begun | last, ended],
            "usage in the last only": [begun, ended, last],
            "usage null in the last": [*running, null],
            "usage zero in the last": [*running, empty],
            "usage zero in the first": [begun | empty, *running],
            "usage twice": [*running, last],
        }.items():
            yield framed(f"{of}: {name}", answers, PLAIN_CHARGED, PLAIN)
        yield framed(f"{of}: no usage", [begun, ended], ESTIMATED, **GUESSED)
        yield framed(f"{of}: no usage but zeros", [begun | empty, ended | null], ESTIMATED, {}, **GUESSED)
    alone = compact(said(PLAIN)).encode()
    yield Case("array: an object alone", alone, PLAIN_CHARGED, compact(PLAIN), verb=ARRAY, finish="STOP")


def events_as_written() -> Iterator[Case]:
    text, begun, kept = compact(said(PLAIN)), compact(response(candidate(WORDS, finish=None))), compact(PLAIN)
    for name, body in {
        "no space behind data": f"data:{text}\n\n",
        "comments and names": f": alive\n\nevent: x\nid: 1\ndata: {text}\n\n: alive\n\n",
        "carriage returns": f"data: {text}\r\r",
        "the last one not closed": f"data: {begun}\n\ndata: {text}",
        "a mark behind the last": f"data: {text}\n\ndata: [DONE]\n\n",
    }.items():
        yield Case(f"events: {name}", body.encode(), PLAIN_CHARGED, kept, verb=EVENTS, finish="STOP")
    lines = f"data: {text}\n\n".replace("3,", "3,\ndata: ")
    kept = kept.replace("3,", "3,\n ")
    yield Case("events: in many lines", lines.encode(), PLAIN_CHARGED, kept, verb=EVENTS, finish="STOP")


def codings() -> Iterator[Case]:
    """Of an upstream that was asked for identity."""
    one = compact(said(PLAIN)).encode()
    stream = b"data: %b\r\n\r\ndata: %b\r\n\r\n" % (compact(response(candidate(WORDS))).encode(), one)
    kept: dict[str, Any] = {"usage": compact(PLAIN), "finish": "STOP"}
    for coding, pack in {"gzip": gzip.compress, "deflate": zlib.compress}.items():
        fields = (f"Content-Encoding: {coding}",)
        yield Case(f"{coding} though identity was asked", pack(one), PLAIN_CHARGED, fields=fields, **kept)
        yield Case(f"events: {coding}", pack(stream), PLAIN_CHARGED, fields=fields, verb=EVENTS, **kept)
        yield Case(f"{coding} in name only", one, ESTIMATED, fields=fields, **GUESSED)
    yield Case("br", one, ESTIMATED, fields=("Content-Encoding: br",), **GUESSED)
    short = gzip.compress(one)[:-4]
    yield Case("gzip cut short", short, PLAIN_CHARGED, fields=("Content-Encoding: gzip",), estimated=True, **kept)


def breaks() -> Iterator[Case]:
    """The upstream breaks off: usage seen so far, else the estimate; and no picture less than came."""
    off = BROKEN | {"cut": True}
    estimate = charge(IMAGE, input_text=10, output_image=1120, output_text=400)
    one = compact(said(ONE, picture())).encode()
    before = one[: one.index(b'"usageMetadata"')]
    yield Case("broken off in a picture", one[:90], estimate, model=IMAGE, **off)
    yield Case("broken off before its usage", before, estimate, model=IMAGE, finish="STOP", **off)
    yield Case("broken off at the last byte", one[:-1], ONE_CHARGED, compact(ONE), finish="STOP", **DRAWN | off)
    large = compact(said(ONE, *[picture(100_000)] * 3)).encode()
    yield Case("broken off in a large picture", large[:50_000], estimate, model=IMAGE, **off)
    charged = charge(IMAGE, input_text=10, output_image=3360, output_text=400)
    yield Case("broken off after 3 large pictures", large[:-20], charged, model=IMAGE, images=3, **off)
    half = usage(3, 2)
    begun = response(candidate(WORDS, finish=None), usageMetadata=half)
    yield events("events: broken off after a usage", [begun], charge(LITE, input_text=3, output_text=2), half, **off)
    yield events("events: broken off before any", [], ESTIMATED, **off)
    prompt, drawn = {"usageMetadata": usage(9, 0)}, response(candidate(picture(), finish=None))
    charged = charge(IMAGE, input_text=9, output_image=1120)
    answers, last = [prompt, drawn], prompt["usageMetadata"]
    yield events("events: broken off after a picture", answers, charged, last, model=IMAGE, images=1, **off)
