"""Request bodies as Google reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.emulator.errors import ApiError
from proxy.emulator.requests import BATCH, GENERATE, check_blobs, contents, media_types, parse, texts


def _read(value: Any) -> dict[str, Any]:
    return parse(json.dumps(value).encode(), GENERATE)


def test_both_spellings_are_one() -> None:
    camel = _read({"generationConfig": {"imageConfig": {"aspectRatio": "1:1"}}, "systemInstruction": {"parts": []}})
    snake = _read({"generation_config": {"image_config": {"aspect_ratio": "1:1"}}, "system_instruction": {"parts": []}})
    assert camel == snake


def test_names_within_a_callers_own_schema_are_left_alone() -> None:
    schema = {"type": "OBJECT", "properties": {"snake_name": {"type": "STRING"}}}
    assert _read({"generationConfig": {"response_schema": schema}}) == {"generationConfig": {"responseSchema": schema}}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"negativePrompt": 1}, 'Unknown name "negativePrompt": Cannot find field.'),
        ({"generationConfig": {"bad": 1}}, "Unknown name \"bad\" at 'generation_config': Cannot find field."),
        (
            {"generation_config": {"imageConfig": {"size": 1}}},
            "Unknown name \"size\" at 'generation_config.image_config': Cannot find field.",
        ),
        ({"contents": [{"parts": [{"txt": 1}]}]}, "Unknown name \"txt\" at 'contents[0].parts[0]': Cannot find field."),
        (
            {"generationConfig": {"candidateCount": "x"}},
            "Invalid value at 'generation_config.candidate_count' (TYPE_INT32)",
        ),
        ({"contents": [{"parts": [{"text": 1}]}]}, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 1"),
        ({"contents": ["hello"]}, "Invalid value at 'contents[0]' (type message), \"hello\""),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(value: Any, says: str) -> None:
    with pytest.raises(ApiError) as raised:
        _read(value)
    assert raised.value.code == 400
    assert says in raised.value.message
    assert says in raised.value.details[0]["fieldViolations"][0]["description"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1', b"\xff", b"a=b", b'{"a":' + b"[" * 5_000])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="Invalid JSON payload received"):
        parse(body, GENERATE)


def test_nulls_are_as_good_as_nothing_and_single_elements_as_lists() -> None:
    assert _read({"tools": None, "contents": {"parts": {"text": "x"}}}) == {"contents": [{"parts": [{"text": "x"}]}]}


def test_whole_numbers_may_come_as_strings() -> None:
    assert parse(b'{"requests": [{"outputDimensionality": "64"}]}', BATCH)["requests"][0]["outputDimensionality"] == 64


def test_a_conversation_without_contents_is_refused() -> None:
    with pytest.raises(ApiError, match="contents is not specified"):
        contents({})


def test_texts_and_media_are_found_in_order() -> None:
    blob = {"mimeType": "image/png", "data": ""}
    content = {"parts": [{"text": "a"}, {"inlineData": blob}, {"text": "b"}, {"fileData": {"mimeType": "video/mp4"}}]}
    assert texts(content) == ["a", "b"]
    assert list(media_types([content])) == ["image/png", "video/mp4"]


@pytest.mark.parametrize("data", ["-_8=", "+/8=", "-_8", ""])
def test_both_alphabets_of_base64_are_taken(data: str) -> None:
    check_blobs([{"parts": [{"inlineData": {"data": data}}]}])


def test_data_that_is_not_base64_is_refused_with_its_path() -> None:
    with pytest.raises(ApiError, match=r"Invalid value at 'contents\[0\].parts\[1\].inline_data.data' \(TYPE_BYTES\)"):
        check_blobs([{"parts": [{"text": "x"}, {"inlineData": {"data": "https://example.com/a.png"}}]}])
