"""The forward tokenizer: steps over JSON values as their bytes pass, and counts what only a path can tell."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_DEPTH: Final = 200
"""Brackets open at once. Protocol buffers' own JSON parsers stop at 100, so nothing of Google's is deeper."""
MAX_HELD: Final = 512
"""Bytes of a member's name, or of a short value, that are held until the rest of it comes."""

_WS = rb"[ \t\r\n]"
_SHORT_STRING = rb'"[^"\\]{0,400}+(?:\\.[^"\\]{0,100}+){0,100}+"'


def _balanced(levels: int) -> bytes:
    """Regex for text to skip whole: scalars, short strings, brackets nested up to `levels`.

    Atomic throughout: a try that fails is not tried otherwise, and text is seen at most once a level. Groups are
    written (?>(?:x)*) and not (?:x)*+, which matches wrongly before Python 3.11.5 (gh-106052).
    """
    flat = rb'[^"{}\[\]]++|' + _SHORT_STRING
    pattern = flat
    for _ in range(levels):
        pattern = rb"%s|[{\[](?>(?:%s)*)[}\]]" % (flat, pattern)
    return rb"(?>(?:%s)*)" % pattern


_BALANCED = re.compile(_balanced(6), re.DOTALL)
_STRING_END = re.compile(rb'[^"\\]*+(?>(?:\\.[^"\\]*+)*)"', re.DOTALL)
_GAP = re.compile(rb'[^"{}\[\]]*+')
_MEMBER = re.compile(rb'"([^"\\]*+(?>(?:\\.[^"\\]*+)*))"%s*+:%s*+(?=[^ \t\r\n])' % (_WS, _WS), re.DOTALL)
_TEXT = re.compile(rb'"([^"\\]*+(?>(?:\\.[^"\\]*+)*))"', re.DOTALL)
_IMAGE = re.compile(rb"image\\?/")
_QUOTE, _BACKSLASH = b'"\\'


class DepthError(ValueError):
    """More than MAX_DEPTH brackets are open."""


class Skipper:
    """Steps over one string, object or array after another, each of which may come in pieces."""

    __slots__ = ("_depth", "_escaped", "_in_string")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def skip(self, text: bytes, start: int) -> int:
        """The index just past the value that begins at `start`, or goes on there; -1 where it goes on after `text`.

        Raises DepthError. Each byte is looked at a bounded number of times; long strings are crossed at memchr's speed.
        """
        size = len(text)
        while start < size:
            if self._in_string:
                start = self._leave_string(text, start)
                if start < 0:
                    return -1
                if not self._depth:
                    return start
                continue
            if self._depth:
                start = _BALANCED.match(text, start).end()  # type: ignore[union-attr]  # matches nothing at the least
                if start == size:
                    return -1
            mark = text[start]
            start += 1
            if mark == _QUOTE:
                self._in_string = True
            elif mark in b"{[":
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise DepthError
            else:
                self._depth -= 1
                if self._depth <= 0:
                    return start
        return -1

    def _leave_string(self, text: bytes, start: int) -> int:
        """The index just past the string's closing quote, or -1."""
        if self._escaped:
            self._escaped = False
            start += 1
        end = text.find(b'"', start)
        if end > start and text[end - 1] == _BACKSLASH:
            match = _STRING_END.match(text, start)
            end = match.end() - 1 if match else -1
        if end >= 0:
            self._in_string = False
            return end + 1
        if text.endswith(b"\\"):
            run = len(text) - max(len(text.rstrip(b"\\")), start)
            self._escaped = run % 2 == 1
        return -1


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
_GROUNDING = _Place(_OBJECT, {b"webSearchQueries": _QUERIES, b"imageSearchQueries": _QUERIES})
_CANDIDATE = _Place(_OBJECT, {b"content": _CONTENT, b"groundingMetadata": _GROUNDING}, text=b"finishReason")
_RESPONSE = _Place(_OBJECT, {b"candidates": _Place(_ARRAY, elements=_CANDIDATE)})
_TOP = _Place(_ARRAY, elements=_RESPONSE)


class Walker:
    """Walks down the few paths of a response that end in images, searches and finish reasons; all else is skipped.

    Exact whatever names a function call's arguments bear. `lost` where the response is beyond MAX_DEPTH or MAX_HELD:
    then what was counted until there stands, and the rest isn't looked at.
    """

    __slots__ = (
        "_candidates",
        "_held",
        "_path",
        "_skipper",
        "_skipping",
        "finish_reason",
        "images",
        "lost",
        "searches",
    )

    def __init__(self) -> None:
        self.images = 0
        self.searches = 0
        self.finish_reason: bytes | None = None
        """Of the first candidate, as it stands between its quotes."""
        self.lost = False
        self._candidates = 0
        self._path = [_TOP]
        self._skipper = Skipper()
        self._skipping = False
        self._held = b""

    def feed(self, chunk: bytes) -> None:
        if self.lost:
            return
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        position = 0
        try:
            while 0 <= position < len(chunk):
                if self._skipping:
                    position = self._skipper.skip(chunk, position)
                    self._skipping = position < 0
                else:
                    position = self._step(chunk, position)
        except DepthError:
            self.lost = True

    def _step(self, chunk: bytes, start: int) -> int:
        """Passes one token of a container on the path; -1 where the chunk doesn't hold it whole."""
        start = _GAP.match(chunk, start).end()  # type: ignore[union-attr]  # matches nothing at the least
        if start == len(chunk):
            return start
        place = self._path[-1]
        if chunk[start] in b"}]":
            if len(self._path) > 1:
                self._path.pop()
            return start + 1
        if place.bracket == _OBJECT:
            return self._member(place, chunk, start)
        if place is _QUERIES and chunk[start] == _QUOTE:
            self.searches += 1
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
        return -1
