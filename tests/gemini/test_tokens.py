"""The forward tokenizer: where values end, and what it counts on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini.tokens import MAX_HELD, TURN, Skipper, Walker

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


def skipped(skipper: Skipper, text: bytes, start: int = 0) -> int:
    """The index just past the value; -1 where it goes on."""
    at = skipper.skip(text, start)
    while skipper.inside and at < len(text):
        at = skipper.skip(text, at)
    return -1 if skipper.inside else at


@given(nested, st.booleans(), st.integers(1, 40))
def test_a_skipper_stops_just_past_each_value_however_it_is_cut(value: object, ascii_only: bool, size: int) -> None:
    one = json.dumps(value, ensure_ascii=ascii_only).encode()
    skipper, seen = Skipper(), 0
    for text in (one, one):
        rest = text + b',"next'
        ends = []
        for start in range(0, len(rest), size):
            end = skipped(skipper, rest[start : start + size])
            if end >= 0:
                ends.append(start + end)
                break
        seen += ends == [len(text)]
    assert seen == 2


def test_a_skipper_starts_and_stops_within_a_text() -> None:
    assert skipped(Skipper(), b'xx{"a":"}"}yy', 2) == 11
    assert skipped(Skipper(), b'xx"a\\"b"yy', 2) == 8
    assert skipped(Skipper(), b'xx"a\\"', 2) == -1


def test_nesting_is_followed_however_deep_it_is() -> None:
    levels = 100_000
    assert skipped(Skipper(), b"[" * levels + b"]" * levels + b"]") == 2 * levels


@pytest.mark.parametrize("unit", [b"[", b"[],", b"[[[[[[]]]]]],", b'"\\n",', b'"%b",' % (b"x" * 500), b"1," * 99])
def test_a_skipper_stops_after_a_turns_work(unit: bytes) -> None:
    """A step is a token, or 64 bytes of what is run over."""
    skipper, text, at = Skipper(), b"[" + unit * 20_000, 0
    while at < len(text):
        before, at = skipper.steps, skipper.skip(text, at)
        assert TURN <= skipper.steps - before <= TURN + 99 or at == len(text)
    assert skipper.steps >= min(20_000, len(text) // 99)


def walked(value: object, size: int = 10_000) -> Walker:
    walker, text = Walker(), json.dumps(value).encode()
    for start in range(0, len(text), size):
        walk(walker, text[start : start + size])
    return walker


def walk(walker: Walker, chunk: bytes) -> int:
    """How often others had their turn."""
    return len(list(walker.feed(chunk)))


def test_a_walker_leaves_others_their_turn() -> None:
    parts = {"candidates": [{"content": {"parts": [{}] * 10_000}}]}
    assert walk(Walker(), json.dumps(parts).encode()) >= 10_000 // TURN


LIE: dict[str, object] = {
    "candidates": [
        {"finishReason": "LIE", "groundingMetadata": {"webSearchQueries": ["lie"], "groundingChunks": [{"maps": {}}]}}
    ],
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
    assert (walker.images, walker.grounded(), walker.finish_reason, walker.lost) == (2, (3, 0), b"STOP", False)


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_the_sources_of_a_candidate_tell_look_ups_from_searches(size: int) -> None:
    place, page = {"maps": {"placeId": "p", "x": [{"web": {}}]}}, {"web": {"uri": "u", "maps": {}}}
    for sources, grounded in {
        (): (2, 0),
        (0,): (0, 2),
        (0, 0, 0): (0, 2),
        (1, 1): (2, 0),
        (0, 1): (2, 1),
    }.items():
        chunks = [(place, page)[index] for index in sources]
        one = {"groundingMetadata": {"groundingChunks": chunks, "webSearchQueries": ["a", "b"]}}
        assert walked({"candidates": [one]}, size).grounded() == grounded
        assert walked({"candidates": [one, {}, one]}, size).grounded() == (2 * grounded[0], 2 * grounded[1])
    assert walked({"candidates": [{"groundingMetadata": {"groundingChunks": [place]}}]}, size).grounded() == (0, 1)


def test_containers_of_the_wrong_kind_are_passed_over() -> None:
    wrong = {
        "groundingMetadata": {"webSearchQueries": {"a": "b"}, "groundingChunks": [{"maps": 1}]},
        "content": [],
        "finishReason": 3,
    }
    walker = walked({"candidates": [wrong, None, "x", 1, {"content": {"parts": None}}]})
    assert (walker.images, walker.grounded(), walker.finish_reason, walker.lost) == (0, (0, 0), None, False)


def test_a_walker_says_that_a_name_was_too_long_to_be_held() -> None:
    assert walked({"candidates": [{"x" * 2 * MAX_HELD: 1}]}, 100).lost
