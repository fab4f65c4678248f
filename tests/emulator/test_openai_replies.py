"""Native answers in OpenAI's shape."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from proxy.emulator.behaviours import Behaviour
from proxy.emulator.models import MODELS
from proxy.emulator.openai_replies import Stamp, chunks, completion, embeddings, images, usage_of

STAMP = Stamp("id-1", 1_700_000_000, "gemini-x")
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 22}
AS_GOOGLE = Behaviour()


def _native(*parts: dict[str, Any], finish: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE} | fields


def _choice(native: dict[str, Any]) -> dict[str, Any]:
    (choice,) = completion(native, STAMP, AS_GOOGLE)["choices"]
    found: dict[str, Any] = choice
    return found


def test_a_completion_has_googles_fields_in_their_order() -> None:
    made = completion(_native({"text": "A"}, {"text": "B"}), STAMP, AS_GOOGLE)
    assert list(made) == ["choices", "created", "id", "model", "object", "usage"]
    assert made["choices"] == [
        {"message": {"content": "AB", "role": "assistant"}, "finish_reason": "stop", "index": 0},
    ]


@pytest.mark.parametrize(
    ("native", "finish", "has_message"),
    [
        (_native({"text": "A"}, finish="MAX_TOKENS"), "length", True),
        (_native({"text": "A"}, finish="RECITATION"), "content_filter: RECITATION", True),
        (_native({"functionCall": {"name": "weigh", "args": {}}}), "tool_calls", True),
        (
            {"candidates": [{"content": {"parts": None}, "finishReason": "SAFETY", "index": 0}]},
            "content_filter: SAFETY",
            False,
        ),
        ({"promptFeedback": {"blockReason": "OTHER"}}, "content_filter: OTHER", False),
    ],
)
def test_an_ending_has_openais_word_or_googles_reason(native: dict[str, Any], finish: str, has_message: bool) -> None:
    choice = _choice(native)
    assert choice["finish_reason"] == finish
    assert ("message" in choice) == has_message


def test_a_call_has_its_arguments_as_json_and_the_same_id_each_time() -> None:
    native = _native({"functionCall": {"name": "weigh", "args": {"axles": 2}}})
    message = _choice(native)["message"]
    (call,) = message["tool_calls"]
    assert call["function"] == {"arguments": '{"axles":2}', "name": "weigh"}
    assert "content" not in message
    assert call["id"] == _choice(native)["message"]["tool_calls"][0]["id"]


def test_thoughts_stand_between_tags_pictures_are_markdown_and_drafts_are_left_out() -> None:
    blob = {"mimeType": "image/png", "data": "aGk="}
    parts = ({"text": "hm", "thought": True}, {"inlineData": blob, "thought": True}, {"inlineData": blob})
    assert _choice(_native(*parts))["message"]["content"] == (
        "<thought>hm</thought>![image](data:image/png;base64,aGk=)"
    )


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        (AS_GOOGLE, {"completion_tokens": 5}),
        (Behaviour(reasoning="beside"), {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 7}}),
        (
            Behaviour(reasoning="within"),
            {"completion_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 7}},
        ),
    ],
)
def test_thoughts_are_in_the_total_and_elsewhere_only_where_told(how: Behaviour, shown: dict[str, Any]) -> None:
    assert usage_of({"usageMetadata": USAGE}, how) == {"usage": shown | {"prompt_tokens": 10, "total_tokens": 22}}


def test_a_usage_that_is_missing_or_null_stays_so_and_cached_tokens_are_named() -> None:
    assert usage_of({}, AS_GOOGLE) == {}
    assert usage_of({"usageMetadata": None}, AS_GOOGLE) == {"usage": None}
    shown = usage_of({"usageMetadata": USAGE | {"cachedContentTokenCount": 4}}, AS_GOOGLE)
    assert shown["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


@pytest.mark.parametrize(
    ("asked", "where", "found"),
    [
        (False, "own", [False, False]),
        (False, "every", [False, False]),
        (True, "own", [False, False, True]),
        (True, "every", [True, True]),
        (True, "finish", [False, True]),
    ],
)
def test_a_streams_usage_stands_where_told_and_only_if_asked_for(asked: bool, where: str, found: list[bool]) -> None:
    natives = [_native({"text": "A"}, finish=None), _native({"text": ""})]
    made = chunks(natives, STAMP, Behaviour(usage_chunk=where), usage=asked)
    assert ["usage" in chunk for chunk in made] == found
    assert [bool(chunk["choices"]) for chunk in made] == [True, True, False][: len(made)]
    assert made[0]["choices"] == [{"delta": {"content": "A", "role": "assistant"}, "index": 0}]
    assert made[1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_without_usage_has_no_chunk_for_it() -> None:
    native = _native({"text": "A"})
    del native["usageMetadata"]
    assert len(chunks([native], STAMP, AS_GOOGLE, usage=True)) == 1


def test_a_packed_embedding_is_base64_of_floats() -> None:
    made = embeddings([[0.5, -1.0]], MODELS["gemini-embedding-001"], packed=True)
    assert struct.unpack("<2f", base64.b64decode(made["data"][0]["embedding"])) == (0.5, -1.0)
    assert made["data"][0]["index"] == 0


def test_pictures_come_as_base64_or_as_the_url_that_stands_in_its_place() -> None:
    parts: list[dict[str, Any]] = [
        {"text": "A"},
        *({"inlineData": {"data": data}} for data in ("aGk=", "https://example.com/a")),
    ]
    assert images(parts, 5) == {"created": 5, "data": [{"b64_json": "aGk="}, {"url": "https://example.com/a"}]}
