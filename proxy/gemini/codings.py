"""Undoes the content coding of a response, for reading alone: the bytes cross as they came."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

STEP: Final = 65_536
"""Bytes inflated at a time, and compressed bytes looked at for it."""
MAX_RATIO: Final = 32
"""Inflated bytes followed for each compressed one, after the first MiB. JSON stays below; a bomb reaches 1,000."""
GRACE: Final = 1 << 20


class Inflater:
    """Inflates one response in steps of bounded size, as far as it doesn't turn out to be a bomb.

    `coding`: the value of content-encoding, in lower case. gzip (of one member or several, as RFC 1952 has it) and
    deflate are known; of any other coding, and past what can't be inflated, there is nothing: `failed`.
    """

    __slots__ = ("_coding", "_compressed", "_inflated", "_stream", "failed")

    def __init__(self, coding: bytes) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._compressed = 0
        self._inflated = 0
        self.failed = coding not in (b"gzip", b"x-gzip", b"deflate")

    @property
    def complete(self) -> bool:
        """The compressed stream came to its own end, and nothing stood behind it."""
        return not self.failed and self._stream is not None and self._stream.eof

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        """What the next bytes hold, in pieces of STEP bytes at most, of which some are empty."""
        for start in range(0, len(chunk), STEP):
            rest = chunk[start : start + STEP]
            self._compressed += len(rest)
            pending = True
            while pending and not self.failed:
                try:
                    piece, rest = self._step(rest)
                except zlib.error:
                    self.failed = True
                    return
                yield piece
                pending = bool(rest) or len(piece) == STEP

    def _step(self, packed: bytes) -> tuple[bytes, bytes]:
        """The next piece, and what of `packed` is left for the next step."""
        stream = self._stream
        if packed and (stream is None or stream.eof):
            if stream is not None and self._coding == b"deflate":
                raise zlib.error("something stands behind the stream")
            stream = self._stream = zlib.decompressobj(self._window_bits(packed[0]))
        assert stream is not None
        piece = stream.decompress(packed, STEP)
        self._inflated += len(piece)
        self.failed = self._inflated > GRACE + MAX_RATIO * self._compressed
        return piece, stream.unused_data if stream.eof else stream.unconsumed_tail

    def _window_bits(self, first: int) -> int:
        """What `deflate` names is zlib's format by the standard, and a bare deflate stream by some servers.

        The low half of zlib's first byte is 8. A bare stream whose first byte is such is taken for zlib's, and fails.
        """
        if self._coding != b"deflate":
            return zlib.MAX_WBITS | 16
        return zlib.MAX_WBITS if first & 0x0F == 8 else -zlib.MAX_WBITS


def inflater(content_encoding: bytes) -> Inflater | None:
    """For a response with this content-encoding, empty where it has none; None where there is nothing to undo."""
    coding = content_encoding.strip().lower()
    return None if coding in (b"", b"identity") else Inflater(coding)


def decoded(body: bytes, content_encoding: bytes, limit: int) -> bytes:
    """A body without its content coding (the header's value); itself where it has none.

    Raises ValueError where it can't be decoded, or not within `limit` bytes.
    """
    undoing = inflater(content_encoding)
    if undoing is None:
        return body
    plain = b"".join(undoing.inflate(body))
    if not undoing.complete or len(plain) > limit:
        raise ValueError("a content coding that is unknown, broken or cut off, or holds more than the limit")
    return plain
