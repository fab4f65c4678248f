"""The scanner against a slow oracle on hostile responses, and case by case."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.gemini.reading import Reading
from proxy.gemini.scanner import for_framing
from tests.gemini import oracle
from tests.gemini.hostile import Hostile

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
Oracle = Callable[[bytes, int, int, bool], Reading]


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def read(framing: str, chunks: Iterator[bytes] | list[bytes], complete: bool = True, **options: object) -> Reading:
    scanner = for_framing(framing, **options)  # type: ignore[arg-type]
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.finish(complete)


@st.composite
def scans(draw: st.DrawFn) -> tuple[Hostile, bool, int]:
    """A maker of responses, whether they bear tools, and the window to look through."""
    tools = draw(st.booleans())
    hostile = Hostile(draw(st.integers(0, 2**32)), draw(st.integers(1, 4)), tools)
    return hostile, tools, draw(st.one_of(st.integers(48, 512), st.just(65_536)))


def check(framing: str, expected: Oracle, text: bytes, tools: bool, window: int, data: st.DataObject) -> None:
    """Whole, and broken off anywhere, in pieces of several sizes."""
    size = data.draw(st.one_of(st.sampled_from([1, 7, 16_384, 65_537]), st.integers(1, 200)), "size")
    for cut in (len(text), data.draw(st.integers(0, len(text)), "cut")):
        told = read(framing, pieces(text[:cut], size), cut == len(text), window=window, grounding=tools)
        assert not told.uncounted or (framing == "single" and cut < len(text))
        told.uncounted = False
        assert told == expected(text, cut, window, tools)


@fuzz
@given(scans(), st.data())
def test_a_single_response_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("single", oracle.single, hostile.response(), tools, window, data)


@fuzz
@given(scans(), st.data())
def test_a_stream_of_events_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("sse", oracle.sse, hostile.events(), tools, window, data)


@fuzz
@given(scans(), st.data())
def test_an_array_yields_what_the_oracle_finds(scan: tuple[Hostile, bool, int], data: st.DataObject) -> None:
    hostile, tools, window = scan
    check("array", oracle.array, hostile.array(), tools, window, data)


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize(
    ("framing", "expected", "make"),
    [
        ("single", oracle.single, Hostile.response),
        ("sse", oracle.sse, Hostile.events),
        ("array", oracle.array, Hostile.array),
    ],
)
def test_every_place_to_cut_a_response_in_two_yields_the_same(
    framing: str, expected: Oracle, make: Callable[[Hostile], bytes], tools: bool
) -> None:
    texts = [text for seed in range(99) if 300 < len(text := make(Hostile(seed, 3, tools))) < 1000][:3]
    assert len(texts) == 3
    for text in texts:
        for window in (64, 65_536):
            whole = expected(text, len(text), window, tools)
            for cut in range(len(text) + 1):
                assert read(framing, [text[:cut], text[cut:]], window=window, grounding=tools) == whole


def answer(*, data: str = "", usage: dict[str, int] | None = None, queries: int = 0) -> bytes:
    parts = [{"text": "here"}, {"inlineData": {"mimeType": "image/png", "data": data}}]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "index": 0}
    if queries:
        candidate["groundingMetadata"] = {"webSearchQueries": ["q"] * queries, "x": "y" * 70_000}
    said = {"usageMetadata": usage or {"totalTokenCount": 7}, "modelVersion": "gemini-3-pro-image", "responseId": "r1"}
    return json.dumps({"candidates": [candidate]} | said).encode()


PICTURE = "QUJD" * 750_000


@pytest.mark.parametrize("size", [16_384, 65_537, 10**7])
@pytest.mark.parametrize("framing", ["single", "sse", "array"])
def test_a_picture_of_megabytes_is_looked_at_through_its_ends(framing: str, size: int) -> None:
    before, after = {"single": (b"", b""), "sse": (b"data: ", b"\r\n\r\n"), "array": (b"[", b"]")}[framing]
    reading = read(framing, pieces(before + answer(data=PICTURE) + after, size))
    assert reading == Reading(
        usage=b'{"totalTokenCount": 7}',
        model_version="gemini-3-pro-image",
        response_id="r1",
        finish_reason="STOP",
        images=1,
        complete=True,
    )


@pytest.mark.parametrize("framing", ["single", "sse", "array"])
def test_no_more_than_the_windows_and_a_few_chunks_is_held(framing: str) -> None:
    before, after = {"single": (b"", b""), "sse": (b"data: ", b"\n\n"), "array": (b"[", b"]")}[framing]
    scanner = for_framing(framing, grounding=True)
    tracemalloc.start()
    try:
        scanner.feed(before + answer()[:-200])
        for _ in range(200):
            scanner.feed(b"A" * 65_536)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    scanner.feed(after)
    assert held < 6 * 65_536


def test_searches_in_the_middle_are_counted_where_the_request_had_tools() -> None:
    text = b'{"x": "%b",' % (b"z" * 70_000) + answer(queries=3)[1:]
    assert read("single", pieces(text, 1000), grounding=True).searches == 3


def test_usage_out_of_sight_is_not_taken_for_missing() -> None:
    text = b'{"x": "%b", "usageMetadata": {"totalTokenCount": 7}, "y": "%b"}' % (b"x" * 100, b"y" * 100)
    hidden = read("single", [text], window=64)
    assert (hidden.usage, hidden.unseen, hidden.complete) == (None, True, True)
    absent = read("single", [b'{"candidates": []}'], window=64)
    assert (absent.usage, absent.unseen, absent.complete) == (None, False, True)


def test_the_last_usage_of_a_stream_counts_and_nulls_and_absence_dont_overwrite_it() -> None:
    said = [
        '{"usageMetadata":{"totalTokenCount":0}}',
        '{"usageMetadata":{"totalTokenCount":9}}',
        '{"usageMetadata":null}',
        "{}",
    ]
    assert read("sse", [f"data: {one}\r\n\r\n".encode() for one in said]).usage == b'{"totalTokenCount":9}'
    assert read("array", [f"[{','.join(said)}]".encode()]).usage == b'{"totalTokenCount":9}'


def test_a_stream_that_broke_off_yields_what_its_whole_events_said_and_says_that_more_may_have_come() -> None:
    whole, half = b'data: {"usageMetadata":{"a":1}}\n\n', b'data: {"usageMetadata":{"a":2}}\n'
    reading = read("sse", [whole, half], complete=False)
    assert (reading.usage, reading.unseen, reading.complete) == (b'{"a":1}', True, False)
    reading = read("array", [b'[{"usageMetadata":{"a":1}},{"usageMetadata":{"a":2}'], complete=False)
    assert (reading.usage, reading.unseen, reading.complete) == (b'{"a":1}', True, False)


def test_an_error_in_mid_stream_is_seen() -> None:
    first = b'data: {"usageMetadata":{"a":1}}\n\n'
    reading = read("sse", [first, b'data: {"error":{"code":503,"message":"overloaded"}}\n\n'])
    assert (reading.errored, reading.usage) == (True, b'{"a":1}')
    assert not read("sse", [first, b'data: {"error":null}\n\n']).errored


def test_searches_that_an_event_repeats_are_counted_once() -> None:
    grounding = {"candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}]}
    event = f"data: {json.dumps(grounding)}\n\n".encode()
    assert read("sse", [event, event]).searches == 2


def test_a_blocked_prompt_yields_its_reason() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 638}}
    assert read("single", [json.dumps(blocked).encode()]).finish_reason == "SAFETY"


def test_an_object_where_an_array_was_due_is_its_only_element() -> None:
    reading = read("array", [b'{"usageMetadata":{"a":1}}\n'])
    assert (reading.usage, reading.complete) == (b'{"a":1}', True)


@pytest.mark.parametrize("rest", [b"x", b"]", b'"', b"{}"])
def test_what_follows_an_array_makes_it_incomplete(rest: bytes) -> None:
    reading = read("array", [b'[{"usageMetadata":{"a":1}}]', rest])
    assert (reading.usage, reading.complete, reading.unseen) == (b'{"a":1}', False, True)


@pytest.mark.parametrize("framing", ["single", "sse", "array"])
def test_nesting_beyond_every_limit_is_survived_and_reported(framing: str) -> None:
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"usageMetadata":{"a":1}}'
    before, after = {"single": (b"", b""), "sse": (b"data: ", b"\n\n"), "array": (b"[", b"]")}[framing]
    for window in (64, 65_536):
        reading = read(framing, pieces(before + deep + after, 999), window=window, grounding=True)
        assert reading.uncounted or reading.unseen
        assert reading.usage == (None if framing == "array" else b'{"a":1}')


@fuzz
@given(scans(), st.sampled_from(["single", "sse", "array"]), st.data())
def test_responses_damaged_anywhere_make_it_neither_raise_nor_make_up_usage(
    scan: tuple[Hostile, bool, int], framing: str, data: st.DataObject
) -> None:
    hostile, tools, window = scan
    text = {"single": hostile.response, "sse": hostile.events, "array": hostile.array}[framing]()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"\n", b"\xff"])) + text[at + 1 :]
    reading = read(framing, pieces(text, data.draw(st.integers(1, 300))), window=window, grounding=tools)
    assert reading.usage is None or framing == "sse" or reading.usage in text


def test_another_framing_is_refused() -> None:
    with pytest.raises(ValueError, match="none of single, sse, array"):
        for_framing("xml")
