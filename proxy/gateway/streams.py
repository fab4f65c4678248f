"""What is done to a stream as it passes: errors are looked through, the usage that we asked for is taken out."""

from __future__ import annotations

from typing import Protocol

from proxy.gateway.upstream_errors import StreamErrors
from proxy.gemini import headers
from proxy.gemini.calls import Call
from proxy.gemini.usage_chunks import UsageChunks
from proxy.upstreams.transport import Response
from proxy.upstreams.upstream import Upstream


class Passing(Protocol):
    """A stream on its way down."""

    def feed(self, piece: bytes) -> bytes:
        """What may go down now. Raises ProxyRefused where the upstream's words are not for the caller."""
        ...

    def finish(self) -> bytes:
        """What is still held, for the stream is over. Raises as `feed`."""
        ...


def passing(upstream: Upstream, framing: str, response: Response, call: Call) -> Passing:
    """For the response of a call, which comes in this framing."""
    errors = StreamErrors(upstream, framing)
    if not call.adds_usage or framing != "sse" or headers.coding(response.headers):
        return errors  # what is compressed against our will is relayed as it is
    return _WithoutUsage(errors)


class _WithoutUsage:
    """Passes a stream on without its usage chunk, which the caller didn't ask for."""

    __slots__ = ("_chunks", "_errors")

    def __init__(self, errors: StreamErrors) -> None:
        self._errors = errors
        self._chunks = UsageChunks()

    def feed(self, piece: bytes) -> bytes:
        return self._errors.feed(self._chunks.feed(piece))

    def finish(self) -> bytes:
        return self._errors.feed(self._chunks.finish()) + self._errors.finish()
