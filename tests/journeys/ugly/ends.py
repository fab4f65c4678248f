"""How an answer ends: blocked, refused, to be continued, an error."""

from __future__ import annotations

from collections.abc import Iterator

from tests.journeys.ugly.case import (
    BROKEN,
    ESTIMATED,
    GUESSED,
    IMAGE,
    LITE,
    PLAIN,
    PLAIN_CHARGED,
    WORDS,
    Case,
    array,
    candidate,
    charge,
    events,
    response,
    single,
    usage,
)

BLOCKS = "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"
FINISHES = (
    *("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    *("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"),
    *("TOO_MANY_TOOL_CALLS", "ESCALATION", "PUP_LIMITED_DISABLED", "CONTINUATION"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE"),
)
ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def cases() -> Iterator[Case]:
    for group in blocked, finished, errors:
        yield from group()


def blocked() -> Iterator[Case]:
    found = {"promptTokenCount": 638, "totalTokenCount": 638}
    for reason in BLOCKS:
        answer = {"promptFeedback": {"blockReason": reason}, "usageMetadata": found}
        yield single(f"prompt blocked: {reason}", answer, charge(LITE, input_text=638), finish=reason)
        charged = charge(IMAGE, input_text=638)
        yield events(f"events: prompt blocked: {reason}", [answer], charged, found, finish=reason, model=IMAGE)
    answer = {"promptFeedback": {"blockReason": "OTHER"}}
    yield single("prompt blocked without usage", answer, ESTIMATED, finish="OTHER", **GUESSED)


def finished() -> Iterator[Case]:
    """What the usage reports is charged, however an answer ended; no image where none is reported."""
    thought, charged = usage(20, 0, 60), charge(IMAGE, input_text=20, output_text=60)
    for reason in FINISHES:
        ended = {"content": {"role": "model"}, "finishReason": reason, "finishMessage": "No."}
        yield single(f"finish: {reason}", response(ended, usageMetadata=thought), charged, model=IMAGE)
    hop = response(candidate(WORDS, finish="CONTINUATION"), continuationToken="abc", usageMetadata=PLAIN)
    yield single("a hop of a continuation", hop, PLAIN_CHARGED)


def errors() -> Iterator[Case]:
    yield single("a 200 that is an error", ERROR, ESTIMATED, **BROKEN)
    yield single("a 200 that is an error with usage", ERROR | {"usageMetadata": PLAIN}, PLAIN_CHARGED, **BROKEN)
    half = usage(3, 2)
    begun, charged = (
        response(candidate(WORDS, finish=None), usageMetadata=half),
        charge(LITE, input_text=3, output_text=2),
    )
    for framed in (events, array):
        of = framed.__name__
        yield framed(f"{of}: an error in mid-stream", [begun, ERROR], charged, half, **BROKEN)
        yield framed(f"{of}: an error before any usage", [ERROR], ESTIMATED, **BROKEN)
    for status in (400, 404, 429, 500, 503, 504):
        answer = {"error": {"code": status, "message": "No.", "status": "X"}, "usageMetadata": PLAIN}
        yield single(f"answered {status}", answer, {}, usage=None, outcome="upstream_error", status=status)
    for name, body in {"nothing": b"", "a page": b"<html>Sign in</html>", "a list": b"[]", "a number": b"8"}.items():
        yield Case(f"a 200 that is {name}", body, ESTIMATED, **GUESSED)
