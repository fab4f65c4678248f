"""The shape of single replies and of streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.conftest import IMAGE, TEXT, Client


def _events(client: Client, text: str, model: str = TEXT, **fields: Any) -> list[dict[str, Any]]:
    stream = client.ask(text, model, "streamGenerateContent", "?alt=sse", **fields)
    assert stream.headers["content-type"] == "text/event-stream"
    events = stream.text.split("\r\n\r\n")
    assert events.pop() == ""
    assert all(event.startswith("data: {") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def _text(events: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for event in events for part in event["candidates"][0]["content"]["parts"])


@pytest.mark.parametrize("model", [TEXT, IMAGE])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_stream_has_the_chunks_asked_for_and_the_content_of_the_single_reply(
    client: Client, model: str, count: int
) -> None:
    prompt = f"A lorry [[chunks={count}]] [[images=2]] [[url]] [[lead-text=on]]"
    single = client.ask(prompt, model).json()
    events = _events(client, prompt, model)
    assert len(events) == count
    assert _text(events) == _text([single])
    assert [event["candidates"][0].get("finishReason") for event in events] == [None] * (count - 1) + ["STOP"]
    assert events[-1]["usageMetadata"] == single["usageMetadata"]
    blobs = [part for event in events for part in event["candidates"][0]["content"]["parts"] if "inlineData" in part]
    assert len(blobs) == (2 if model == IMAGE else 0)


def test_keys_stand_in_googles_order(client: Client) -> None:
    assert list(client.ask("A").json()) == ["candidates", "usageMetadata", "modelVersion", "responseId"]
    assert next(iter(client.ask("[[block=OTHER]]").json())) == "promptFeedback"


def test_running_totals_never_fall_and_count_pictures_once_they_have_come(client: Client) -> None:
    events = _events(client, "A lorry [[images=2]] [[url]] [[lead-text=on]]", IMAGE)
    totals = [event["usageMetadata"]["totalTokenCount"] for event in events]
    assert totals == sorted(totals)
    pictures = [
        sum(one["tokenCount"] for one in event["usageMetadata"].get("candidatesTokensDetails", [])) for event in events
    ]
    assert pictures[0] == 0
    assert pictures[-3:] == [1120, 2240, 2240]


def test_one_response_id_marks_all_chunks_and_the_account(client: Client) -> None:
    events = _events(client, "A")
    assert {event["responseId"] for event in events} == {client.last_billed()["id"]}


def test_the_reported_usage_is_the_last_that_was_shown(client: Client) -> None:
    events = _events(client, "A [[usage=first-only]]")
    assert client.last_billed()["reported"] == events[0]["usageMetadata"]
    assert "usageMetadata" not in events[-1]


def test_a_refused_or_blocked_stream_says_so_in_one_chunk(client: Client) -> None:
    refused = _events(client, "A [[refuse=SAFETY]]")
    assert [event["candidates"][0]["finishReason"] for event in refused] == ["SAFETY"]
    blocked = _events(client, "A [[block=SAFETY]]")
    assert [event["promptFeedback"]["blockReason"] for event in blocked] == ["SAFETY"]


def test_candidates_run_side_by_side(client: Client) -> None:
    events = _events(client, "A", generationConfig={"candidateCount": 2})
    assert all([one["index"] for one in event["candidates"]] == [0, 1] for event in events)


def test_a_model_version_can_be_set(client: Client) -> None:
    assert client.ask("A [[model-version=gemini-x]]").json()["modelVersion"] == "gemini-x"


def test_grounding_comes_with_the_end(client: Client) -> None:
    events = _events(client, "A [[search=1]]")
    assert ["groundingMetadata" in event["candidates"][0] for event in events][-2:] == [False, True]
