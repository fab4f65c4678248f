"""Heads go up exactly as given or not at all; heads that come down are strict HTTP/1.1 or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.gemini.headers import Headers
from proxy.upstreams.framing import ChunkedBody, LengthBody, UntilCloseBody
from proxy.upstreams.heads import MAX_FIELDS, HeadError, build_request_head, parse_response_head
from proxy.upstreams.transport import Request

START = b"HTTP/1.1 200 OK\r\n"


HOST = (b"host", b"h")


def request(*headers: tuple[bytes, bytes], target: bytes = b"/v1/x?y=z", body: bytes = b"") -> Request:
    return Request(b"POST", target, [HOST, *headers], body)


def test_a_request_head_is_the_fields_as_given_in_order() -> None:
    head = build_request_head(request((b"x", b" a  b "), (b"content-length", b"2"), body=b"{}"))
    assert head.wire == b"POST /v1/x?y=z HTTP/1.1\r\nhost: h\r\nx:  a  b \r\ncontent-length: 2\r\n\r\n"
    assert head.content_length == 2


@pytest.mark.parametrize("bad", [b"s3cret\r\nx: y", b"s3cret\n", b"s3cret\r", b"s3cret\0", b"\r\n"])
def test_a_value_that_would_split_the_head_is_refused_by_name_without_showing_it(bad: bytes) -> None:
    with pytest.raises(ValueError, match="x-goog-api-key") as caught:
        build_request_head(request((b"x-goog-api-key", bad)))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b" x", b"x y", b"x:", b"x\t", b"\xe9", b"x\r\ny", b"X", b"Transfer-Encoding"])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    """Names are in lower case by contract, so that none can hide from what looks for it."""
    with pytest.raises(ValueError, match="field"):
        build_request_head(request((name, b"s3cret")))


@pytest.mark.parametrize("headers", [[], [HOST, HOST], [HOST, (b"host", b"other")]])
def test_a_request_names_its_host_once(headers: Headers) -> None:
    with pytest.raises(ValueError, match="host"):
        build_request_head(Request(b"GET", b"/", headers, b""))


@pytest.mark.parametrize("method", [b"", b"GET /", b"GE T", b"GET\r\n", b"G\xe9T", b"GET\0"])
def test_a_method_that_is_none_is_refused(method: bytes) -> None:
    with pytest.raises(ValueError, match="request line"):
        build_request_head(Request(method, b"/", [HOST], b""))


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"a",
        b"http://h/",
        b"/a\xe9",
        b"/a\t",
        b"/a\x7f",
        b"/a b",
        b"/a\r\n",
        b"/a\0",
        b"/a HTTP/1.1\r\nx: y\r\n\r\nGET /b",
    ],
)
def test_a_target_that_would_split_the_request_line_is_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match="request line"):
        build_request_head(request(target=target))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"1")],
        [(b"content-length", b"2"), (b"content-length", b"2")],
        [(b"content-length", b"+2")],
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_framing_that_does_not_fit_the_body_is_refused(headers: Headers) -> None:
    with pytest.raises(ValueError, match=r"content-length|transfer-encoding"):
        build_request_head(request(*headers, body=b"{}"))


def test_a_body_in_pieces_needs_a_content_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(ValueError, match="content-length"):
        build_request_head(Request(b"POST", b"/", [HOST], pieces()))


def test_names_come_lower_cased_and_values_as_they_are() -> None:
    head = parse_response_head(START + b"X-A: B  c\r\nEmpty:\r\nx-a: \xe9\r\nContent-Length: 0\r\n\r\n", b"GET")
    assert head.status == 200
    assert head.headers == [(b"x-a", b"B  c"), (b"empty", b""), (b"x-a", b"\xe9"), (b"content-length", b"0")]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 5\r\n", LengthBody),
        (b"Content-Length: 5 \t\r\n", LengthBody),
        (b"Transfer-Encoding: Chunked\r\n", ChunkedBody),
        (b"", UntilCloseBody),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", UntilCloseBody),
    ],
)
def test_the_framing_follows_the_head(fields: bytes, body: type) -> None:
    assert type(parse_response_head(START + fields + b"\r\n", b"GET").body) is body


@pytest.mark.parametrize(
    ("status", "method"), [(b"204", b"GET"), (b"304", b"GET"), (b"200", b"HEAD"), (b"404", b"HEAD"), (b"103", b"GET")]
)
@pytest.mark.parametrize("framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_responses_that_have_no_body_have_none_whatever_the_fields_say(
    status: bytes, method: bytes, framing: bytes
) -> None:
    head = parse_response_head(b"HTTP/1.1 " + status + b" x\r\n" + framing + b"\r\n", method)
    assert head.body.complete
    assert head.keep_alive


@pytest.mark.parametrize(
    ("status", "method", "crosses"), [(b"204", b"GET", False), (b"304", b"GET", False), (b"200", b"HEAD", True)]
)
@pytest.mark.parametrize("framing", [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")])
def test_framing_of_a_body_that_cannot_come_does_not_cross(
    status: bytes, method: bytes, crosses: bool, framing: tuple[bytes, bytes]
) -> None:
    """Whoever passes the head on would announce a body, and somebody would wait for it."""
    wire = b"HTTP/1.1 %b x\r\nA: b\r\n%b: %b\r\nC: d\r\n\r\n" % (status, *framing)
    kept = [framing] if crosses else []
    assert parse_response_head(wire, method).headers == [(b"a", b"b"), *kept, (b"c", b"d")]


@pytest.mark.parametrize(
    ("start", "fields", "keep_alive"),
    [
        (START, b"Content-Length: 5\r\n", True),
        (START, b"Transfer-Encoding: chunked\r\n", True),
        (START, b"", False),
        (START, b"Content-Length: 0\r\nConnection: close\r\n", False),
        (START, b"Content-Length: 0\r\nConnection: keep-alive\r\nConnection: Foo , CLOSE\r\n", False),
        (START, b"Content-Length: 0\r\nConnection: closed, x-close\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", b"Content-Length: 5\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_whether_the_connection_may_be_used_again(start: bytes, fields: bytes, keep_alive: bool) -> None:
    assert parse_response_head(start + fields + b"\r\n", b"GET").keep_alive is keep_alive


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA(: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\xe9: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x01c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rB: c\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 O\x0bK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        START + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_heads_that_are_wrong_or_could_be_read_in_two_ways_are_refused(wire: bytes) -> None:
    with pytest.raises(HeadError):
        parse_response_head(wire, b"GET")


def test_as_many_fields_as_the_bound_are_taken() -> None:
    assert len(parse_response_head(START + b"a: b\r\n" * MAX_FIELDS + b"\r\n", b"GET").headers) == MAX_FIELDS
