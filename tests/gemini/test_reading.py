"""What a document that is held whole says."""

from __future__ import annotations

import json

import pytest

from proxy.gemini.reading import Reading, read_values, read_whole


def test_what_a_later_document_doesnt_say_stands_as_an_earlier_one_said_it() -> None:
    reading = Reading()
    first = {
        "usageMetadata": {"a": 1},
        "modelVersion": "m",
        "responseId": "r",
        "candidates": [{"finishReason": "STOP"}],
    }
    assert read_whole(json.dumps(first).encode(), reading) == b'{"a": 1}'
    assert read_whole(b'{"candidates":[{"content":{"parts":null}}],"usageMetadata":null}', reading) == b"null"
    assert reading == Reading(usage=b'{"a": 1}', model_version="m", response_id="r", finish_reason="STOP")


def test_usage_keeps_its_bytes() -> None:
    reading = Reading()
    read_whole(b'{"usageMetadata": { "promptTokenCount" :  1, "new":"\\u00e9" } }', reading)
    assert reading.usage == b'{ "promptTokenCount" :  1, "new":"\\u00e9" }'


@pytest.mark.parametrize("usage", [b"7", b'"x"', b"[{}]", b"null", b'{"x":"\xff"}'])
def test_a_usage_that_is_no_object_in_utf8_is_none(usage: bytes) -> None:
    reading = Reading()
    assert read_whole(b'{"usageMetadata":' + usage + b"}", reading) == usage
    assert reading.usage is None


def test_images_and_searches_are_counted_over_all_candidates() -> None:
    image = {"inlineData": {"mimeType": "image/png"}}
    parts = [
        image,
        {"fileData": {"mimeType": "image/webp"}},
        {"inlineData": {"mimeType": "audio/wav"}},
        {"inlineData": None},
    ]
    candidate = {
        "content": {"parts": parts},
        "groundingMetadata": {"webSearchQueries": ["a"], "imageSearchQueries": ["b"]},
    }
    reading = Reading()
    read_whole(json.dumps({"candidates": [candidate, candidate, {"groundingMetadata": {}}]}).encode(), reading)
    assert (reading.images, reading.searches) == (4, 4)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a"', b'{"candidates":{}}', b"[" * 5000])
def test_what_is_no_response_changes_nothing(body: bytes) -> None:
    reading = Reading()
    assert read_whole(body, reading) is None
    assert reading == Reading()


def test_values_that_cant_be_read_are_passed_over() -> None:
    reading = Reading(model_version="m")
    found = {b"modelVersion": b'"\\ud800"', b"promptFeedback": b'{"blockReason":3}', b"usageMetadata": b'{"x":"\xff"}'}
    read_values(found, reading)
    assert reading == Reading(model_version="m")
