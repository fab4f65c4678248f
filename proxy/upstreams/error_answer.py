"""An upstream's answer that is an error or a redirect: read whole before anybody decides what becomes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.errors import ProxyRefused, Reason, Refusal, UpstreamFailed
from proxy.gemini import codings, headers
from proxy.gemini.headers import Headers
from proxy.upstreams.transport import Response

MAX_BODY = 128 * 1024
"""Bytes. Google's errors are a few KB; to look through one of this size takes 5 ms."""
LONGEST_S = 5.0
"""From an error's head to its end: Google's come in one piece, and another upstream may be waiting to be asked."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as it came."""

    status: int
    headers: Headers
    body: bytes
    """As it crossed: what came of it, where that isn't all."""
    plain: bytes
    """Without content coding; empty where it can't be read."""
    unfit: Refusal | None = None
    """What to say instead of its words, which can't be read: they may speak of us."""


async def read(response: Response) -> ErrorAnswer:
    """Reads an error, and closes the response. Raises nothing but what cancels."""
    if response.status < 400:
        response.close()
        return ErrorAnswer(response.status, response.headers, b"", b"", _redirect(response.status))
    pieces, length = [], 0
    unfit: Refusal | None = None
    try:
        async with asyncio.timeout(LONGEST_S):
            while piece := await response.read():
                pieces.append(piece)
                length += len(piece)
                if length > MAX_BODY:
                    unfit = unfit_error(response.status, f"more than {MAX_BODY} bytes")
                    break
    except TimeoutError:
        what = f"words that did not end within {LONGEST_S:g} s"
        unfit = unfit_error(response.status, what, Reason.UPSTREAM_TIMEOUT)
    except UpstreamFailed as failure:
        unfit = failure
    finally:
        response.close()
    body, plain = b"".join(pieces), b""
    if unfit is None:
        try:
            plain = codings.decoded(body, headers.coding(response.headers), MAX_BODY)
        except ValueError:
            unfit = unfit_error(response.status, "a content coding that it was not asked for")
    return ErrorAnswer(response.status, response.headers, body, plain, unfit)


def unfit_error(http: int, what: str, reason: Reason = Reason.UPSTREAM_UNREACHABLE) -> ProxyRefused:
    """What the caller is told of an error that isn't one of Google's."""
    return ProxyRefused(reason, f"The upstream answered {http} with {what}: no error of Google's.")


def _redirect(http: int) -> ProxyRefused:
    return ProxyRefused(
        Reason.UPSTREAM_UNREACHABLE,
        f"The upstream answered with a redirect ({http}), which is not followed. The operator's base_url may be wrong.",
    )
