"""A call's answer, held in intake's memory (on disk beyond it) until something is made of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from proxy.errors import ProxyRefused, Reason, Refusal
from proxy.gateway.intake import Body
from proxy.gemini import codings, headers
from proxy.gemini.headers import Headers

LARGEST = 128 << 20
"""Bytes of an answer. Ten pictures of 4K are as much."""


class Held:
    """What an ASGI app sends, as far as it has come. `send` is its `send`."""

    def __init__(self, body: Body) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = body
        self.failure: Refusal | None = None
        """Why not all of it could be held. The call went on to its end all the same: it had to be weighed."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        elif self.failure is None:
            try:
                if piece := message["body"]:
                    if self.body.length + len(piece) > LARGEST:
                        raise _too_large()
                    await self.body.add(piece)
                if not message.get("more_body", False):  # which an empty piece may tell
                    await self.body.flush()
            except Refusal as failure:
                self.failure = failure

    def content(self) -> Any:
        """All of it, to be looked at, without content coding. Raises Refusal where that can't be."""
        if self.failure is not None:
            raise self.failure
        if not (coding := headers.coding(self.headers)):
            return self.body.view()
        try:
            return codings.decoded(bytes(self.body.view()), coding, LARGEST)
        except ValueError:
            raise ProxyRefused(
                Reason.UPSTREAM_UNREACHABLE, "The upstream answered in a content coding that it was not asked for."
            ) from None


def _too_large() -> ProxyRefused:
    return ProxyRefused(Reason.UPSTREAM_UNREACHABLE, f"The upstream answered with more than {LARGEST} bytes.")
