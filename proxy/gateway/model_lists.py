"""What models.list and models.get answer where there are aliases: read whole, edited, and passed on as a response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from proxy.gemini import catalogue, headers
from proxy.gemini.aliases import Aliases
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.upstreams.transport import Response

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

MAX_BODY = 4 << 20
"""Bytes of an answer that are read whole. Google's list is 30 KB; a thousand models, its longest page, are 600 KB."""
_LISTS = frozenset(("models.list", "openai.models.list"))
_GETS = frozenset(("models.get", "openai.models.get"))


async def by_alias(response: Response, call: Call, aliases: Aliases) -> Response:
    """The response under the names that callers ask for; itself where it is none of models. Raises UpstreamFailed.

    What can't be edited (it is longer, coded, or no JSON of this kind) passes as it came, and the log says so.
    """
    if response.status != 200:
        return response
    page = catalogue.COMPATIBLE if call.operation.compatible else catalogue.NATIVE
    if call.operation.name in _LISTS:
        return await _edited(response, lambda body: catalogue.listed(body, aliases.offered, page))
    if call.operation.name in _GETS and call.model != call.model_asked:
        return await _edited(response, lambda body: catalogue.renamed(body, call.model, call.model_asked, page))
    return response


async def _edited(response: Response, edit: Callable[[bytes], bytes]) -> Response:
    if coding := headers.coding(response.headers):
        return _untouched(response, f"its content coding is {coding.decode('latin-1')[:40]}")
    pieces, length = deque[bytes](), 0
    while length <= MAX_BODY and (piece := await response.read()):
        pieces.append(piece)
        length += len(piece)
    if length > MAX_BODY:
        return _untouched(Held(response, response.headers, pieces), f"it is longer than {MAX_BODY} bytes")
    try:
        body = await asyncio.to_thread(edit, b"".join(pieces))
    except (ValueError, RecursionError) as error:
        return _untouched(Held(response, response.headers, pieces), f"it is not as Google's are: {error}")
    return Held(response, _of_length(response.headers, len(body)), deque([body] if body else []))


def _untouched(response: Response, why: str) -> Response:
    log.warning("aliases_not_listed", why=why, what="the upstream's answer about models crosses as it came")
    return response


def _of_length(fields: Headers, length: int) -> Headers:
    return [(name, b"%d" % length if name == b"content-length" else value) for name, value in fields]


class Held:
    """A response of which pieces were read before it is passed on: they come first, or what stands in their place."""

    __slots__ = ("_pieces", "_response", "headers", "status")

    def __init__(self, response: Response, fields: Headers, pieces: deque[bytes]) -> None:
        self.status = response.status
        self.headers = fields
        self._response = response
        self._pieces = pieces

    @property
    def complete(self) -> bool:
        return not self._pieces and self._response.complete

    async def read(self) -> bytes:
        return self._pieces.popleft() if self._pieces else await self._response.read()

    def close(self) -> None:
        self._response.close()
