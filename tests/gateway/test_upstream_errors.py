"""An error in a stream is found and looked through however the stream is cut; all else crosses as it came."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import ProxyRefused, Reason
from proxy.gateway.upstream_errors import StreamErrors
from proxy.gemini import edits
from proxy.upstreams.error_answer import MAX_BODY
from proxy.upstreams.upstream import Upstream

KEY = "AIzaSyD-0_9aZ" + "x" * 26
USAGE = '{"candidates":[{"content":{"parts":[{"text":"projects/123 %s"}]}}],"usageMetadata":{"totalTokenCount":8}}'
HEALTHY = USAGE % json.dumps({"error": {"code": 1}})[1:-1].replace('"', '\\"')
CALLS = '{"candidates":[{"content":{"parts":[{"functionCall":{"args": {"error":{"code":7,"at":"projects/123"}}}}]}}]}'


def error(code: int = 429, message: str = f"Consumer 'api_key:{KEY}' of projects/411082643095 has no quota.") -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": "RESOURCE_EXHAUSTED"}}, indent=1)


def sse(*documents: str) -> bytes:
    return "".join(f"data: {json.dumps(json.loads(document))}\r\n\r\n" for document in documents).encode()


def array(*documents: str) -> bytes:
    return ("[" + "\n,\r\n".join(documents) + "\n]").encode()


def upstream(secret: str = KEY) -> Upstream:
    nowhere: Any = None
    return Upstream("google", "https://g.example", "x-goog-api-key", secret, nowhere)


def framing(stream: bytes) -> str:
    return "sse" if stream.startswith(b"data:") else "array"


def cut_up(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    return [stream[start:end] for start, end in pairwise(edges)]


def passed(stream: bytes, cuts: list[int]) -> bytes:
    """What goes down of a stream that comes in these pieces."""
    errors = StreamErrors(upstream(), framing(stream))
    return b"".join([errors.feed(piece) for piece in cut_up(stream, cuts)]) + errors.finish()


STREAMS = {
    "an event": sse(HEALTHY, CALLS, error()),
    "two events": sse(HEALTHY, error(), error(500), HEALTHY),
    "only an error": sse(error()),
    "an element": array(HEALTHY, CALLS, error()),
    "the only element": array(error()),
    "another layout": array(HEALTHY).replace(
        b"\n]", b' , { \n "error" :\t{ \r\n "code" : 429, "x": "%b"}}]' % KEY.encode()
    ),
}


def redacted(stream: bytes) -> bytes:
    """The oracle, which sees the stream whole: each event with an error redacted, an array from its error on."""
    if framing(stream) == "array":
        start = edits.find_error(b"\n" + stream, "array") - 1
        return stream[:start] + edits.redact(stream[start:], KEY.encode())
    events = re.split(rb"(?<=\r\n\r\n)", stream)
    return b"".join(edits.redact(event, KEY.encode()) if b'data: {"error"' in event else event for event in events)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_an_error_cut_anywhere_is_redacted_and_all_else_is_not_touched(stream: bytes) -> None:
    expected = redacted(stream)
    assert KEY.encode() not in expected
    assert b"411082643095" not in expected
    assert expected.count(b"projects/123") == stream.count(b"projects/123")
    for cut in range(len(stream)):
        assert passed(stream, [cut]) == expected, f"cut at {cut}"
    assert passed(stream, list(range(len(stream)))) == expected, "byte by byte"


@given(stream=st.sampled_from(list(STREAMS.values())), cuts=st.lists(st.integers(0, 1200), max_size=12))
def test_an_error_in_any_pieces_is_redacted(stream: bytes, cuts: list[int]) -> None:
    assert passed(stream, cuts) == redacted(stream)


@given(
    text=st.text(alphabet='{}[]",: \n\\ecdorataux0', max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    kind=st.sampled_from(["sse", "array"]),
)
@example(text='"error": {"error":{"code"', cuts=[9, 10, 11], kind="sse")
@example(text='{"a" : {"error":{"code"', cuts=[7], kind="array")
def test_where_no_error_is_every_byte_crosses_at_once_however_it_is_cut(text: str, cuts: list[int], kind: str) -> None:
    stream = text.encode()
    if edits.find_error(b"\n" + stream, kind) < 0:
        errors = StreamErrors(upstream(), kind)
        for piece in cut_up(stream, cuts):
            assert errors.feed(piece) == piece
        assert errors.finish() == b""


ARGUED = json.dumps(
    {"functionCall": {"args": {"one": {"error": {"code": 401, "at": "projects/123"}}, "pad": "x" * 100}}}
)
LISTED = json.dumps({"functionCall": {"args": {"results": [{"error": {"code": 401, "at": "projects/123"}}]}}})


@pytest.mark.parametrize("argument", [ARGUED, LISTED], ids=["a member's value", "in a list"])
@pytest.mark.parametrize("indent", [None, 2], ids=["compact", "pretty"])
@pytest.mark.parametrize("shape", [sse, array])
def test_a_function_whose_arguments_hold_errors_crosses_at_once_however_it_is_cut(
    shape: Any, indent: int | None, argument: str
) -> None:
    stream = shape(json.dumps(json.loads(argument), indent=indent), USAGE % "", "{}")
    for size in range(1, len(stream) + 1):
        errors = StreamErrors(upstream(), framing(stream))
        for start in range(0, len(stream), size):
            assert errors.feed(stream[start : start + size]) == stream[start : start + size]


def test_an_event_that_is_an_error_waits_for_its_end_and_no_longer() -> None:
    stream = sse(HEALTHY, error(message="slow down"))
    errors = StreamErrors(upstream(), "sse")
    start = stream.index(b'{"error"')
    assert errors.feed(stream[: start + 20]) == stream[:start]
    assert errors.feed(stream[start + 20 : -1]) == b""
    assert errors.feed(stream[-1:]) == stream[start:]
    assert errors.feed(sse(HEALTHY)) == sse(HEALTHY)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (401, "whatever"),
        (400, "API key not valid. Please pass a valid API key."),
        (403, "Your project has been denied access."),
    ],
)
@pytest.mark.parametrize("shape", [sse, array])
def test_a_refusal_of_our_credential_in_mid_stream_is_not_for_the_caller(code: int, message: str, shape: Any) -> None:
    stream = shape(HEALTHY, error(code, message))
    for cut in (len(stream) // 2, len(stream) - 1):
        with pytest.raises(ProxyRefused) as refused:
            passed(stream, [cut])
        assert refused.value.reason is Reason.UPSTREAM_CREDENTIAL_REFUSED


@pytest.mark.parametrize(
    "broken", [b'[{"error":{"code"', b'[{"error":{"code":401', b'{"error":{"code":"x"}}', b'{"error":{"code":{}}}']
)
def test_an_error_that_is_no_json_passes_as_it_is(broken: bytes) -> None:
    assert passed(broken, [3]) == broken


def test_what_is_too_long_for_an_error_is_not_held_for_ever() -> None:
    errors = StreamErrors(upstream(), "sse")
    assert errors.feed(b'data: {"error":{"code":1,"message":"' + b"x" * (MAX_BODY - 100)) == b"data: "
    with pytest.raises(ProxyRefused, match=f"more than {MAX_BODY} bytes"):
        errors.feed(b"x" * 200)
