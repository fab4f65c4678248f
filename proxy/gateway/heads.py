"""Request heads: what is accepted of those that llhttp lets pass, and the answer to those that aren't."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from proxy.errors import CallerErred, Reason
from proxy.gemini import status

if TYPE_CHECKING:
    from proxy.gemini.headers import Headers

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]*")  # RFC 9110, 7.2; a comma would be a list of them

INTERNAL_ERROR = b'{"error":{"code":500,"message":"Internal error encountered.","status":"INTERNAL"}}'


class Bounds(NamedTuple):
    """What a client may ask of a connection."""

    head_bytes: int = 64 * 1024
    """Request line and header fields; also what may come between two pieces of a body (chunk extensions, trailers)."""
    head_fields: int = 200
    target_bytes: int = 16 * 1024
    pipelined: int = 16
    """Requests that wait behind the one being answered."""
    head_s: float = 30.0
    """From a connection's opening to its first byte, and from a head's first byte to its last."""
    body_s: float = 60.0
    """In which `body_bytes` of a body must come, or its rest; it doesn't run while reading is paused for a slow app."""
    body_bytes: int = 16 * 1024
    stall_s: float = 120.0
    """In which a client must take `stall_bytes` of what waits for it, or all of it."""
    stall_bytes: int = 16 * 1024
    linger_s: float = 10.0
    """How long we read on after a last answer: closing on unread bytes would reset it away."""


DEFAULT_BOUNDS = Bounds()


class Unacceptable(CallerErred):
    """A request that is refused before the app sees it, with the HTTP status `http`.

    Raised in the parser's callbacks, so that parsing ends there.
    """

    def __init__(self, http: int, message: str, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(reason, message)
        self.http = http


class Target(NamedTuple):
    """A request target: what it says, as it came, and its path decoded once."""

    raw_path: bytes
    path: str
    query: bytes


def too_large(bounds: Bounds) -> Unacceptable:
    """431, for a head, or for trailers and chunk extensions, beyond their bounds."""
    limit = f"{bounds.head_bytes} bytes or {bounds.head_fields} header fields"
    return Unacceptable(431, f"The request's head, or what stands between the pieces of its body, exceeds {limit}.")


def check_framing(version: str, headers: Headers) -> int:
    """The body's length where the head says it, else 0. Raises Unacceptable for what may be framed in another way.

    llhttp has refused several lengths, a length beside chunks, folded lines, space before a colon (RFC 9112, 5 and 6).
    """
    if version not in ("1.1", "1.0"):
        raise Unacceptable(400, "The request's HTTP version is not supported. Use HTTP/1.1.")
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Unacceptable(400, "The request must have one Host header.")
    if hosts and not _HOST.fullmatch(headers[names.index(b"host")][1]):
        raise Unacceptable(400, "The Host header must hold a host, and perhaps its port, and nothing else.")
    if b"transfer-encoding" in names:
        coding = headers[names.index(b"transfer-encoding")][1]
        if version == "1.0" or coding.lower() != b"chunked":
            raise Unacceptable(400, "The only transfer coding that is understood is chunked, in HTTP/1.1.")
    if b"content-length" in names:
        return int(headers[names.index(b"content-length")][1])
    return 0


def expects_continue(headers: Headers) -> bool:
    """Whether the client waits for our word before it sends the body."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


def framing(headers: Headers) -> tuple[bytes, bytes] | None:
    """The field that says that a body follows."""
    return next((field for field in headers if field[0] in (b"content-length", b"transfer-encoding")), None)


def split_target(method: str, target: bytes) -> Target:
    """Takes the origin and absolute forms, and the asterisk of OPTIONS (RFC 9112, 3.2). Raises Unacceptable."""
    query: bytes | None
    raw_path: bytes | None
    if target.startswith(b"/"):
        raw_path, _, query = target.partition(b"?")
    elif target == b"*" and method == "OPTIONS":
        raw_path, query = target, b""
    else:
        raw_path, query = _split_absolute(target)
    if raw_path is None or b"#" in target:
        raise Unacceptable(400, "The request target is not a path. Send an absolute path, such as /v1beta/models.")
    path = raw_path.decode("ascii")  # llhttp lets nothing else pass
    return Target(raw_path, unquote(path) if "%" in path else path, query or b"")


def _split_absolute(target: bytes) -> tuple[bytes | None, bytes | None]:
    if not target.lower().startswith((b"http://", b"https://")):
        return None, None
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return None, None
    if url.userinfo is not None:
        return None, None
    return url.path or b"/", url.query


def refusal(unacceptable: Unacceptable, request_id: str) -> bytes:
    """The whole response, head and all, that answers a request which the app never saw."""
    body = status.refusal_body(unacceptable, "single")
    refused = b"x-weighbridge-refused: %b\r\n" % unacceptable.reason.word.encode()
    return _response(unacceptable.http, body, request_id, refused)


def internal_error(request_id: str) -> bytes:
    """The whole response for a request on which the app broke down."""
    return _response(500, INTERNAL_ERROR, request_id)


def _response(http: int, body: bytes, request_id: str, fields: bytes = b"") -> bytes:
    common = b"content-type: application/json; charset=UTF-8\r\ncontent-length: %d\r\n" % len(body)
    last = b"x-weighbridge-request-id: %b\r\nconnection: close\r\n\r\n" % request_id.encode()
    return b"".join((STATUS_LINE[http], common, fields, last, body))
