"""Between the shapes: bodies that go up, answers that come down, base64 that crosses untouched, tokens in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.images import sizes, translate
from proxy.gateway.images.requests import ImageRequest
from proxy.gateway.images.sizes import Shape
from proxy.gateway.images.translate import Answer, Given

NOTHING = {"text": "", "why": "", "tokens": {}}


def up(request: ImageRequest, shape: Shape = Shape(None, None), *pictures: Given, mask: Given | None = None) -> Any:  # noqa: B008
    return json.loads(b"".join(translate.native_body(request, shape, pictures, mask)))


def test_a_prompt_alone_asks_for_a_picture_and_for_nothing_else() -> None:
    assert up(ImageRequest('say "é\n\u2028"')) == {
        "contents": [{"role": "user", "parts": [{"text": 'say "é\n\u2028"'}]}],
        "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
    }


@pytest.mark.parametrize(
    ("shape", "config"),
    [
        (Shape("16:9", None), {"aspectRatio": "16:9"}),
        (Shape(None, "2K"), {"imageSize": "2K"}),
        (Shape("1:1", "4K"), {"aspectRatio": "1:1", "imageSize": "4K"}),
    ],
)
def test_a_shape_goes_up_as_far_as_there_is_one(shape: Shape, config: dict[str, str]) -> None:
    assert up(ImageRequest("a"), shape)["generationConfig"]["imageConfig"] == config


def test_pictures_go_up_in_order_then_the_mask_then_what_is_said_in_words() -> None:
    request = ImageRequest("a", style="vivid", background="opaque", input_fidelity="high")
    body = up(
        request, Shape(None, None), Given("image/png", b"1+/="), Given("image/jpeg", b"2"), mask=Given("m/m", b"3")
    )
    said = " ".join((sizes.MASKED, sizes.words("vivid", "opaque", "high")))
    assert body["contents"][0]["parts"] == [
        {"text": "a"},
        {"inlineData": {"mimeType": "image/png", "data": "1+/="}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "2"}},
        {"inlineData": {"mimeType": "m/m", "data": "3"}},
        {"text": said},
    ]


def test_the_base64_of_a_picture_is_the_very_object_that_was_given() -> None:
    data = b"A" * 99
    assert any(
        piece is data
        for piece in translate.native_body(ImageRequest("a"), Shape(None, None), [Given("a/b", data)], None)
    )


def part(data: str, **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": data}, **more}


def answer(*parts: Any, **more: Any) -> Answer:
    body = json.dumps({"candidates": [{"content": {"parts": parts}, **more.pop("candidate", {})}], **more}).encode()
    found = translate.read_answer(body)
    assert found is not None
    return found


def drawn(found: Answer) -> list[bytes]:
    return [bytes(picture.base64) for picture in found.pictures]


@pytest.mark.parametrize("data", [b"AAAA", rb"a+b\/c=", rb"\u0041\/\/8=", b"/" * 70_000, b"not base64 \xc3\xa9"])
def test_base64_is_a_view_of_the_answer_as_it_stood_there(data: bytes) -> None:
    """Not a copy: what changes in the answer changes in the picture."""
    body = bytearray(
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data": "' + data + b'","mimeType":"image/webp"}}]}}]}'
    )
    found = translate.read_answer(body)
    assert found is not None
    (picture,) = found.pictures
    assert picture.base64 == b'"' + data + b'"'
    body[body.index(data)] = 0x21
    assert picture.base64 == b'"!' + data[1:] + b'"'
    assert picture.media_type == "image/webp"


def test_drafts_stand_before_the_picture_that_counts_and_thoughts_are_left_out() -> None:
    found = answer(
        {"text": " thinking ", "thought": True},
        part("THOUGHT", thought=True),
        {"text": " One. "},
        part("DRAFT", thought=False),
        {"text": "Two.", "thought": None},
        part("LAST", thoughtSignature="x"),
        {"inlineData": {"mimeType": "audio/wav", "data": "A"}},
        {"inlineData": {"mimeType": "image/png", "data": ""}},
        {"inlineData": {"mimeType": "image/png", "data": None}},
        {"inlineData": {"mimeType": "image/png"}},
        {"inlineData": None, "text": None, "functionCall": {}},
    )
    assert drawn(found) == [b'"DRAFT"', b'"LAST"']
    assert found.text == "One. Two."


def test_of_several_candidates_the_first_counts_and_a_long_text_is_cut() -> None:
    body = {
        "candidates": [{"content": {"parts": [part("1"), {"text": "x" * 99_999}]}}, {"content": {"parts": [part("2")]}}]
    }
    found = translate.read_answer(json.dumps(body).encode())
    assert found is not None
    assert drawn(found) == [b'"1"']
    assert found.text == "x" * translate.LONGEST_TEXT


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, ""),
        ({"candidates": None}, ""),
        ({"candidates": []}, ""),
        ({"candidates": [{}]}, ""),
        ({"candidates": [{"content": None, "finishReason": "STOP"}]}, "STOP"),
        ({"candidates": [{"content": {}, "finishReason": "NO_IMAGE"}]}, "NO_IMAGE"),
        ({"candidates": [{"content": {"parts": None}, "finishReason": "IMAGE_SAFETY"}]}, "IMAGE_SAFETY"),
        ({"candidates": [{"content": {"parts": []}, "finishReason": None}], "promptFeedback": None}, ""),
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "PROHIBITED_CONTENT"),
        ({"promptFeedback": {"blockReason": "X"}, "candidates": [{"finishReason": "STOP"}]}, "X"),
        ({"promptFeedback": {}, "candidates": [{"finishReason": "SAFETY"}]}, "SAFETY"),
    ],
)
def test_without_a_picture_it_says_why_in_googles_word(body: dict[str, Any], why: str) -> None:
    assert translate.read_answer(json.dumps(body).encode()) == Answer([], **{**NOTHING, "why": why})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"candidates":7}',
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_of_generate_content_is_none(body: bytes) -> None:
    assert translate.read_answer(body) is None


def test_tokens_are_what_is_billed_and_unlabelled_output_beside_a_picture_is_the_pictures() -> None:
    said = {"promptTokenCount": 10, "candidatesTokenCount": 1120, "thoughtsTokenCount": 30, "totalTokenCount": 1160}
    labelled = {**said, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}]}
    picture = part("A")
    assert answer(picture, usageMetadata=labelled).tokens == {"input_text": 10, "output_text": 30, "output_image": 1120}
    assert answer(picture, usageMetadata=said).tokens == {"input_text": 10, "output_image": 1150}
    assert answer(usageMetadata=said).tokens == {"input_text": 10, "output_text": 1150}
    nothing: list[Any] = [None, [], "x", {}]
    for metadata in nothing:
        assert answer(picture, usageMetadata=metadata).tokens == {}


KINDS = [
    "input_text",
    "input_image",
    "cached_text",
    "cached_image",
    "input_audio",
    "output_text",
    "output_image",
    "output_video",
]


def test_usage_counts_what_is_cached_as_input_and_what_is_no_picture_as_text() -> None:
    tokens = {kind: 10**number for number, kind in enumerate(KINDS)}
    assert translate.usage([tokens, {"output_image": 5}]) == {
        "input_tokens": 11_111,
        "input_tokens_details": {"text_tokens": 10_101, "image_tokens": 1_010},
        "output_tokens": 11_100_005,
        "output_tokens_details": {"text_tokens": 10_100_000, "image_tokens": 1_000_005},
        "total_tokens": 11_111_116,
    }


@given(st.lists(st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**12)), max_size=10))
def test_usage_sums_up_over_calls(calls: list[dict[str, int]]) -> None:
    usage = translate.usage(calls)
    assert usage["total_tokens"] == sum(sum(call.values()) for call in calls)
    for side in ("input", "output"):
        assert usage[f"{side}_tokens"] == sum(usage[f"{side}_tokens_details"].values())
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
