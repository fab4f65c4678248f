"""A request body without its inline data: base64 is stepped over at the speed of memchr, the rest is text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import NamedTuple

from proxy.gemini.edits import Splice

PIECE = 256 * 1024
"""Bytes that are done at once: one step through C holds up all other threads."""

_BASE64_BYTES = 1024
"""Shorter inline data is left in the text."""
_MAX_PARTS = 1000
"""Values that are looked at; what comes after them counts as text."""


class Sought(NamedTuple):
    """What inline data begins behind."""

    needle: bytes
    """How that begins: found at memchr's speed, so it holds a quote."""
    whole: re.Pattern[bytes]
    """All of it, up to the first byte of base64. It ends within a string."""


_MEMBER = rb'"data"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"'
DATA = Sought(b'"data"', re.compile(_MEMBER))
"""The value of a member called "data": Google's own shape."""
DATA_URLS = Sought(b'"data', re.compile(rb'"data:[A-Za-z0-9.+-]{1,64}\\?/[A-Za-z0-9.+;=-]{1,128};base64,|' + _MEMBER))
"""The same, and what stands behind the head of a data URL: OpenAI's shape."""

_OTHER_ESCAPE = re.compile(rb"\\[^/]")


class Text:
    """A body without the values of its inline data; nothing is copied before it is looked at."""

    __slots__ = ("_body", "_spans", "length")

    def __init__(self, body: bytes | bytearray | mmap, spans: list[tuple[int, int]]) -> None:
        self._body = body
        self._spans = spans
        self.length = sum([end - start for start, end in spans])

    @property
    def left_out(self) -> int:
        """How many values of inline data are not in it."""
        return len(self._spans) - 1

    def whole(self) -> bytes | bytearray:
        """For short text: all of it in memory."""
        if self.length == len(self._body) and not isinstance(self._body, mmap):
            return self._body
        return b"".join([self._body[start:end] for start, end in self._spans])

    def in_body(self, splices: Iterable[Splice]) -> Iterator[Splice]:
        """Splices of the text, given in order, as those of the body: none of them may reach over inline data."""
        spans = iter(self._spans)
        (start, end), passed = next(spans), 0
        for place, stop, becomes in splices:
            while place >= passed + end - start:
                passed += end - start
                start, end = next(spans)
            before = start - passed
            yield Splice(place + before, stop + before, becomes)

    def pieces(self) -> Iterator[bytes | bytearray]:
        """For long text: each shorter than two PIECE, none empty."""
        gathered = b""
        for start, end in self._spans:
            for at in range(start, end, PIECE):
                gathered += self._body[at : min(at + PIECE, end)]
                if len(gathered) >= PIECE:
                    yield gathered
                    gathered = b""
        if gathered:
            yield gathered


def without_base64(body: bytes | bytearray | mmap, sought: Sought = DATA) -> Text:
    """The body without the values of its inline data. If the result is JSON, then so is the body, and with this very
    structure: what was taken out lay within a string, and holds neither an end of it nor a byte beyond ASCII."""
    spans: list[tuple[int, int]] = []
    kept = at = 0
    all_ascii = not isinstance(body, mmap) and body.isascii()  # once, and not for each of a thousand parts
    needle, begins = sought
    for _ in range(_MAX_PARTS):
        at = _find(body, needle, at)
        if at < 0:
            break
        found = begins.match(body, at)
        if found is None:
            at += 1
            continue
        at = found.end()
        end = _find(body, b'"', at)
        if end - at >= _BASE64_BYTES and _is_plain(body, at, end, all_ascii):
            spans.append((kept, at))
            kept = at = end
    spans.append((kept, len(body)))
    return Text(body, spans)


def _find(body: bytes | bytearray | mmap, what: bytes, start: int) -> int:
    """As `find` does, in pieces."""
    for at in range(start, len(body), PIECE):
        found = body.find(what, at, at + PIECE + len(what) - 1)
        if found >= 0:
            return found
    return -1


def _is_plain(body: bytes | bytearray | mmap, start: int, end: int, all_ascii: bool) -> bool:
    r"""ASCII, and no escape but \/, which PHP writes for every slash. `all_ascii`: the whole body is ASCII."""
    if body[end - 1] == 0x5C:
        return False
    for at in range(start, end, PIECE):
        stop = min(at + PIECE, end)
        if not (all_ascii or body[at:stop].isascii()):
            return False
        if body.find(b"\\", at, stop) >= 0 and _OTHER_ESCAPE.search(body, at, min(stop + 1, end)):
            return False
    return True
