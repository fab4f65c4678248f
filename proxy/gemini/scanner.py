"""Finds what a call's response must yield (usage, model version, images, searches …) while its bytes pass.

A document (a single response, an event, an element) up to the window's size is decoded; a larger one is looked at
through its first and its last bytes, as `windows.py` tells. Memory is bounded by two windows and two chunks. Work is
bounded by a constant for each byte, and done in turns: what takes bytes yields wherever others should have theirs. A
single response is never copied; of a stream, only the chunks that a document begins or ends in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from proxy.gemini.reading import Reading
from proxy.gemini.tokens import TURN, Skipper
from proxy.gemini.windows import Document

WINDOW: Final = 65_536


class Scanner(Protocol):
    """Watches one response body, free of content coding."""

    def feed(self, chunk: bytes) -> Iterable[None]:
        """Takes the next bytes; of any length, cut anywhere.

        To be iterated to its end before anything else is asked: it yields wherever it has done a turn's work.
        """
        ...

    def finish(self, complete: bool) -> Reading:
        """What the response said; to be called once. `complete`: its framing says that nothing is missing.

        Of a stream that broke off, what its whole events or elements said; of a single response, what is provable.
        """
        ...


def for_framing(
    framing: str, *, window: int = WINDOW, grounding: bool = False, document: type[Document] = Document
) -> Scanner:
    """A scanner for `single` (one object), `sse` (events with `data:` lines) or `array` (an array of objects).

    `window`: bytes kept of each end of a document. `grounding`: the request had tools, or asked for several candidates:
    searches, images and the first candidate's finish reason are then exact in documents beyond the window, too; of
    native ones. `document`: the kind of what is in the response.
    Raises ValueError for another framing.
    """
    if framing == "single":
        return _Single(window, grounding, document)
    if framing == "sse":
        return _Events(window, grounding, document)
    if framing == "array":
        return _Elements(window, grounding, document)
    raise ValueError(f"framing {framing!r} is none of single, sse, array")


def scan(framing: str, body: bytes) -> Reading:
    """What a whole response says, at once."""
    scanner = for_framing(framing)
    for _ in scanner.feed(body):
        pass
    return scanner.finish(True)


class _Single:
    __slots__ = ("_document", "feed")

    def __init__(self, window: int, grounding: bool, document: type[Document]) -> None:
        self._document = document(window, grounding)
        self.feed = self._document.feed

    def finish(self, complete: bool) -> Reading:
        reading = Reading()
        whole = self._document.finish(reading, complete)
        reading.complete = complete and whole
        return reading


_DOCUMENT: Final = 8
"""Steps of work that a document's end is, and one more for every 32 bytes of it."""
_START, _DATA, _OTHER = range(3)
_FIELD = b"data:"
_LINE: Final = 2
"""Steps of work that a line is."""


class _Events:
    """Server-sent events: lines end with LF, CRLF or CR; the `data:` lines of an event are joined by newlines.

    The space that may follow `data:` is left in: to JSON it is white space. At the end of a complete response an event
    counts even if its blank line is missing.
    """

    __slots__ = (
        "_after_cr",
        "_document",
        "_grounding",
        "_intact",
        "_line",
        "_made",
        "_prefix",
        "_reading",
        "_steps",
        "_window",
    )

    def __init__(self, window: int, grounding: bool, document: type[Document]) -> None:
        self._made = document
        self._window = window
        self._grounding = grounding
        self._reading = Reading()
        self._intact = True
        self._document: Document | None = None
        self._line = _START
        self._prefix = b""
        self._after_cr = False
        self._steps = 0

    def feed(self, chunk: bytes) -> Iterator[None]:
        start, size = 0, len(chunk)
        if self._after_cr and size:
            self._after_cr = False
            start = 1 if chunk[0] == 0x0A else 0
        newline = chunk.find(b"\n", start)
        while start < size:
            if self._steps >= TURN:
                self._steps = 0
                yield
            if -1 < newline < start:
                newline = chunk.find(b"\n", start)
            stop = size if newline < 0 else newline
            carriage = chunk.find(b"\r", start, stop)
            end = stop if carriage < 0 else carriage
            if start < end:
                yield from self._part(chunk, start, end)
                if end == size:
                    return
            elif self._line == _START and not self._prefix and self._document is not None:
                self._end_event()
            self._line, self._prefix = _START, b""
            self._steps += _LINE
            start = end + 1
            if carriage >= 0:
                if start == size:
                    self._after_cr = True
                elif chunk[start] == 0x0A:
                    start += 1

    def _part(self, chunk: bytes, start: int, end: int) -> Iterable[None]:
        """A piece of a line."""
        more = b""
        if self._line == _START:
            begun = self._prefix + chunk[start : start + len(_FIELD) - len(self._prefix)]
            if len(begun) < len(_FIELD) and _FIELD.startswith(begun) and len(self._prefix) + end - start == len(begun):
                self._prefix = begun
                return ()
            start += len(begun) - len(self._prefix)
            self._prefix = b""
            if begun != _FIELD:
                self._line = _OTHER
                return ()
            self._line = _DATA
            if self._document is None:
                self._document = self._made(self._window, self._grounding)
            else:
                more = b"\n"
        if self._line == _OTHER:
            return ()
        return self._document.feed(more + chunk[start:end])  # type: ignore[union-attr]  # made when the line began

    def _end_event(self) -> None:
        document, self._document = self._document, None
        assert document is not None
        if not document.is_empty():
            self._intact &= document.finish(self._reading, True)
        self._steps += _DOCUMENT + (document.length >> 5)

    def finish(self, complete: bool) -> Reading:
        if complete and self._document is not None:
            self._end_event()
        reading = self._reading
        reading.complete = complete and self._intact
        reading.unseen |= not complete
        return reading


_GAP = re.compile(rb"[ \t\r\n,]*+")


class _Elements:
    """The elements of a JSON array, `[{…}\\n,\\n{…}]`. An object that stands alone is taken for its only element."""

    __slots__ = (
        "_document",
        "_due",
        "_ended",
        "_grounding",
        "_intact",
        "_made",
        "_opened",
        "_reading",
        "_skipper",
        "_window",
    )

    def __init__(self, window: int, grounding: bool, document: type[Document]) -> None:
        self._made = document
        self._window = window
        self._grounding = grounding
        self._reading = Reading()
        self._document: Document | None = None
        self._skipper = Skipper()
        self._due = TURN
        self._opened = False
        self._ended = False
        self._intact = True

    def feed(self, chunk: bytes) -> Iterator[None]:
        position, skipper = 0, self._skipper
        while position < len(chunk) and self._intact:
            if skipper.steps >= self._due:
                self._due = skipper.steps + TURN
                yield
            if self._document is None:
                start, position = position, self._between(chunk, position)
                skipper.steps += 1 + ((position - start) >> 6)
                continue
            start, position = position, skipper.skip(chunk, position)
            yield from self._document.feed(chunk[start:position])
            if not skipper.inside:
                self._end_element(self._document)

    def _end_element(self, document: Document) -> None:
        self._intact &= document.finish(self._reading, True)
        self._skipper.steps += _DOCUMENT + (document.length >> 5)
        self._document = None
        self._ended = not self._opened

    def _between(self, chunk: bytes, start: int) -> int:
        start = _GAP.match(chunk, start).end()  # type: ignore[union-attr]  # matches nothing at the least
        mark = chunk[start : start + 1]
        if mark == b"{" and not self._ended:
            self._document = self._made(self._window, self._grounding)
            return start
        if mark == b"[" and not self._opened and not self._ended:
            self._opened = True
        elif mark == b"]" and self._opened and not self._ended:
            self._ended = True
        elif mark:
            self._intact = False
        return start + 1

    def finish(self, complete: bool) -> Reading:
        reading = self._reading
        reading.complete = complete and self._intact and self._ended
        reading.unseen |= not (self._intact and self._ended)
        return reading
