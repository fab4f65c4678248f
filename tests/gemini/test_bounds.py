"""What bounds a request's cost: what is in its prompt, what its tools may bring, and how much it may answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from proxy.errors import CallerErred
from proxy.gemini import bodies
from proxy.gemini.bounds import Bounds

LONG = base64.b64encode(bytes(3000)).decode()


def bounds(body: Any) -> Bounds:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = bodies.skim(raw).read("generateContent", "gemini-3-pro-image", frozenset(), bounded=True).bounds
    assert found is not None
    return found


def asks(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [{"parts": list(parts)}], **more}


def inline(kind: str, data: str = LONG) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": data}}


def test_text_is_all_of_the_body_and_the_settings_bound_the_answer() -> None:
    body = asks({"text": "hello"}, generationConfig={"candidateCount": 2, "maxOutputTokens": 1400})
    length = len(json.dumps(body))
    assert bounds(body) == Bounds(length, 0, False, False, False, 2, 1400)


def test_pictures_are_counted_and_their_bytes_are_no_text() -> None:
    """Whether they are long enough to be stepped over or not."""
    found = bounds(asks(inline("image/png"), inline("IMAGE/JPEG", "AAAA")))
    assert (found.pictures, found.unbounded_input) == (2, False)
    assert found.text_bytes < len(LONG)


def test_inline_text_counts_by_its_bytes() -> None:
    found = bounds(asks(inline("text/plain"), inline("image/png")))
    assert not found.unbounded_input
    assert found.text_bytes > 2 * len(LONG)


@pytest.mark.parametrize(
    "part",
    [
        inline("audio/mp3"),
        inline("video/mp4"),
        inline("application/pdf"),
        {"inlineData": {"data": LONG}},
        {"inline_data": {"mime_type": "application/pdf", "data": "AAAA"}},
        {"inlineData": {"mimetype": "image/png", "mimeType": "video/mp4", "data": LONG}},
        {"fileData": {"fileUri": "https://youtu.be/x", "mimeType": "video/mp4"}},
        {"functionResponse": {"name": "f", "response": {}, "parts": [inline("application/pdf")]}},
    ],
)
def test_what_else_is_sent_in_has_no_bound(part: dict[str, Any]) -> None:
    assert bounds(asks({"text": "hello"}, part)).unbounded_input


def test_a_kind_that_is_spelt_with_escapes_is_read() -> None:
    raw = json.dumps(asks(inline("application/pdf"))).replace("application/pdf", "application\\u002fpdf").encode()
    assert bounds(raw).unbounded_input


def test_long_data_that_is_no_picture_is_text() -> None:
    """A tool's argument called "data" is stepped over like a picture's, and weighs as what it is."""
    body = asks({"functionCall": {"name": "f", "args": {"data": LONG}}}, inline("image/png", "AAAA"))
    assert bounds(body).text_bytes == len(json.dumps(body))


@pytest.mark.parametrize(
    "part",
    [
        {"functionResponse": {"name": "f", "response": {"parts": [inline("image/png")]}}},
        {"functionCall": {"name": "f", "args": inline("image/png")}},
    ],
)
def test_what_only_looks_like_a_picture_is_text(part: dict[str, Any]) -> None:
    """What a function takes and gives is free JSON: the model reads all of it."""
    body = asks(part)
    assert (bounds(body).pictures, bounds(body).text_bytes) == (0, len(json.dumps(body)))


def test_a_picture_that_a_function_gives_is_one() -> None:
    found = bounds(asks({"functionResponse": {"name": "f", "response": {}, "parts": [inline("image/png")]}}))
    assert (found.pictures, found.unbounded_input) == (1, False)


@pytest.mark.parametrize(
    "settings",
    [
        {"generationConfig": {"candidateCount": "8.0"}},
        {"generationConfig": {"candidateCount": 2e9}},
        {"generationConfig": {"candidate__count": 8}},
        {"generation_Config": {"candidateCount": 8}},
    ],
)
def test_candidates_that_are_asked_for_oddly_are_as_many_as_there_may_be(settings: dict[str, Any]) -> None:
    assert bounds(asks({"text": "hello"}, **settings)).candidates >= 8


@pytest.mark.parametrize(
    ("settings", "any_size"),
    [
        ({"imageConfig": {"imageSize": "4K"}}, False),
        ({"imageConfig": {"imageSize": "4k"}, "responseFormat": {"image": {"image_size": "4K"}}}, False),
        ({"imageConfig": {"imageSize": "512"}, "responseFormat": {"image": {"imageSize": "4K"}}}, True),
        ({"imageConfig": {"imageSize": "IMAGE_SIZE_FOUR_K"}}, True),
        ({"imageConfig": {"image__size": "4K"}}, True),
        ({"imageConfig": {"imageSize": None}}, False),
    ],
)
def test_a_size_that_is_asked_for_oddly_may_be_any(settings: dict[str, Any], any_size: bool) -> None:
    assert bounds(asks({"text": "hello"}, generationConfig=settings)).any_size == any_size


def test_a_token_to_continue_by_brings_in_what_nobody_knows() -> None:
    assert bounds(asks({"text": "hello"}, continuationToken="x")).unbounded_input


@pytest.mark.parametrize(
    ("tools", "searches", "unbounded"),
    [
        ([{"functionDeclarations": [{"name": "f"}]}], False, False),
        ([{"googleSearch": {}}], True, True),
        ([{"google_search_retrieval": {}}], True, True),
        ([{"functionDeclarations": []}, {"googleMaps": {}}], True, True),
        ([{"urlContext": {}}], False, True),
        ([{"codeExecution": {}}], False, True),
        ([{"ofAFutureVersion": {}}], False, True),
        (["?"], False, True),
        ([], False, False),
    ],
)
def test_tools_that_google_runs_bring_in_what_nobody_knows(tools: Any, searches: bool, unbounded: bool) -> None:
    found = bounds(asks({"text": "hello"}, tools=tools))
    assert (found.searches, found.unbounded_input) == (searches, unbounded)


def test_a_tier_that_is_asked_for_is_seen() -> None:
    assert bounds(asks({"text": "hello"}, serviceTier="priority")).asks_tier
    assert bounds(asks({"text": "hello"}, service_tier="flex")).asks_tier


@pytest.mark.parametrize(
    "raw",
    [
        b'{"generationConfig":{"maxOutputTokens":1},"generation_config":{"maxOutputTokens":99}}',
        b'{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":99}}',
        b"{'contents': []}",
        b"not json",
    ],
)
def test_what_bounds_a_cost_is_never_guessed(raw: bytes) -> None:
    with pytest.raises(CallerErred, match="whose cost a budget bounds, must be strict JSON"):
        bounds(raw)
