"""Where a response's body ends (RFC 9112 §6.3 and §7.1): after a length, at the last chunk, or at the close. No I/O."""

from __future__ import annotations

import re
from typing import Protocol

MAX_CHUNK_LINE = 1024
"""Bytes of a chunk's extensions that are passed over."""
MAX_TRAILERS = 8192
"""Bytes of a trailer section that are passed over."""

# Fifteen hex digits stay below 2**60. What follows a semicolon may be anything that can't end the line.
_SIZE = rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]{0,%d})?\r\n" % MAX_CHUNK_LINE
_FIRST_SIZE = re.compile(_SIZE)
_NEXT_SIZE = re.compile(rb"\r\n" + _SIZE)
# Fields that would say anew where a body ends have no place behind one.
_FRAMING = rb"(?i:content-length|transfer-encoding):"
_TRAILERS = re.compile(rb"(?:(?!%b)[!#$%%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n" % _FRAMING)
# What completes the beginning of such a line or section, wherever it was cut.
_SIZE_ENDS = (b"\r\n", b"\n", b"0\r\n", b"\n0\r\n")
_TRAILERS_ENDS = (b"\r\n", b"\n", b"\n\r\n", b"x:\r\n\r\n")


class Body(Protocol):
    """What of the bytes that follow a head is body. Bytes in any cuts give the same body."""

    complete: bool
    """The end has come."""
    excess: bool
    """Bytes came after the end: they answer nothing that was asked."""
    broken: str
    """What is wrong with the framing, else empty. What stands before the mistake is given out, nothing after it."""

    def feed(self, data: memoryview) -> bytes:
        """A copy of the body's bytes that stand in `data`, which may be reused at once."""
        ...

    def end(self) -> None:
        """The peer closed cleanly: the body is complete or broken now."""
        ...


class LengthBody:
    """A body of as many bytes as content-length says; LengthBody(0) is that of a response which can't have any."""

    __slots__ = ("_left", "broken", "complete", "excess")

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = not length
        self.excess = False
        self.broken = ""

    def feed(self, data: memoryview) -> bytes:
        if len(data) > self._left:
            self.excess = True
            data = data[: self._left]
        self._left -= len(data)
        self.complete = not self._left
        return bytes(data)

    def end(self) -> None:
        if not self.complete:
            self.broken = f"it ended {self._left} bytes short of its content-length"


class UntilCloseBody:
    """A body that lasts until its sender closes."""

    __slots__ = ("broken", "complete", "excess")

    def __init__(self) -> None:
        self.complete = False
        self.excess = False
        self.broken = ""

    def feed(self, data: memoryview) -> bytes:
        return bytes(data)

    def end(self) -> None:
        self.complete = True


class ChunkedBody:
    """A body in chunks. Extensions and trailers are passed over, within bounds."""

    __slots__ = ("_in_trailers", "_left", "_pending", "_size", "broken", "complete", "excess")

    def __init__(self) -> None:
        self._left = 0
        self._size = _FIRST_SIZE
        self._in_trailers = False
        self._pending = b""
        self.complete = False
        self.excess = False
        self.broken = ""

    def feed(self, data: memoryview) -> bytes:
        if self._pending:  # the cut went through a line: rare, and short
            data = memoryview(self._pending + data)
            self._pending = b""
        pieces = []
        at, end = 0, len(data)
        while at < end and not self.broken:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self.complete:
                self.excess = True
                break
            else:
                at = self._trailers(data, at) if self._in_trailers else self._chunk_size(data, at)
        return b"".join(pieces)

    def end(self) -> None:
        if not self.complete:
            self.broken = "it ended before its last chunk"

    def _chunk_size(self, data: memoryview, at: int) -> int:
        line = self._size.match(data, at)
        if line is None:
            rest = bytes(data[at : at + MAX_CHUNK_LINE + 32])
            return self._wait_for_more(data, rest, self._size, _SIZE_ENDS, "it holds a bad chunk size")
        self._left = int(line[1], 16)
        self._in_trailers = not self._left
        self._size = _NEXT_SIZE
        return line.end()

    def _trailers(self, data: memoryview, at: int) -> int:
        rest = bytes(data[at : at + MAX_TRAILERS])
        section = _TRAILERS.match(rest)
        if section is None:
            ends = _TRAILERS_ENDS if len(rest) < MAX_TRAILERS else ()
            return self._wait_for_more(data, rest, _TRAILERS, ends, "it holds bad trailers")
        self.complete = True
        return at + section.end()

    def _wait_for_more(
        self, data: memoryview, rest: bytes, wanted: re.Pattern[bytes], ends: tuple[bytes, ...], mistake: str
    ) -> int:
        """Keeps the rest where it may yet become what is wanted."""
        if any(wanted.fullmatch(rest + end) for end in ends):
            self._pending = rest
        else:
            self.broken = mistake
        return len(data)
