"""Usage in OpenAI's shape: what is billed, and what becomes of what can't be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini.openai_usage import parse, quantities


def weighed(**said: Any) -> dict[str, int]:
    return quantities(parse(json.dumps(said).encode()))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, {"input_text": 10, "output_text": 5}),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45}, {"input_text": 10, "output_text": 35}),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 35,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            {"input_text": 6, "cached_text": 4, "output_text": 35},
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5}, {"input_text": 10, "output_text": 5}),
        (
            {"prompt_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 9}},
            {"input_text": 10, "output_text": 9},
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, {"input_text": 10, "output_text": 5}),
        ({"prompt_tokens": 10, "total_tokens": 10}, {"input_text": 10}),
        (
            {"prompt_tokens": 10, "total_tokens": 10, "prompt_tokens_details": {"audio_tokens": 4}},
            {"input_text": 6, "input_audio": 4},
        ),
        ({}, {}),
        ({"prompt_tokens": None, "completion_tokens_details": None}, {}),
    ],
)
def test_output_is_what_is_left_of_the_total_and_thoughts_are_in_it_once(
    said: dict[str, Any], expected: dict[str, int]
) -> None:
    assert weighed(**said) == expected


counts = st.integers(0, 10**6) | st.none()


@given(counts, counts, counts, counts, counts)
def test_no_quantity_is_negative_and_they_add_up_to_the_total_where_that_can_be(
    prompt: int | None, completion: int | None, total: int | None, cached: int | None, reasoning: int | None
) -> None:
    found = weighed(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        prompt_tokens_details={"cached_tokens": cached},
        completion_tokens_details={"reasoning_tokens": reasoning},
    )
    told = (prompt or 0) + max(completion or 0, reasoning or 0)
    assert sum(found.values()) == max(total or 0, told)
    assert all(quantity > 0 for quantity in found.values())


@pytest.mark.parametrize(
    ("raw", "prompt"),
    [
        (b'{"prompt_tokens": "7"}', 7),
        (b'{"prompt_tokens": 7, "total_tokens": -1}', 7),
        (b'{"prompt_tokens": 7, "prompt_tokens_details": 3}', 7),
        (b'{"prompt_tokens": 1.5}', None),
        (b"[]", None),
        (b"{", None),
        (b'{"prompt_tokens": 9999999999999}', None),
    ],
)
def test_what_can_not_be_read_is_missing_and_said_to_be(raw: bytes, prompt: int | None) -> None:
    usage = parse(raw)
    assert usage.prompt_token_count == prompt
    assert usage.malformed == (raw != b'{"prompt_tokens": "7"}')
