"""An upstream's error crosses untouched, but for what speaks of us: our credential, our project's number."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import structlog

from proxy.errors import ProxyRefused, Reason
from proxy.gemini import codings, edits, headers, status
from proxy.gemini.headers import Headers
from proxy.upstreams.pool import Upstream
from proxy.upstreams.transport import Response

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

MAX_BODY = 128 * 1024
"""An error is read whole before it goes down. Google's are a few KB; to look through one of this size takes 5 ms."""

_EVENT_END = re.compile(rb"\r?\n\r?\n|\r\r")


async def error_to_pass(
    response: Response, upstream: Upstream, came: Callable[[bytes], Awaitable[object]]
) -> tuple[Headers, bytes]:
    """Headers and body to answer with; `came` is given each piece as it comes.

    Raises ProxyRefused where the upstream's words are not for the caller, UpstreamFailed where it breaks off.
    """
    if response.status < 400:
        raise ProxyRefused(
            Reason.UPSTREAM_UNREACHABLE,
            f"The upstream answered with a redirect ({response.status}), which is not followed. "
            "The operator's base_url may be wrong.",
        )
    body = await _whole(response, came)
    try:
        plain = codings.decoded(body, headers.coding(response.headers), MAX_BODY)
    except ValueError:
        # What can't be read may speak of us.
        raise _unfit(response.status, "a content coding that it was not asked for") from None
    if status.refuses_our_credential(response.status, plain):
        raise _credential_refused(upstream, response.status)
    fields = headers.down(response.headers, upstream.secret)
    redacted = edits.redact(plain, upstream.secret)
    if redacted == plain:
        return fields, body
    fields = [field for field in fields if field[0] not in (b"content-length", b"content-encoding")]
    return [*fields, (b"content-length", b"%d" % len(redacted))], redacted


class StreamErrors:
    """Passes a stream on as it comes, but for an error in it: that is held until it is whole, and looked through.

    `framing` is sse or array. An error is whole at the end of its event; in an array, at the end of the stream.
    """

    __slots__ = ("_before", "_framing", "_held", "_passed", "_upstream")

    def __init__(self, upstream: Upstream, framing: str) -> None:
        self._upstream = upstream
        self._framing = framing
        self._before = b"\n"  # the end of what has passed: an error's beginning may lie across pieces
        self._held: bytes | None = None  # from an error's first byte on
        self._passed = 0  # of these, how many went down before it was known to be an error

    def feed(self, piece: bytes) -> bytes:
        """What may go down now. Raises ProxyRefused where the upstream's words are not for the caller."""
        passes = b""
        while True:
            if self._held is None:
                start = self._find(piece)
                if start is None:
                    return passes + piece
                self._held = self._before[start:] if start < 0 else b""
                self._passed = len(self._held)
                passes += piece[: max(start, 0)]
                piece = piece[max(start, 0) :]
            held = self._held + piece
            end = _EVENT_END.search(held, max(0, len(self._held) - 3)) if self._framing == "sse" else None
            if end is None:
                if len(held) > MAX_BODY:
                    raise _unfit(200, f"an error of more than {MAX_BODY} bytes in its stream")
                self._held = held
                return passes
            self._held, piece = held[: end.end()], held[end.end() :]
            passes += self.finish()

    def finish(self) -> bytes:
        """What is still held, for the stream is over. Raises as `feed`."""
        if self._held is None:
            return b""
        held, self._held, self._before = self._held, None, b"\n"
        if status.refuses_our_credential_in_stream(held):
            raise _credential_refused(self._upstream, 200)
        return edits.redact(held, self._upstream.secret)[self._passed :]

    def _find(self, piece: bytes) -> int | None:
        """Where an error begins: an index of the piece, or below 0, counted from the end of what came before it."""
        before, reach = self._before, edits.ERROR_REACH
        seam = before + piece[:reach]
        start = edits.find_error(seam, self._framing)
        if start >= 0:
            return start - len(before)
        start = edits.find_error(piece, self._framing) if len(piece) > reach else -1
        if start >= 0:
            return start
        self._before = piece[-reach:] if len(piece) >= reach else seam[-reach:]
        return None


async def _whole(response: Response, came: Callable[[bytes], Awaitable[object]]) -> bytes:
    pieces, length = [], 0
    while piece := await response.read():
        await came(piece)
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BODY:
            raise _unfit(response.status, f"more than {MAX_BODY} bytes")
    return b"".join(pieces)


def _credential_refused(upstream: Upstream, http: int) -> ProxyRefused:
    log.error("upstream_credential_refused", upstream=upstream.name, status=http)
    return ProxyRefused(
        Reason.UPSTREAM_CREDENTIAL_REFUSED,
        "The upstream refused the credential of this proxy, not yours. Whoever runs the proxy must renew it.",
    )


def _unfit(http: int, what: str) -> ProxyRefused:
    return ProxyRefused(Reason.UPSTREAM_UNREACHABLE, f"The upstream answered {http} with {what}: no error of Google's.")
