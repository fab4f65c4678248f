"""What is counted, and how it is shown."""

from __future__ import annotations

import pytest

from proxy.emulator.usage import ABSENT, ZERO, Usage, media_tokens, prompt_of, spoilt, text_tokens

PICTURE = Usage(prompt={"TEXT": 10, "IMAGE": 258}, text=100, image=1120, thoughts=137, tool_use=5, tier="standard")


def test_the_total_is_the_sum_of_its_parts() -> None:
    shown = PICTURE.metadata()
    assert shown["totalTokenCount"] == 268 + 5 + 1220 + 137
    assert shown["candidatesTokenCount"] == 1220
    assert shown["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 1120}]


def test_zeros_are_left_out() -> None:
    assert Usage(prompt={"TEXT": 3}).metadata() == {
        "promptTokenCount": 3,
        "totalTokenCount": 3,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
    }


def test_cached_tokens_are_part_of_the_prompt() -> None:
    usage = prompt_of([{"parts": [{"text": "12345678"}]}], 258, 100)
    assert (usage.prompt_tokens, usage.cached) == (102, 100)
    assert usage.metadata()["cacheTokensDetails"] == [{"modality": "TEXT", "tokenCount": 100}]


def test_text_is_counted_by_bytes_and_media_by_kind() -> None:
    assert text_tokens(["abcde", "ü"]) == 3
    assert media_tokens(["image/png", "image/png", "audio/wav", "application/pdf"], 560) == {
        "IMAGE": 1120,
        "AUDIO": 320,
        "DOCUMENT": 258,
    }


def test_mirrored_thoughts_leave_the_total_true() -> None:
    refusal = Usage(prompt={"TEXT": 100}, thoughts=100)
    shown = spoilt(refusal, "mirrored")
    assert shown["candidatesTokenCount"] == shown["thoughtsTokenCount"] == 100
    assert shown["totalTokenCount"] == 200
    assert list(shown)[:3] == ["promptTokenCount", "candidatesTokenCount", "totalTokenCount"]


def test_without_details_the_counts_stay() -> None:
    assert spoilt(PICTURE, "no-details") == {
        "promptTokenCount": 268,
        "candidatesTokenCount": 1220,
        "totalTokenCount": 1630,
        "toolUsePromptTokenCount": 5,
        "thoughtsTokenCount": 137,
        "serviceTier": "standard",
    }


@pytest.mark.parametrize(
    ("how", "first", "middle", "last"),
    [
        ("none", ABSENT, ABSENT, ABSENT),
        ("null", None, None, None),
        ("zero", ZERO, ZERO, ZERO),
        ("first-only", "true", ABSENT, ABSENT),
        ("last-only", ABSENT, ABSENT, "true"),
        ("null-last", "true", "true", None),
        ("zero-first", ZERO, "true", "true"),
        (None, "true", "true", "true"),
    ],
)
def test_each_way_to_spoil_it_along_a_stream(how: str | None, first: object, middle: object, last: object) -> None:
    places = [(True, False), (False, False), (False, True)]
    shown = [spoilt(PICTURE, how, first=at_first, last=at_last) for at_first, at_last in places]
    assert shown == [PICTURE.metadata() if one == "true" else one for one in (first, middle, last)]
