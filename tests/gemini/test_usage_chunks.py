"""The usage chunk is taken out of a stream, and nothing else of it is touched, wherever the stream is cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gemini.usage_chunks import MAX_CHUNK, UsageChunks

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 31}
CHUNK = {"id": "a", "object": "chat.completion.chunk", "model": "gemini-3.8-flash"}
WITH_CHOICES = {**CHUNK, "choices": [{"index": 0, "delta": {"content": 'no "choices":[], "usage":{}'}}], "usage": USAGE}
OF_USAGE = {**CHUNK, "choices": [], "usage": USAGE}


def oracle(stream: bytes) -> bytes:
    """Line by line, with the whole stream at hand."""
    kept, block = b"", b""
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+$", stream):
        block += line
        if not line.strip(b"\r\n"):
            kept += b"" if counts(block) else block
            block = b""
    return kept + (b"" if counts(block) else block)


def counts(block: bytes) -> bool:
    data = [line[5:] for line in re.split(rb"\r\n|\n|\r", block) if line[:5] == b"data:"]
    try:
        said = json.loads(b"\n".join(data))
    except ValueError:
        return False
    if not isinstance(said, dict) or len(block) > MAX_CHUNK:
        return False
    return said.get("choices") == [] and isinstance(said.get("usage"), dict)


def passed(stream: bytes, cuts: list[int]) -> bytes:
    chunks = UsageChunks()
    pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    return b"".join([*map(chunks.feed, pieces), chunks.finish()])


ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    stream = b""
    for _ in range(draw(st.integers(1, 6))):
        said = draw(
            st.sampled_from(
                [
                    *(OF_USAGE, WITH_CHOICES, {**OF_USAGE, "usage": None}, {"choices": []}),
                    {"choices": [], "usage": [USAGE]},
                ]
            )
        )
        text = json.dumps(said, indent=draw(st.sampled_from([None, 1])))
        field = draw(st.sampled_from(["data: ", "data:"]))
        lines = [field + line for line in text.split("\n")]
        others = ["data: [DONE]"], [": alive"], [": alive", *lines], ["event: x", *lines], []
        lines = draw(st.sampled_from([lines, lines, *others]))
        stream += b"".join(line.encode() + draw(ends) for line in lines)
        stream += b"".join(draw(st.lists(ends, min_size=1, max_size=2)))
    return stream[: draw(st.one_of(st.just(len(stream)), st.integers(0, len(stream))))]


@settings(max_examples=80, deadline=None)
@given(streams(), st.data())
def test_the_chunk_is_taken_out_as_the_oracle_does_wherever_it_is_cut(stream: bytes, data: st.DataObject) -> None:
    expected = oracle(stream)
    assert passed(stream, []) == expected
    for at in range(len(stream) + 1):
        assert passed(stream, [at]) == expected, at
    assert passed(stream, list(range(len(stream)))) == expected, "byte by byte"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    assert passed(stream, cuts) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_no_event_waits_beyond_its_own_end(end: bytes) -> None:
    chunks = UsageChunks()
    for said in (WITH_CHOICES, WITH_CHOICES, OF_USAGE, WITH_CHOICES):
        event = b"data: " + json.dumps(said).encode() + end + end
        assert chunks.feed(event) == (event if said is WITH_CHOICES else b"")


@pytest.mark.parametrize("size", [MAX_CHUNK, MAX_CHUNK + 9, 100_000])
@pytest.mark.parametrize("step", [1000, 4096, 1 << 20])
def test_a_long_event_passes_whole_and_what_follows_it_is_judged(size: int, step: int) -> None:
    """However long it is, no more of it is held than a usage chunk may be."""
    long = b"data: " + json.dumps({**WITH_CHOICES, "x": "y" * size}).encode() + b"\r\n\r\n"
    usage, done = b"data: " + json.dumps(OF_USAGE).encode() + b"\n\n", b"data: [DONE]\n\n"
    stream, chunks, out = long + usage + done, UsageChunks(), b""
    for start in range(0, len(stream), step):
        out += chunks.feed(stream[start : start + step])
        assert start + step >= len(long) or len(out) + MAX_CHUNK >= start + step
    assert out + chunks.finish() == long + done


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_the_end_of_a_long_event_is_seen_wherever_it_is_cut(end: bytes) -> None:
    long = b"data: " + json.dumps({**WITH_CHOICES, "x": "y" * MAX_CHUNK}).encode() + end
    usage = b"data: " + json.dumps(OF_USAGE).encode() + b"\n\n"
    for first in range(len(long) - 6, len(long) + 3):
        for second in range(first, len(long) + 3):
            assert passed(long + usage, [len(long) - 50, first, second]) == long
