"""Heads of HTTP/1.1 messages: a request's built, a response's parsed and its framing chosen (RFC 9112). No I/O."""

from __future__ import annotations

import re
from mmap import mmap
from typing import NamedTuple

import httptools

from proxy.gemini.headers import Headers
from proxy.upstreams.framing import Body, ChunkedBody, LengthBody, UntilCloseBody
from proxy.upstreams.transport import Request

MAX_HEAD = 65536
"""Bytes of a response's head, with its last empty line and all interim heads before it."""
MAX_FIELDS = 200
MAX_LENGTH_DIGITS = 18
"""Digits of a content-length, and blanks behind them: an exabyte is enough, and no two readers differ on it."""
BODILESS = (204, 304)
"""Statuses of final responses that never have a body; their framing fields don't cross."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = _TOKEN.replace(b"A-Z", b"") + rb": [\t\x20-\x7e\x80-\xff]*\r\n"
_FIELD = re.compile(_LINE)
_REQUEST_HEAD = re.compile(_TOKEN + rb" /[!-~]* HTTP/1\.1\r\n(?:" + _LINE + rb")*\r\n")
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

    Raises ValueError where a server might read anything else than these: a character that can't stand where it does, a
    host that is missing or doubled, a transfer-encoding, a content-length that isn't the body's. The message never
    holds a value.
    """
    fields = b"".join([b"%b: %b\r\n" % field for field in request.headers])
    wire = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, request.target, fields)
    if _REQUEST_HEAD.fullmatch(wire) is None or wire.count(b"\n") != len(request.headers) + 2:
        raise ValueError(f"{_culprit(request)} holds a character that can't stand there.")
    if wire.count(b"\nhost: ") != 1:
        raise ValueError("A request names its host, and once.")
    if b"\ntransfer-encoding: " in wire:
        raise ValueError("A request goes up with a content-length, never with a transfer-encoding.")
    return RequestHead(wire, _content_length(wire, request.body))


def _content_length(wire: bytes, body: object) -> int:
    """What the head says; -1 where it says nothing."""
    value = wire.partition(b"\ncontent-length: ")[2]
    digits, _, after = value.partition(b"\r")
    if value and (not digits.isdigit() or b"\ncontent-length: " in after):
        raise ValueError("The request's content-length is doubled, or no number.")
    length = int(digits) if value else -1
    if not isinstance(body, (bytes, bytearray, mmap)):
        if length < 0:
            raise ValueError("A body that comes in pieces needs a content-length.")
    elif len(body) != max(length, 0):
        raise ValueError(f"The body has {len(body)} bytes, its content-length says {max(length, 0)}.")
    return length


def _culprit(request: Request) -> str:
    for name, value in request.headers:
        if _FIELD.fullmatch(b"%b: %b\r\n" % (name, value)) is None:
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
            if len(value) > MAX_LENGTH_DIGITS:
                raise HeadError(f"its content-length has more than {MAX_LENGTH_DIGITS} digits")
            length = int(value)  # digits, and only one: llhttp has made sure
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
