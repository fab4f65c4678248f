"""Takes the usage chunk out of a stream of chat completion chunks again, where it was us who asked for it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

MAX_CHUNK: Final = 16 * 1024
"""Bytes of an event up to which it may be a usage chunk. OpenAI's are of 300."""

_BLANK = re.compile(rb"(?>\r\n|\n|\r)")
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINES = re.compile(rb"\r\n|\n|\r")


class _Chunk(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Chunk).decode


class UsageChunks:
    """Passes a stream of events on byte for byte, but for those that are usage chunks.

    An event waits for its end, no longer; what is longer than MAX_CHUNK passes as it comes. Lines end as in any stream
    of events: with LF, CRLF or CR.
    """

    __slots__ = ("_feed_due", "_held", "_passing", "_seen", "_took")

    def __init__(self) -> None:
        self._held = b""  # of the event that has begun
        self._seen = 0  # bytes of it in which there is no end
        self._passing = False  # it is too long to be a usage chunk; what is held of it has passed
        self._feed_due = False  # the last event ended with a CR; an LF would be of the same line's end
        self._took = False  # the last event was taken out

    def feed(self, piece: bytes) -> bytes:
        """What passes now."""
        passes: list[bytes] = []
        if self._feed_due and piece:
            self._feed_due = False
            if piece[0] == 0x0A:
                passes += [] if self._took else [b"\n"]
                piece = piece[1:]
        text, start = self._held + piece, 0
        skip = len(self._held) if self._passing else 0
        while start < len(text):
            found = None if self._passing else _BLANK.match(text, start)
            found = found or _END.search(text, max(start, self._seen))
            if found is None:
                break
            end = found.end()
            self._took = not self._passing and is_usage_chunk(text[start:end])
            if not self._took:
                passes.append(text[max(start, skip) : end])
            self._feed_due = end == len(text) and text[end - 1] == 0x0D
            self._passing, start, self._seen = False, end, end
        self._hold(text, start, skip, passes)
        return b"".join(passes)

    def _hold(self, text: bytes, start: int, skip: int, passes: list[bytes]) -> None:
        """Keeps what has begun; of what is too long its last byte, which may be an end's first."""
        self._held = text[start:]
        self._passing |= len(self._held) > MAX_CHUNK
        if self._passing:
            passes.append(text[max(start, skip) :])
            self._held = self._held[-1:]
        self._seen = max(len(self._held) - 1, 0)

    def finish(self) -> bytes:
        """What is still held, for the stream is over: an event counts even if its blank line is missing."""
        held, self._held = self._held, b""
        return b"" if self._passing or is_usage_chunk(held) else held


def is_usage_chunk(event: bytes) -> bool:
    """Whether an event is the chunk that `stream_options.include_usage` asks for: no choices, and a usage."""
    if b'"usage"' not in event or b'"choices"' not in event or len(event) > MAX_CHUNK:
        return False
    data = b"\n".join(line[5:] for line in _LINES.split(event) if line.startswith(b"data:"))
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return chunk.choices == [] and bytes(chunk.usage)[:1] == b"{"
