"""Heads of HTTP/1.1 messages: a request's built, a response's parsed and its framing chosen (RFC 9112). No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

import httptools

from proxy.gemini.headers import Headers
from proxy.upstreams.framing import Body, ChunkedBody, LengthBody, UntilCloseBody
from proxy.upstreams.transport import Request

MAX_HEAD = 65536
"""Bytes of a response's head, with its last empty line and all interim heads before it."""
MAX_FIELDS = 200
BODILESS = (204, 304)
"""Statuses of final responses that never have a body; their framing fields don't cross."""

# llhttp takes more protocols, versions and statuses than these, and control characters in the reason phrase.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))


class HeadError(Exception):
    """The response's head is not valid HTTP/1.1, or could be read in two ways; the message says what is wrong."""


class RequestHead(NamedTuple):
    """A request's head as it goes up, and the length of the body that it announces."""

    wire: bytes
    content_length: int


class ResponseHead(NamedTuple):
    """What a response's head says."""

    status: int
    headers: Headers
    body: Body
    keep_alive: bool


def build_request_head(request: Request) -> RequestHead:
    """The request line and the fields as they go up.

    Raises ValueError where they would not stay what they are on the wire: a CR, LF or NUL, a blank in the target, a
    transfer-encoding, a content-length that isn't the body's. The message never holds a value.
    """
    parts = [request.method, b" ", request.target, b" HTTP/1.1\r\n"]
    length = -1
    for name, value in request.headers:
        parts += (name, b": ", value, b"\r\n")
        if name == b"content-length":
            if length >= 0 or not value.isdigit():
                raise ValueError("The request's content-length is doubled, or no number.")
            length = int(value)
        elif name == b"transfer-encoding":
            raise ValueError("A request goes up with a content-length, never with a transfer-encoding.")
    parts.append(b"\r\n")
    wire = b"".join(parts)
    lines = len(request.headers) + 2
    if wire.count(b"\n") != lines or wire.count(b"\r") != lines or b"\0" in wire or b" " in request.target:
        raise ValueError(f"{_culprit(request)} holds a character that can't stand there.")
    if not isinstance(request.body, (bytes, bytearray)):
        if length < 0:
            raise ValueError("A body that comes in pieces needs a content-length.")
    elif len(request.body) != max(length, 0):
        raise ValueError(f"The body has {len(request.body)} bytes, its content-length says {max(length, 0)}.")
    return RequestHead(wire, length)


def _culprit(request: Request) -> str:
    for name, value in request.headers:
        if any(byte in name + value for byte in b"\r\n\0"):
            return f"The request's field {name!r}"
    return "The request line"


class _Fields:
    """What httptools calls with each field of a head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def parse_response_head(wire: bytes, method: bytes) -> ResponseHead:
    """The head of a response to a request of this method; `wire` ends with its empty line. Raises HeadError."""
    if _STATUS_LINE.match(wire) is None:
        raise HeadError("its status line is not one of HTTP/1.1")
    fields = _Fields()
    # None of llhttp's leniencies is on: folded, doubled or ambiguous fields and bare line breaks are errors. The
    # parser sees the head alone, so that it never comes to a body.
    parser = httptools.HttpResponseParser(fields)
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade as error:
        raise HeadError("it switches protocols") from error
    except httptools.HttpParserError as error:
        raise HeadError(f"its head is bad ({str(error).lower()})") from error
    status = parser.get_status_code()
    if len(fields.headers) > MAX_FIELDS:
        raise HeadError(f"its head has more than {MAX_FIELDS} fields")
    headers = fields.headers
    body, keep_alive = _framing(headers, status, method, old=wire[7] == ord("0"))
    if status in BODILESS:  # what they say of a body is about another response's, or wrong
        headers = [field for field in headers if field[0] not in (b"content-length", b"transfer-encoding")]
    return ResponseHead(status, headers, body, keep_alive)


def _framing(headers: Headers, status: int, method: bytes, *, old: bool) -> tuple[Body, bool]:
    """RFC 9112 §6.3, and §9.3: HTTP/1.0 connections are not used again."""
    length, chunked, keep_alive = -1, False, not old
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"content-length":
            length = int(value)  # digits, only one, and below 2**64: llhttp has made sure
        elif name == b"connection":
            keep_alive = keep_alive and b"close" not in [token.strip() for token in value.lower().split(b",")]
        elif chunked or old or value.strip().lower() != b"chunked":
            raise HeadError("its transfer-encoding is not chunked alone")
        else:
            chunked = True
    if status < 200 or status in BODILESS or method == b"HEAD":
        return LengthBody(0), keep_alive
    if chunked:
        return ChunkedBody(), keep_alive
    if length >= 0:
        return LengthBody(length), keep_alive
    return UntilCloseBody(), False
