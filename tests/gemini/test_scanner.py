"""The scanner against a slow oracle on hostile responses, and case by case."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.gemini import scanner as scanner_module
from proxy.gemini import tokens, windows
from proxy.gemini.reading import Reading
from proxy.gemini.scanner import Scanner, for_framing
from tests.gemini import oracle
from tests.gemini.hostile import Hostile
from tests.gemini.shapes import texts
from tests.proof import WHOLE, Proof, sized

sys.setrecursionlimit(10_000)  # the oracle goes down into whatever there is
FRAMINGS = {
    "single": (Hostile.response, oracle.single),
    "sse": (Hostile.events, oracle.sse),
    "array": (Hostile.array, oracle.array),
}
fuzz = partial(
    settings,
    deadline=None,
    database=None,
    derandomize=not WHOLE,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def read(framing: str, chunks: Iterator[bytes] | list[bytes], complete: bool = True, **options: object) -> Reading:
    scanner = for_framing(framing, **options)  # type: ignore[arg-type]
    feed(scanner, *chunks)
    return scanner.finish(complete)


def feed(scanner: Scanner, *chunks: bytes) -> None:
    for chunk in chunks:
        for _ in scanner.feed(chunk):
            pass


@st.composite
def scans(draw: st.DrawFn) -> tuple[Hostile, bool, int]:
    """A maker of responses, whether they bear tools, and the window to look through."""
    tools = draw(st.booleans())
    hostile = Hostile(draw(st.integers(0, 2**64 - 1)), draw(st.integers(1, 4)), tools)
    return hostile, tools, draw(st.integers(48, 512))


def cuttings(text: bytes, size: int, cut: int) -> Iterator[tuple[int, list[bytes]]]:
    """How many bytes come, and in which pieces: each kind once."""
    whole = len(text)
    sizes = {size, 16_384, 65_537} | ({1} if whole < 4_000 else set()) | ({7} if whole < 30_000 else set())
    for one in sorted({min(size, max(whole, 1)) for size in sizes}):
        yield whole, list(pieces(text, one))
        yield cut, list(pieces(text[:cut], one))
    if whole < 200:
        for at in range(1, whole):
            yield whole, [text[:at], text[at:]]
            yield at, [text[: at // 2], text[at // 2 : at]]


def test_a_response_yields_what_the_oracle_finds_however_it_is_made_framed_and_cut(proof: Proof) -> None:
    """A case is a document in a framing, a window to look through, and a cutting: in pieces, in two, or broken off."""
    cases = documents = length = 0

    @fuzz(max_examples=sized(500, 20_000))
    @given(scans(), st.sampled_from(sorted(FRAMINGS)), st.booleans(), st.integers(1, 200), st.floats(0, 1))
    def check(scan: tuple[Hostile, bool, int], framing: str, walks: bool, size: int, part: float) -> None:
        nonlocal cases, documents, length
        hostile, tools, small = scan
        make, expected = FRAMINGS[framing]
        text = make(hostile)
        documents, length = documents + 1, length + len(text)
        grounding = tools or walks
        for window in (small, 65_536):
            for cut, chunks in cuttings(text, size, int(len(text) * part)):
                told = read(framing, chunks, cut == len(text), window=window, grounding=grounding)
                assert not told.uncounted or (framing == "single" and cut < len(text))
                told.uncounted = False
                assert told == expected(text, cut, window, grounding), (cut, window, [len(one) for one in chunks[:9]])
                cases += 1

    check()
    proof(cases=cases, documents=documents, bytes_of_documents=length, differences=0)
    assert cases >= sized(20_000, 1_000_000)


@fuzz(max_examples=sized(60, 2_000))
@given(scans())
def test_the_oracle_reads_a_document_as_json_does(scan: tuple[Hostile, bool, int]) -> None:
    text = scan[0].response()
    said, end = oracle.values(text)
    assert text[end:].strip() == b""
    for value in said:
        assert value.raw == text[value.start : value.end]
        json.loads(value.raw)
    top = json.loads(text, object_pairs_hook=list)
    assert [json.loads(value.raw, object_pairs_hook=list) for value in said if len(value.path) == 1] == [
        inner for _, inner in top
    ]
    assert [value.path for value in said if len(value.path) == 1] == [(name,) for name, _ in top]


LINES = {"pieces": 30, "single bytes": 60}
"""Of Python, that a byte makes the scanner run at most: it may end an element, and a piece costs some by itself."""
SEARCHED = {"pieces": 4, "single bytes": 300}
"""Bytes that regular expressions are asked to look at, at most, for each that comes: a name that came in single bytes
is looked at again with each, as long as it is held, and so is the seam between two pieces."""


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Lines that proxy/gemini/ runs, and bytes that its regular expressions look at."""
    work: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if "proxy/gemini" not in frame.f_code.co_filename:
            return None
        work["lines"] += event == "line"
        return trace

    class Counted:
        def __init__(self, pattern: re.Pattern[bytes]) -> None:
            self._pattern = pattern

        def match(self, text: bytes, start: int = 0, stop: int = sys.maxsize) -> re.Match[bytes] | None:
            found = self._pattern.match(text, start, stop)
            work["searched"] += (found.end() if found else min(stop, len(text))) - start
            return found

        def finditer(self, text: bytes, start: int = 0, stop: int = sys.maxsize) -> Iterator[re.Match[bytes]]:
            work["searched"] += min(stop, len(text)) - start
            return self._pattern.finditer(text, start, stop)

    with monkeypatch.context() as patched:
        for module in (scanner_module, tokens, windows):
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    patched.setattr(module, name, Counted(value))
        sys.settrace(trace)
        try:
            yield work
        finally:
            sys.settrace(None)


def test_no_byte_makes_more_than_its_share_of_work(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in them, and however many they are: sizes are doubled, and pieces of one byte are the other extreme.

    Each text is read with and without grounding; what is held to the limit is their mean.
    """
    most, cases = Counter[str](), 0
    for size in (1_024 << doubling for doubling in range(sized(2, 7))):
        for name, framing, text in texts(size // 2, size):
            for kind, piece in (("pieces", size // 4), ("single bytes", 1)):
                if piece == 1 and size > sized(1_024, 4_096):
                    continue
                with counting(monkeypatch) as work:
                    read(framing, pieces(text, piece), window=size * 2 // 3, grounding=True)
                    read(framing, pieces(text, piece), window=size * 2 // 3)
                cases += 2
                for limit, done in ((LINES, "lines"), (SEARCHED, "searched")):
                    share = work[done] / (2 * len(text))
                    assert share <= limit[kind], (name, framing, size)
                    most[f"{done} in {kind}"] = max(most[f"{done} in {kind}"], round(share, 2))
    proof(cases=cases, largest_text=size, most_per_byte=most)


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
        feed(scanner, before + answer()[:-200])
        for _ in range(200):
            feed(scanner, b"A" * 65_536)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    feed(scanner, after)
    assert held < 6 * 65_536


@pytest.mark.parametrize("unit", [b"x", b"data:x\n"])
def test_tiny_pieces_are_held_in_little_more_than_their_bytes(unit: bytes) -> None:
    scanner = for_framing("sse")
    feed(scanner, b'data:{"x":"\n')
    tracemalloc.start()
    try:
        for _ in range(150_000 // len(unit)):
            feed(scanner, unit)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 4 * 65_536


@pytest.mark.parametrize("framing", sorted(FRAMINGS))
@pytest.mark.parametrize("grounding", [False, True])
def test_a_piece_given_up_in_the_middle_leaves_what_was_said_before(framing: str, grounding: bool) -> None:
    """As it is when the call is cancelled while others have their turn."""
    before = {"single": b"{", "sse": b'data: {"responseId":"r"}\n\ndata: {', "array": b'[{"responseId":"r"},{'}[framing]
    scanner = for_framing(framing, grounding=grounding)
    turns = iter(scanner.feed(before + b'"x":[' + b"[]," * 50_000))
    next(turns)
    del turns
    reading = scanner.finish(False)
    assert (reading.usage, reading.unseen, reading.complete) == (None, True, False)
    assert reading.response_id == (None if framing == "single" else "r")


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


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)])
def test_queries_that_turn_out_to_be_look_ups_are_not_counted_as_searches_too(order: tuple[int, ...]) -> None:
    """One event lists the queries, another what they found as well."""
    queries: dict[str, object] = {"webSearchQueries": ["a", "b"]}
    found = queries | {"groundingChunks": [{"maps": {"placeId": "p"}}]}
    events = [json.dumps({"candidates": [{"groundingMetadata": one}]}) for one in (queries, found)]
    reading = read("sse", [f"data: {events[index]}\n\n".encode() for index in order])
    assert (reading.searches, reading.maps) == (0, 2)


def test_a_usage_of_zeros_does_not_take_the_place_of_another() -> None:
    events = [b'data: {"usageMetadata":%b}\n\n' % usage for usage in (b'{"totalTokenCount":8}', b'{"a":0}', b"{}")]
    assert read("sse", events).usage == b'{"totalTokenCount":8}'
    assert read("sse", events[1:]).usage == b'{"a":0}'


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
@pytest.mark.parametrize("window", [64, 65_536])
def test_nesting_however_deep_hides_nothing_behind_it(framing: str, window: int) -> None:
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"usageMetadata":{"a":1}}'
    before, after = {"single": (b"", b""), "sse": (b"data: ", b"\n\n"), "array": (b"[", b"]")}[framing]
    reading = read(framing, pieces(before + deep + after, 999), window=window, grounding=True)
    assert (reading.usage, reading.complete) == (b'{"a":1}', True)


@fuzz(max_examples=sized(200, 20_000))
@given(scans(), st.sampled_from(sorted(FRAMINGS)), st.data())
def test_responses_damaged_anywhere_make_it_neither_raise_nor_make_up_usage(
    scan: tuple[Hostile, bool, int], framing: str, data: st.DataObject
) -> None:
    hostile, tools, window = scan
    text = FRAMINGS[framing][0](hostile)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"\n", b"\xff"])) + text[at + 1 :]
    reading = read(framing, pieces(text, data.draw(st.integers(1, 300))), window=window, grounding=tools)
    assert reading.usage is None or framing == "sse" or reading.usage in text


def test_another_framing_is_refused() -> None:
    with pytest.raises(ValueError, match="none of single, sse, array"):
        for_framing("xml")
