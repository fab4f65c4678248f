"""The forward tokenizer: where values end, and what it counts on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini.tokens import MAX_DEPTH, MAX_HELD, DepthError, Skipper, Walker

nested = st.recursive(
    st.none()
    | st.integers()
    | st.text(alphabet='"\\{}[],:é\n', max_size=12)
    | st.text("ab\\", min_size=390, max_size=420),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='"\\{]', max_size=4), inner, max_size=4)
    ),
    max_leaves=30,
).filter(lambda value: isinstance(value, str | list | dict))


@given(nested, st.booleans(), st.integers(1, 40))
def test_a_skipper_stops_just_past_each_value_however_it_is_cut(value: object, ascii_only: bool, size: int) -> None:
    one = json.dumps(value, ensure_ascii=ascii_only).encode()
    skipper, seen = Skipper(), 0
    for text in (one, one):
        rest = text + b',"next'
        ends = []
        for start in range(0, len(rest), size):
            end = skipper.skip(rest[start : start + size], 0)
            if end >= 0:
                ends.append(start + end)
                break
        seen += ends == [len(text)]
    assert seen == 2


def test_a_skipper_starts_and_stops_within_a_text() -> None:
    assert Skipper().skip(b'xx{"a":"}"}yy', 2) == 11
    assert Skipper().skip(b'xx"a\\"b"yy', 2) == 8
    assert Skipper().skip(b'xx"a\\"', 2) == -1


def test_nesting_is_followed_to_its_limit_and_no_further() -> None:
    levels = MAX_DEPTH
    assert Skipper().skip(b"[" * levels + b"]" * levels, 0) == 2 * levels
    with pytest.raises(DepthError):
        Skipper().skip(b"[" * (levels + 20), 0)


def walked(value: object, size: int = 10_000) -> Walker:
    walker, text = Walker(), json.dumps(value).encode()
    for start in range(0, len(text), size):
        walker.feed(text[start : start + size])
    return walker


LIE: dict[str, object] = {
    "candidates": [{"finishReason": "LIE", "groundingMetadata": {"webSearchQueries": ["lie"]}}],
    "finishReason": "LIE",
    "content": {"parts": [{"inlineData": {"mimeType": "image/png"}}]},
    "webSearchQueries": ["lie"],
}


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_only_the_right_paths_are_counted(size: int) -> None:
    parts: list[dict[str, object]] = [
        {"functionCall": {"args": LIE}},
        {"inlineData": {"data": "x" * 900, "mimeType": "image/png"}},
    ]
    parts += [
        {"fileData": {"mimeType": "audio/wav"}},
        {"fileData": {"mimeType": "image/webp"}},
        {"text": json.dumps(LIE)},
    ]
    first = {"content": {"role": "model", "parts": parts}, "x": LIE, "finishReason": "STOP"}
    second = {"finishReason": "SAFETY", "groundingMetadata": {"y": [LIE], "webSearchQueries": ["a", '"', "c" * 900]}}
    walker = walked({"x": LIE, "candidates": [first, second], "webSearchQueries": ["lie"]}, size)
    assert (walker.images, walker.searches, walker.finish_reason, walker.lost) == (2, 3, b"STOP", False)


def test_containers_of_the_wrong_kind_are_passed_over() -> None:
    wrong = {"groundingMetadata": {"webSearchQueries": {"a": "b"}}, "content": [], "finishReason": 3}
    walker = walked({"candidates": [wrong, None, "x", 1, {"content": {"parts": None}}]})
    assert (walker.images, walker.searches, walker.finish_reason, walker.lost) == (0, 0, None, False)


@pytest.mark.parametrize("value", [{"candidates": [{"x" * 2 * MAX_HELD: 1}]}, {"x": [[[]]]}], ids=["name", "depth"])
def test_beyond_its_limits_a_walker_says_so(value: dict[str, object]) -> None:
    text = json.dumps(value).encode().replace(b"[[[", b"[" * 300)
    walker = Walker()
    for start in range(0, len(text), 100):
        walker.feed(text[start : start + 100])
    assert walker.lost
