"""What goes up is read by h11 as the one request that was meant, or doesn't go up at all."""

from __future__ import annotations

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.gemini.headers import Headers
from proxy.upstreams.heads import build_request_head
from proxy.upstreams.transport import Request
from tests.proof import WHOLE, Proof, sized

TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
HOSTILE = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\x0b",
    b"\x7f",
    b"\xe9",
    b"\r\n\r\nGET /forged HTTP/1.1\r\n",
]


def text(alphabet: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), max_size=12).map(bytes)


NAMES = text(TCHAR).filter(lambda name: name and name not in (b"host", b"content-length", b"transfer-encoding"))
VALUES = text(bytes(range(0x21, 0x7F)) + b"\x80\xff \t")
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
TARGETS = text(bytes(range(0x21, 0x7F))).map(b"/".__add__)
METHODS = st.sampled_from([b"GET", b"POST", b"PATCH", b"M-SEARCH"])
BODIES = st.binary(max_size=40) | st.just(b"GET / HTTP/1.1\r\nhost: forged\r\n\r\n")
FRAMING = st.tuples(
    st.sampled_from([b"host", b"content-length", b"transfer-encoding", b"Content-Length", b"Transfer-Encoding", b"te"]),
    st.sampled_from([b"chunked", b"0", b"2", b"+2", b"02", b"2, 2", b"h"]),
)


@st.composite
def honest(draw: st.DrawFn) -> Request:
    """A request that can go up."""
    body = draw(BODIES)
    headers = [(b"host", b"h"), *draw(FIELDS)]
    if body or draw(st.booleans()):
        headers.append((b"content-length", b"%d" % len(body)))
    return Request(draw(METHODS), draw(TARGETS), headers, body)


@st.composite
def hostile(draw: st.DrawFn) -> Request:
    """The same with something in one place that mustn't stand there, or a field more or less that frames."""
    request = draw(honest())
    method, target, headers, body = request
    place = draw(st.integers(-4, len(headers) - 1))

    def spoil(part: bytes) -> bytes:
        at = draw(st.integers(0, len(part)))
        return part[:at] + draw(st.sampled_from(HOSTILE)) + part[at:]

    if place == -4:
        return request._replace(method=spoil(method))
    if place == -3:
        return request._replace(target=spoil(target))
    if place == -2:
        return request._replace(headers=[*headers, draw(FRAMING)])
    if place == -1:
        return request._replace(headers=headers[1:] if draw(st.booleans()) else headers[:-1])
    name, value = headers[place]
    headers[place] = draw(st.sampled_from([(spoil(name), value), (name, spoil(value))]))
    return Request(method, target, headers, body)


def read_back(wire: bytes) -> tuple[bytes, bytes, Headers, bytes, bytes]:
    """Method, target, headers, body and what is left, as h11's server reads them."""
    server, body = h11.Connection(h11.SERVER), bytearray()
    server.receive_data(wire)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.http_version == b"1.1"
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    headers = [(bytes(name), bytes(value)) for name, value in request.headers]
    return bytes(request.method), bytes(request.target), headers, bytes(body), bytes(server.trailing_data[0])


def went_up(request: Request) -> bool:
    """Whether it was written; if so, h11 has read back exactly it."""
    try:
        head = build_request_head(request)
    except ValueError:
        return False
    assert isinstance(request.body, bytes)
    meant = [(name, value.strip(b" \t")) for name, value in request.headers]
    assert read_back(head.wire + request.body) == (request.method, request.target, meant, request.body, b"")
    assert max(head.content_length, 0) == len(request.body)
    return True


def test_requests_are_read_back_as_they_were_meant_or_refused(proof: Proof) -> None:
    outcomes = {True: 0, False: 0}

    @settings(max_examples=sized(300, 60_000), derandomize=not WHOLE, deadline=None, database=None)
    @example(Request(b"POST", b"/x", [(b"host", b"h"), (b"content-length", b"02")], b"{}"))
    @example(Request(b"POST", b"/x", [(b"host", b"h"), (b"x", b"")], b""))
    @given(honest() | hostile())
    def check(request: Request) -> None:
        outcomes[went_up(request)] += 1

    check()
    assert min(outcomes.values()) > sum(outcomes.values()) // 10, "nothing to speak of was written, or refused"
    proof(cases=sum(outcomes.values()), written=outcomes[True], refused=outcomes[False])
