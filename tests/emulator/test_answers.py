"""What is answered, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator.conftest import IMAGE, TEXT, Client


def _parts(client: Client, text: str, model: str = IMAGE, **fields: Any) -> list[dict[str, Any]]:
    candidate = client.ask(text, model, **fields).json()["candidates"][0]
    parts: list[dict[str, Any]] = candidate["content"]["parts"]
    return parts


@pytest.mark.parametrize(
    ("model", "config", "says"),
    [
        ("gemini-3-pro-image", {"aspectRatio": "1:4"}, "Aspect ratio 1:4 is not supported for this model"),
        (IMAGE, {"aspectRatio": "7:4"}, "Aspect ratio 7:4 is not supported for this model"),
        (IMAGE, {"imageSize": "1k"}, "Image size 1k is not supported for this model"),
        ("gemini-3.1-flash-lite-image", {"image_size": "2K"}, "Image size 2K is not supported for this model"),
        ("gemini-2.5-flash-image", {"imageSize": "1K"}, "Image size 1K is not supported for this model"),
    ],
)
def test_a_size_that_the_model_does_not_offer_is_refused(
    client: Client, model: str, config: dict[str, str], says: str
) -> None:
    answer = client.ask("A lorry", model, generationConfig={"imageConfig": config})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, says)


@pytest.mark.parametrize("size", ["512", "0.5K"])
def test_both_names_of_the_smallest_size_cost_the_same(client: Client, size: str) -> None:
    usage = client.ask("A lorry", IMAGE, generationConfig={"imageConfig": {"imageSize": size}}).json()["usageMetadata"]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 400}]


def test_the_size_may_stand_in_response_format(client: Client) -> None:
    config = {"responseFormat": {"image": {"imageSize": "4K"}}}
    usage = client.ask("A lorry", IMAGE, generationConfig=config).json()["usageMetadata"]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 3780}]


def test_text_may_come_before_the_picture(client: Client) -> None:
    assert [list(part) for part in _parts(client, "A lorry [[lead-text=on]]")] == [
        ["text"],
        ["inlineData", "thoughtSignature"],
    ]
    assert "text" not in _parts(client, "A lorry [[lead-text=off]]")[0]


def test_some_prompts_get_text_first_without_asking(client: Client) -> None:
    kinds = {next(iter(_parts(client, f"Lorry {number} [[url]]")[0])) for number in range(12)}
    assert kinds == {"text", "inlineData"}


def test_without_image_among_the_modalities_there_is_no_picture(client: Client) -> None:
    answer = client.ask("A lorry", IMAGE, generationConfig={"responseModalities": ["TEXT"]}).json()
    assert [list(part) for part in answer["candidates"][0]["content"]["parts"]] == [["text"]]
    assert "candidatesTokensDetails" not in answer["usageMetadata"]


def test_a_text_model_draws_nothing(client: Client) -> None:
    answer = client.ask("A lorry", TEXT, generationConfig={"responseModalities": ["TEXT", "IMAGE"]})
    assert answer.status_code == 400


def test_an_image_model_calls_no_functions_and_writes_no_json(client: Client) -> None:
    tools = [{"functionDeclarations": [{"name": "weigh"}]}]
    assert client.ask("weigh", IMAGE, tools=tools).status_code == 400
    assert client.ask("weigh", IMAGE, generationConfig={"responseMimeType": "application/json"}).status_code == 400


@pytest.mark.parametrize("count", [0, 1, 10])
def test_each_picture_counts(client: Client, count: int) -> None:
    answer = client.ask(f"A lorry [[images={count}]] [[url]]", IMAGE).json()
    parts = answer["candidates"][0]["content"]["parts"]
    assert sum("inlineData" in part for part in parts) == count
    details = answer["usageMetadata"].get("candidatesTokensDetails", [])
    assert sum(one["tokenCount"] for one in details) == count * 1120


def test_a_refusal_mirrors_thoughts_and_is_billed_once(client: Client) -> None:
    answer = client.ask("A lorry [[refuse=IMAGE_SAFETY]] [[thoughts=100]]", IMAGE).json()
    candidate, usage = answer["candidates"][0], answer["usageMetadata"]
    assert candidate["finishReason"] == "IMAGE_SAFETY"
    assert candidate["content"]["parts"] is None
    assert usage["candidatesTokenCount"] == usage["thoughtsTokenCount"] == 100
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 100
    billed = client.last_billed()
    assert (billed["usage"]["candidates_token_count"], billed["images"]) == (0, 0)


def test_a_blocked_prompt_has_no_candidates_and_costs_its_input(client: Client) -> None:
    answer = client.ask("A lorry [[block=SAFETY]]", IMAGE).json()
    assert answer["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in answer
    assert answer["usageMetadata"]["totalTokenCount"] == answer["usageMetadata"]["promptTokenCount"] > 0


def test_the_finish_reason_can_be_set(client: Client) -> None:
    for model in (TEXT, IMAGE):
        assert client.ask("A [[finish=OTHER]]", model).json()["candidates"][0]["finishReason"] == "OTHER"


@pytest.mark.parametrize(
    ("thinking", "count"),
    [({"thinkingLevel": "minimal"}, 0), ({"thinkingBudget": 0}, 0), ({"thinkingLevel": "HIGH"}, 700)],
)
def test_thinking_follows_its_level(client: Client, thinking: dict[str, Any], count: int) -> None:
    usage = client.ask("A", TEXT, generationConfig={"thinkingConfig": thinking}).json()["usageMetadata"]
    assert usage.get("thoughtsTokenCount", 0) // 100 * 100 == count


def test_thoughts_are_shown_when_asked_for(client: Client) -> None:
    config = {"thinkingConfig": {"includeThoughts": True}}
    assert [part.get("thought") for part in _parts(client, "A", TEXT, generationConfig=config)] == [True, None]


@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_a_text_has_the_bytes_asked_for(client: Client, size: int) -> None:
    text = _parts(client, f"Ünïcödé [[text-bytes={size}]]", TEXT)[0]["text"]
    assert len(text.encode()) == size


def test_max_output_tokens_cuts_the_text(client: Client) -> None:
    answer = client.ask("A long story", TEXT, generationConfig={"maxOutputTokens": 2}).json()
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 2


def test_max_output_tokens_bounds_thinking_and_text_together(client: Client) -> None:
    answer = client.ask("A long story", TEXT, generationConfig={"maxOutputTokens": 40}).json()
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    usage = answer["usageMetadata"]
    assert usage["candidatesTokenCount"] + usage["thoughtsTokenCount"] == 40


@pytest.mark.parametrize(("most", "pictures"), [(1119, 0), (1120, 1), (1300, 1), (2400, 2), (5000, 3)])
def test_max_output_tokens_bounds_pictures_with_all_that_is_beside_them(
    client: Client, most: int, pictures: int
) -> None:
    """None is cut through: there is one less, and the answer says that it isn't all."""
    asked = "[[images=3]] [[thoughts=100]] [[text-bytes=600]] A lorry"
    answer = client.ask(asked, IMAGE, generationConfig={"maxOutputTokens": most}).json()
    [candidate], usage = answer["candidates"], answer["usageMetadata"]
    drawn = [part for part in candidate["content"].get("parts", []) if "inlineData" in part]
    assert len(drawn) == pictures
    assert usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0) <= most
    assert candidate["finishReason"] == ("STOP" if pictures == 3 else "MAX_TOKENS")


@pytest.mark.parametrize("model", [TEXT, IMAGE])
def test_max_output_tokens_below_nothing_is_refused(client: Client, model: str) -> None:
    """It must not be billed: less than nothing was used."""
    answer = client.ask("A lorry", model, generationConfig={"maxOutputTokens": -5})
    assert answer.status_code == 400
    assert "max_output_tokens must be positive" in answer.json()["error"]["message"]


def test_google_search_among_the_tools_makes_one_search(client: Client) -> None:
    answer = client.ask("News?", TEXT, tools=[{"google_search": {}}]).json()
    assert answer["candidates"][0]["groundingMetadata"]["webSearchQueries"] == ["query 1 about News?"]


def test_several_candidates_are_several_times_the_tokens(client: Client) -> None:
    one = client.ask("A", TEXT).json()["usageMetadata"]["candidatesTokenCount"]
    answer = client.ask("A", TEXT, generationConfig={"candidateCount": 3}).json()
    assert [candidate["index"] for candidate in answer["candidates"]] == [0, 1, 2]
    assert answer["usageMetadata"]["candidatesTokenCount"] == 3 * one
    assert client.ask("A", TEXT, generationConfig={"candidateCount": 9}).status_code == 400


def test_a_forced_function_call_takes_an_allowed_function(client: Client) -> None:
    tools = [{"function_declarations": [{"name": "weigh"}, {"name": "park", "parameters": {"type": "OBJECT"}}]}]
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["park"]}}
    parts = _parts(client, "Hello", TEXT, tools=tools, tool_config=config)
    assert parts == [{"functionCall": {"name": "park", "args": {}}}]
    config["functionCallingConfig"] = {"mode": "NONE"}
    assert "text" in _parts(client, "weigh", TEXT, tools=tools, toolConfig=config)[0]


def test_searches_are_named_and_counted(client: Client) -> None:
    answer = client.ask("A lorry [[search=2]]", TEXT).json()
    assert len(answer["candidates"][0]["groundingMetadata"]["webSearchQueries"]) == 2
    assert client.last_billed()["searches"] == 2


def test_each_candidates_searches_are_counted(client: Client) -> None:
    """The account has as many as the answer names."""
    answer = client.ask("A lorry [[search=2]]", TEXT, generationConfig={"candidateCount": 3}).json()
    named = sum(len(one["groundingMetadata"]["webSearchQueries"]) for one in answer["candidates"])
    assert client.last_billed()["searches"] == named == 6


def test_tool_use_and_cached_tokens_are_part_of_the_total(client: Client) -> None:
    usage = client.ask("A [[tool-use=50]] [[cached=100]] [[thoughts=0]]", TEXT).json()["usageMetadata"]
    assert (usage["toolUsePromptTokenCount"], usage["cachedContentTokenCount"]) == (50, 100)
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 50 + usage["candidatesTokenCount"]


@pytest.mark.parametrize(
    "fields", [{"contents": []}, {"serviceTier": "gold"}, {"contents": [{"parts": [{"inlineData": {"data": "?"}}]}]}]
)
def test_a_request_that_makes_no_sense_is_refused(client: Client, fields: dict[str, Any]) -> None:
    assert client.ask("A", TEXT, **fields).status_code == 400
