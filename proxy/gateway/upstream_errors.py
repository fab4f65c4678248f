"""An upstream's error crosses untouched, but for what speaks of us: our credential, our project's number."""

from __future__ import annotations

import re

import structlog

from proxy.errors import Hint, ProxyRefused, Reason
from proxy.gemini import edits, error_hints, headers, hints, status
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.upstreams.error_answer import MAX_BODY, ErrorAnswer, unfit_error
from proxy.upstreams.health import Why
from proxy.upstreams.pool import CREDENTIAL_REFUSED
from proxy.upstreams.upstream import Upstream

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

_EVENT_END = re.compile(rb"\r?\n\r?\n|\r\r")


def error_to_pass(error: ErrorAnswer, why: Why | None, upstream: Upstream) -> tuple[Headers, bytes]:
    """Headers and body to answer with. Raises Refusal where the upstream's words are not for the caller.

    `why` is what `Attempts` made of it.
    """
    if error.unfit is not None:
        raise error.unfit
    if why is Why.CREDENTIAL_REFUSED:
        raise ProxyRefused(Reason.UPSTREAM_CREDENTIAL_REFUSED, CREDENTIAL_REFUSED)  # health.py has said it in the log
    fields = headers.down(error.headers, upstream.secret)
    redacted = edits.redact(error.plain, upstream.secret)
    if redacted == error.plain:
        return fields, error.body
    fields = [field for field in fields if field[0] not in (b"content-length", b"content-encoding")]
    return [*fields, (b"content-length", b"%d" % len(redacted))], redacted


def hint_on(error: ErrorAnswer, why: Why | None, call: Call, facts: BodyFacts) -> Hint | None:
    """What the caller is told beside it; `why` is what `Attempts` made of it."""
    if why is Why.CREDENTIAL_REFUSED:
        return hints.hint("operators-key")
    return error_hints.of_error(call, facts, error.status, error.plain)


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
                    raise unfit_error(200, f"an error of more than {MAX_BODY} bytes in its stream")
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
            log.error("upstream_credential_refused", upstream=self._upstream.name, what="in the midst of a stream")
            raise ProxyRefused(Reason.UPSTREAM_CREDENTIAL_REFUSED, CREDENTIAL_REFUSED)
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
