"""Watches a response pass: undoes its content coding for the scanner alone, counts its bytes, changes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from proxy.gemini.reading import Reading
from proxy.gemini.scanner import for_framing

STEP: Final = 65_536
"""Bytes inflated at a time, and compressed bytes looked at for it."""
MAX_RATIO: Final = 32
"""Inflated bytes followed for each compressed one, after the first MiB. JSON stays below; a bomb reaches 1,000."""
GRACE: Final = 1 << 20


class Meter:
    """One response on the meter. `framing`: as `proxy.gemini.scanner.for_framing` has it; ValueError for another.

    `content_encoding` is the header's value, None where it is missing. Asked for identity, Google sends identity; gzip
    and deflate are inflated all the same. Of any other coding, and past what can't be inflated, nothing is found:
    `unreadable`.
    """

    __slots__ = ("_feed", "_inflater", "_scanner", "seen")

    def __init__(self, framing: str, content_encoding: bytes | None, *, grounding: bool = False) -> None:
        self.seen = 0
        """Bytes of the response that passed, as they crossed."""
        self._scanner = for_framing(framing, grounding=grounding)
        self._inflater: _Inflater | None = None
        self._feed = self._scanner.feed
        coding = (content_encoding or b"").strip().lower()
        if coding not in (b"", b"identity"):
            self._inflater = _Inflater(coding, self._scanner.feed)
            self._feed = self._inflater.feed

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes, as they cross. Raises nothing, whatever they are."""
        self.seen += len(chunk)
        self._feed(chunk)

    def finish(self, complete: bool) -> Reading:
        """What the response said; to be called once. `complete`: its framing says that nothing is missing."""
        inflater = self._inflater
        if inflater is None:
            return self._scanner.finish(complete)
        reading = self._scanner.finish(complete and inflater.complete)
        reading.unreadable = inflater.failed
        return reading


class _Inflater:
    """Inflates one response in steps of bounded size, as far as it doesn't turn out to be a bomb."""

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
