"""An upstream's error crosses untouched, but for what speaks of us: our credential, our project's number."""

from __future__ import annotations

import structlog

from proxy.errors import ProxyRefused, Reason
from proxy.gemini import codings, edits, headers, status
from proxy.gemini.headers import Headers
from proxy.upstreams.pool import Upstream
from proxy.upstreams.transport import Response

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

MAX_BODY = 128 * 1024
"""An error is read whole before it goes down. Google's are a few KB; to look through one of this size takes 5 ms."""


async def error_to_pass(response: Response, upstream: Upstream) -> tuple[Headers, bytes]:
    """Headers and body to answer with. Raises ProxyRefused where the upstream's words are not for the caller."""
    if response.status < 400:
        raise ProxyRefused(
            Reason.UPSTREAM_UNREACHABLE,
            f"The upstream answered with a redirect ({response.status}), which is not followed. "
            "The operator's base_url may be wrong.",
        )
    body = await _whole(response)
    try:
        coding = b"".join(value for name, value in response.headers if name == b"content-encoding")
        plain = codings.decoded(body, coding, MAX_BODY)
    except ValueError:
        # What can't be read may speak of us.
        raise _unfit(response, "a content coding that it was not asked for") from None
    if status.refuses_our_credential(response.status, plain):
        log.error("upstream_credential_refused", upstream=upstream.name, status=response.status)
        raise ProxyRefused(
            Reason.UPSTREAM_CREDENTIAL_REFUSED,
            "The upstream refused the credential of this proxy, not yours. Whoever runs the proxy must renew it.",
        )
    fields = headers.down(response.headers, upstream.secret)
    redacted = edits.redact(plain, upstream.secret)
    if redacted == plain:
        return fields, body
    fields = [field for field in fields if field[0] not in (b"content-length", b"content-encoding")]
    return [*fields, (b"content-length", b"%d" % len(redacted))], redacted


async def _whole(response: Response) -> bytes:
    pieces, length = [], 0
    while piece := await response.read():
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BODY:
            raise _unfit(response, f"more than {MAX_BODY} bytes")
    return b"".join(pieces)


def _unfit(response: Response, what: str) -> ProxyRefused:
    return ProxyRefused(
        Reason.UPSTREAM_UNREACHABLE, f"The upstream answered {response.status} with {what}: no error of Google's."
    )
