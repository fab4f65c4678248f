"""A request body that goes up with aliases replaced in it: spliced piece by piece, so that no copy of it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from mmap import mmap

from proxy.gateway.intake import Body
from proxy.gemini import edits
from proxy.gemini.edits import Splice

PIECE = 64 * 1024
"""Bytes that are spliced at once: 2 ms where they name nothing but models."""


class Spliced:
    """What a transport sends in place of a body, while that is open: the body with splices made in it."""

    def __init__(self, body: Body, splices: Sequence[Splice], growth: int) -> None:
        """`growth`: by how many bytes the splices make it longer."""
        self.length = body.length + growth
        self._body = body
        self._splices = splices

    @property
    def content(self) -> bytes | AsyncIterator[bytes]:
        """Whoever asks again gets a fresh iterator, so it can be sent again."""
        content = self._body.content
        if isinstance(content, (bytes, bytearray)) and len(content) <= PIECE:
            return edits.spliced(content, self._splices)
        return self._pieces(content)

    async def _pieces(self, content: bytes | bytearray | mmap | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if isinstance(content, (bytes, bytearray, mmap)):
            for piece in self._cut(content, 0):
                yield piece
            return
        passed = 0
        async for read in content:
            for piece in self._cut(read, passed):
                yield piece
            passed += len(read)

    def _cut(self, content: bytes | bytearray | mmap, at: int) -> Iterator[bytes]:
        """What becomes of a part of the body that begins at `at`."""
        for start in range(0, len(content), PIECE):
            yield edits.spliced(content[start : start + PIECE], self._splices, at + start)
