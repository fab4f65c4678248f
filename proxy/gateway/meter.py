"""Watches a response pass: undoes its content coding for the scanner alone, counts its bytes, changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from proxy.gemini import codings
from proxy.gemini.codings import Inflater
from proxy.gemini.reading import Reading
from proxy.gemini.scanner import for_framing
from proxy.gemini.windows import Document


class Meter:
    """One response on the meter. `framing`, `document`: as `proxy.gemini.scanner.for_framing` has them.

    `coding` is what content-encoding says, empty where it says nothing. Asked for identity, Google sends identity; gzip
    and deflate are inflated all the same. Of any other coding, and past what can't be inflated, nothing is found:
    `unreadable`.
    """

    __slots__ = ("_inflater", "_scanner", "seen")

    def __init__(
        self, framing: str, coding: bytes, *, grounding: bool = False, document: type[Document] = Document
    ) -> None:
        self.seen = 0
        """Bytes of the response that passed, as they crossed."""
        self._scanner = for_framing(framing, grounding=grounding, document=document)
        self._inflater = codings.inflater(coding)

    async def feed(self, chunk: bytes) -> None:
        """Takes the next bytes, as they cross. Raises nothing, whatever they are.

        However much work they make, the event loop has its turn after each millisecond or two of it.
        """
        self.seen += len(chunk)
        inflater = self._inflater
        for _ in self._scanner.feed(chunk) if inflater is None else self._inflated(inflater, chunk):
            await asyncio.sleep(0)

    def _inflated(self, inflater: Inflater, chunk: bytes) -> Iterator[None]:
        for piece in inflater.inflate(chunk):
            yield
            yield from self._scanner.feed(piece)

    def finish(self, complete: bool) -> Reading:
        """What the response said; to be called once. `complete`: its framing says that nothing is missing."""
        inflater = self._inflater
        if inflater is None:
            return self._scanner.finish(complete)
        reading = self._scanner.finish(complete and inflater.complete)
        reading.unreadable = inflater.failed
        return reading
