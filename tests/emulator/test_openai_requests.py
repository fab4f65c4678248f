"""Chats as the generateContent requests that they mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.emulator.errors import ApiError
from proxy.emulator.openai_requests import CHAT, IMAGES, generate, inputs
from proxy.emulator.requests import parse

PIXEL = "data:image/png;base64,aGk="
TOOL = {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}


def _meant(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return generate(parse(json.dumps({"messages": list(messages)} | fields).encode(), CHAT))


def _config(**fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = _meant({"role": "user", "content": "A"}, **fields)["generationConfig"]
    return config


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_conversation_keeps_its_turns_and_its_tools_results_their_names() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": '{"axles":2}'}}
    meant = _meant(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        _user("How heavy?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 t"},
    )
    assert meant["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert meant["contents"] == [
        {"role": "user", "parts": [{"text": "How heavy?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "weigh", "args": {"axles": 2}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weigh", "response": {"result": "12 t"}}}]},
    ]


def test_a_tools_words_that_are_nested_too_deeply_for_json_are_words() -> None:
    deep = "[" * 100_000
    meant = _meant(_user("How heavy?"), {"role": "tool", "tool_call_id": "c1", "content": deep})
    assert meant["contents"][-1]["parts"][0]["functionResponse"]["response"] == {"result": deep}


@pytest.mark.parametrize(
    ("part", "native"),
    [
        ({"type": "text", "text": "A"}, {"text": "A"}),
        ({"type": "image_url", "image_url": {"url": PIXEL}}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}),
        ({"type": "image_url", "image_url": PIXEL}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
        ),
    ],
)
def test_a_content_part_is_a_native_part(part: dict[str, Any], native: dict[str, Any]) -> None:
    assert _meant(_user([part]))["contents"][0]["parts"] == [native]


@pytest.mark.parametrize(
    "message",
    [
        _user(3),
        _user(["A"]),
        _user([{"type": "video", "video": "A"}]),
        _user([{"type": ["text"], "text": "A"}]),
        _user([{"type": "text", "text": 3}]),
        _user([{"type": "image_url", "image_url": {"url": "data:image/png,A"}}]),
        _user([{"type": "image_url", "image_url": {}}]),
        {"content": "A"},
        {"role": "robot", "content": "A"},
        "A",
        {"role": "assistant", "tool_calls": ["A"]},
    ],
    ids=repr,
)
def test_messages_without_a_meaning_are_a_400(message: Any) -> None:
    with pytest.raises(ApiError) as refused:
        _meant(message)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({}, {"candidateCount": 1}),
        ({"n": 2, "max_tokens": 9}, {"candidateCount": 2, "maxOutputTokens": 9}),
        ({"max_completion_tokens": 7}, {"candidateCount": 1, "maxOutputTokens": 7}),
        ({"reasoning_effort": "none"}, {"candidateCount": 1, "thinkingConfig": {"thinkingBudget": 0}}),
        ({"reasoning_effort": "high"}, {"candidateCount": 1, "thinkingConfig": {"thinkingLevel": "high"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}},
            {
                "candidateCount": 1,
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object"},
            },
        ),
    ],
    ids=repr,
)
def test_openais_settings_are_native_ones(fields: dict[str, Any], config: dict[str, Any]) -> None:
    assert _config(**fields) == config


@pytest.mark.parametrize("outer", [True, False])
def test_googles_own_settings_come_in_extra_body_or_beside_it(outer: bool) -> None:
    google = {"thinking_config": {"thinking_budget": 5}, "image_config": {"aspect_ratio": "16:9"}}
    config = _config(**({"extra_body": {"google": google}} if outer else {"google": google}))
    assert config["thinkingConfig"] == {"thinkingBudget": 5}
    assert config["imageConfig"] == {"aspectRatio": "16:9"}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "high", "google": {"thinking_config": {"thinking_budget": 5}}},
        {"reasoning_effort": "utmost"},
        {"nonsense": 1},
        {"generationConfig": {}},
        {"google": {"image_config": {"nonsense": 1}}},
    ],
    ids=repr,
)
def test_settings_that_contradict_or_do_not_exist_are_a_400(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        _config(**fields)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (None, {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "weigh"}}, {"mode": "ANY", "allowedFunctionNames": ["weigh"]}),
    ],
)
def test_a_choice_of_tool_is_a_mode_of_calling(choice: Any, calling: dict[str, Any]) -> None:
    meant = _meant(_user("A"), tools=[TOOL], tool_choice=choice)
    assert meant["toolConfig"] == {"functionCallingConfig": calling}
    assert meant["tools"] == [{"functionDeclarations": [TOOL["function"]]}]


def test_the_tier_has_openais_names_too() -> None:
    tiers = [_meant(_user("A"), service_tier=tier)["serviceTier"] for tier in ("auto", "default", "flex")]
    assert tiers == ["standard", "standard", "flex"]


@pytest.mark.parametrize("asked", [None, [], 3, [3], {"A": 1}], ids=repr)
def test_only_texts_are_embedded(asked: Any) -> None:
    with pytest.raises(ApiError):
        inputs(asked)


@pytest.mark.parametrize("name", ["generationConfig", "generation_config", "contents", "safety_settings"])
def test_native_fields_are_unknown_to_the_pictures_and_any_other_is_passed_over(name: str) -> None:
    assert parse(b'{"prompt": "A", "nonsense": {"deep_er": 1}}', IMAGES)["prompt"] == "A"
    with pytest.raises(ApiError, match=f'Unknown name "{name}": Cannot find field.'):
        parse(json.dumps({"prompt": "A", name: {}}).encode(), IMAGES)
