"""The forward tokenizer: steps over JSON values as their bytes pass, and counts what only a path can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.gemini.reading import looked_up

TURN: Final = 500
"""Steps of work after which others get their turn, half a millisecond or less. A step is one token, or 64 bytes of what
a regular expression runs over; long texts without escapes are crossed at memchr's speed, and count nothing."""
MAX_HELD: Final = 512
"""Bytes of a member's name, or of a short value, that are held until the rest of it comes."""

_WS = rb"[ \t\r\n]"
_RUN: Final = 2048
"""Bytes that are run over in one step: scalars and short strings."""
_LEVELS: Final = 4


def _run(levels: int) -> bytes:
    """Regex for what is run over: scalars, short strings, and containers of them nested up to `levels`.

    Atomic throughout: a try that fails is not tried otherwise, and no byte is seen more than once a level. Groups are
    written (?>(?:x)*) and not (?:x)*+, which matches wrongly before Python 3.11.5 (gh-106052).
    """
    inner = rb"|[{\[]%s[}\]]" % _run(levels - 1) if levels else b""
    return rb'(?>(?:[^"{}\[\]]++|"[^"\\]{0,400}+(?>(?:\\.[^"\\]{0,100}+){0,100})"%s)*)' % inner


_SHALLOW = re.compile(_run(_LEVELS), re.DOTALL)
_STRING_REST = re.compile(rb'[^"\\]*+(?>(?:\\.[^"\\]*+)*)', re.DOTALL)
_GAP = re.compile(rb'[^"{}\[\]]*+')
_MEMBER = re.compile(rb'"([^"\\]*+(?>(?:\\.[^"\\]*+)*))"%s*+:%s*+(?=[^ \t\r\n])' % (_WS, _WS), re.DOTALL)
_TEXT = re.compile(rb'"([^"\\]*+(?>(?:\\.[^"\\]*+)*))"', re.DOTALL)
_IMAGE = re.compile(rb"image\\?/")
_QUOTE, _BACKSLASH = b'"\\'


class Skipper:
    """Steps over one string, object or array after another, each of which may come in pieces, nested at will."""

    __slots__ = ("_depth", "_escaped", "_in_string", "steps")

    def __init__(self) -> None:
        self.steps = 0
        """Steps of work done so far: at most two for each byte."""
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def inside(self) -> bool:
        """The value that was begun goes on."""
        return self._in_string or self._depth > 0

    def skip(self, text: bytes, start: int) -> int:
        """How far it came in the value that begins at `start`, or goes on there.

        If the skipper is no longer `inside`, that is just past the value; else it is the end of `text`, or where a
        turn's work was done.
        """
        size, turn = len(text), self.steps + TURN
        while start < size and self.steps < turn:
            self.steps += 1
            if self._in_string:
                start = self._leave_string(text, start)
                if not self._in_string and not self._depth:
                    return start
                continue
            if self._depth:
                run = _SHALLOW.match(text, start, start + _RUN).end()  # type: ignore[union-attr]  # nothing at the least
                self.steps += (run - start) >> 6
                start = run
                if start == size:
                    return start
            mark = text[start]
            start += 1
            if mark == _QUOTE:
                self._in_string = True
            elif mark in b"{[":
                self._depth += 1
            elif mark in b"}]":
                self._depth -= 1
                if not self._depth:
                    return start
        return start

    def _leave_string(self, text: bytes, start: int) -> int:
        """The index just past the string's closing quote, or the end of `text` where it goes on."""
        if self._escaped:
            self._escaped = False
            start += 1
        end = text.find(b'"', start)
        if end > start and text[end - 1] == _BACKSLASH:
            end = _STRING_REST.match(text, start).end()  # type: ignore[union-attr]  # nothing at the least
            self.steps += (end - start) >> 6
            if end == len(text):
                return end
            if text[end] == _BACKSLASH:
                self._escaped = True
                return len(text)
        if end >= 0:
            self._in_string = False
            return end + 1
        if text.endswith(b"\\"):
            run = len(text) - max(len(text.rstrip(b"\\")), start)
            self._escaped = run % 2 == 1
        return len(text)


class _Place(NamedTuple):
    """A container on the way to something that is counted: its bracket, and which of its values lie on the way."""

    bracket: int
    members: dict[bytes, _Place] = {}  # noqa: RUF012  # never changed
    elements: _Place | None = None
    text: bytes | None = None
    """The member whose value is noted, if it is a string."""


_OBJECT, _ARRAY = b"{["
_MEDIA = _Place(_OBJECT, text=b"mimeType")
_PART = _Place(_OBJECT, {b"inlineData": _MEDIA, b"fileData": _MEDIA})
_CONTENT = _Place(_OBJECT, {b"parts": _Place(_ARRAY, elements=_PART)})
_QUERIES = _Place(_ARRAY)
_SOURCE = _Place(_OBJECT)
_SOURCES = _Place(_ARRAY, elements=_SOURCE)
_GROUNDING = _Place(
    _OBJECT, {b"webSearchQueries": _QUERIES, b"imageSearchQueries": _QUERIES, b"groundingChunks": _SOURCES}
)
_CANDIDATE = _Place(_OBJECT, {b"content": _CONTENT, b"groundingMetadata": _GROUNDING}, text=b"finishReason")
_RESPONSE = _Place(_OBJECT, {b"candidates": _Place(_ARRAY, elements=_CANDIDATE)})
_TOP = _Place(_ARRAY, elements=_RESPONSE)


class Walker(Skipper):
    """Walks down the few paths of a response that end in images, searches and finish reasons; all else is skipped.

    `lost`: a name, or a short value, was too long to be held, so that nothing was counted from there on.
    """

    __slots__ = (
        "_candidates",
        "_due",
        "_grounded",
        "_held",
        "_pages",
        "_path",
        "_places",
        "_queries",
        "_skipping",
        "finish_reason",
        "images",
        "lost",
    )

    def __init__(self) -> None:
        super().__init__()
        self.images = 0
        self.finish_reason: bytes | None = None
        """Of the first candidate, as it stands between its quotes."""
        self.lost = False
        self._candidates = 0
        self._grounded = 0, 0
        self._queries = 0
        self._places = self._pages = False
        self._path = [_TOP]
        self._skipping = False
        self._held = b""
        self._due = TURN

    def grounded(self) -> tuple[int, int]:
        """Searches, and look-ups of places, that were listed so far (`looked_up`)."""
        searches, maps = self._grounded
        searched, looked = looked_up(self._queries, places=self._places, pages=self._pages)
        return searches + searched, maps + looked

    def feed(self, chunk: bytes) -> Iterator[None]:
        """Yields wherever a turn's work is done."""
        if self._held:
            chunk = self._held + chunk
            self.steps += len(self._held) >> 6
            self._held = b""
        position = 0
        while position < len(chunk) and not self.lost:
            if self.steps >= self._due:
                self._due = self.steps + TURN
                yield
            if self._skipping:
                position = self.skip(chunk, position)
                self._skipping = self.inside
            else:
                start = position
                position = self._step(chunk, start)
                self.steps += 1 + ((position - start) >> 6)

    def _step(self, chunk: bytes, start: int) -> int:
        """Passes one token of a container on the path, or holds what the chunk has of it."""
        start = _GAP.match(chunk, start).end()  # type: ignore[union-attr]  # matches nothing at the least
        if start == len(chunk):
            return start
        place = self._path[-1]
        if chunk[start] in b"}]":
            if len(self._path) > 1 and self._path.pop() is _GROUNDING:
                self._grounded = self.grounded()
                self._queries, self._places, self._pages = 0, False, False
            return start + 1
        if place.bracket == _OBJECT:
            return self._member(place, chunk, start)
        if place is _QUERIES and chunk[start] == _QUOTE:
            self._queries += 1
        if place.elements is _CANDIDATE:
            self._candidates += 1
        return self._enter(place.elements, chunk, start)

    def _member(self, place: _Place, chunk: bytes, start: int) -> int:
        match = _MEMBER.match(chunk, start)
        if match is None:
            return self._hold(chunk, start)
        name, value = match[1], match.end()
        if chunk[value] == _QUOTE and name == place.text:
            text = _TEXT.match(chunk, value)
            if text is None:
                return self._hold(chunk, start)
            self._note(place, text[1])
            return text.end()
        if place is _SOURCE and chunk[value] == _OBJECT:
            self._places |= name == b"maps"
            self._pages |= name in (b"web", b"image")
        return self._enter(place.members.get(name), chunk, value)

    def _note(self, place: _Place, text: bytes) -> None:
        if place is _CANDIDATE:
            if self._candidates == 1:
                self.finish_reason = text
        elif _IMAGE.match(text):
            self.images += 1

    def _enter(self, place: _Place | None, chunk: bytes, start: int) -> int:
        """Goes into the value at `start` if it is the container looked for; else past it."""
        mark = chunk[start]
        if place is not None and mark == place.bracket:
            self._path.append(place)
            return start + 1
        self._skipping = mark in b'"{['
        return start

    def _hold(self, chunk: bytes, start: int) -> int:
        self._held = chunk[start:]
        self.lost = len(self._held) > MAX_HELD
        return len(chunk)
