"""Undoes the content coding of a response, for reading alone: the bytes cross as they came."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

STEP: Final = 65_536
"""Bytes inflated at a time, and compressed bytes looked at for it."""
MAX_RATIO: Final = 32
"""Inflated bytes followed for each compressed one, after the first MiB. JSON stays below; a bomb reaches 1,000."""
GRACE: Final = 1 << 20


class Inflater:
    """Inflates one response in steps of bounded size, as far as it doesn't turn out to be a bomb.

    `coding`: the value of content-encoding, in lower case; `feed` gets the pieces. gzip and deflate are known; of any
    other coding, and past what can't be inflated, there are none: `failed`.
    """

    __slots__ = ("_coding", "_compressed", "_feed", "_inflated", "_stream", "failed")

    def __init__(self, coding: bytes, feed: Callable[[bytes], None]) -> None:
        self._coding = coding
        self._feed = feed
        self._stream: zlib._Decompress | None = None
        self._compressed = 0
        self._inflated = 0
        self.failed = coding not in (b"gzip", b"x-gzip", b"deflate")

    @property
    def complete(self) -> bool:
        """The compressed stream came to its own end, and nothing stood behind it."""
        return not self.failed and self._stream is not None and self._stream.eof

    def feed(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), STEP):
            if self.failed:
                return
            piece = chunk[start : start + STEP]
            self._compressed += len(piece)
            try:
                self._inflate(piece)
            except zlib.error:
                self.failed = True

    def _inflate(self, piece: bytes) -> None:
        stream = self._stream
        if stream is None:
            stream = self._stream = zlib.decompressobj(self._window_bits(piece[0]))
        pending = True
        while pending and not self.failed:
            inflated = stream.decompress(piece, STEP)
            self._inflated += len(inflated)
            self._feed(inflated)
            piece = stream.unconsumed_tail
            pending = bool(piece) or len(inflated) == STEP
            if stream.unused_data or self._inflated > GRACE + MAX_RATIO * self._compressed:
                self.failed = True

    def _window_bits(self, first: int) -> int:
        """What `deflate` names is zlib's format by the standard, and a bare deflate stream by some servers.

        The low half of zlib's first byte is 8. A bare stream whose first byte is such is taken for zlib's, and fails.
        """
        if self._coding != b"deflate":
            return zlib.MAX_WBITS | 16
        return zlib.MAX_WBITS if first & 0x0F == 8 else -zlib.MAX_WBITS


def decoded(body: bytes, content_encoding: bytes, limit: int) -> bytes:
    """A body without its content coding (the header's value); itself where it has none.

    Raises ValueError where it can't be decoded, or not within `limit` bytes.
    """
    coding = content_encoding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    pieces: list[bytes] = []
    inflater = Inflater(coding, pieces.append)
    inflater.feed(body)
    plain = b"".join(pieces)
    if not inflater.complete or len(plain) > limit:
        raise ValueError("a content coding that is unknown, broken or cut off, or holds more than the limit")
    return plain
