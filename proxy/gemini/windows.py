"""One JSON document as it passes: decoded if it fits the window, else looked at through its head and its tail."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final

from proxy.gemini.reading import Reading, read_values, read_whole
from proxy.gemini.tokens import DepthError, Skipper, Walker

_WANTED: Final = {
    b"usageMetadata": (1, b"{"),
    b"modelVersion": (1, b'"'),
    b"responseId": (1, b'"'),
    b"promptFeedback": (1, b"{"),
    b"error": (1, b'{"'),
    b"finishReason": (3, b'"'),
}
"""The keys looked for in a window: how many brackets are open around them (`{`, or `{"candidates":[{`), and what their
values may begin with. Beyond its window a candidate's `finishReason` is known by its depth alone."""

_WHITE = b" \t\r\n"
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")

_MIME_TYPE = b'"mimeType"'
_IMAGE = re.compile(rb'"mimeType"[ \t\r\n]*+:[ \t\r\n]*+"image\\?/')
_BLOCK: Final = 4096
"""Bytes searched from each quote on; between blocks, text without a quote is crossed at memchr's speed."""
_EDGE: Final = 256
"""Bytes on each side of a cut between two chunks in which a needle that lies across it is found."""


class Document:
    """One JSON object, fed in pieces: those that hold its first or its last `window` bytes are kept, by reference.

    `grounding`: the request had tools, so that the response may hold searches, and objects with names that a tenant
    chose; then a document beyond the window is walked through.
    """

    __slots__ = ("_counter", "_grounding", "_head", "_length", "_tail", "_tail_length", "_window")

    def __init__(self, window: int, grounding: bool) -> None:
        self._window = window
        self._grounding = grounding
        self._length = 0
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._tail_length = 0
        self._counter: Walker | _ImageCounter | None = None

    def feed(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._counter is not None:
            self._pass(self._counter, piece)
            return
        if self._length > self._window:
            self._outgrow(piece)
        else:
            self._head.append(piece)

    def _outgrow(self, piece: bytes) -> None:
        """Closes the head, and has a counter look at what came before it was known to be needed."""
        begun = b"".join(self._head)
        self._head = [begun, piece[: self._window - len(begun)]]
        self._counter = Walker() if self._grounding else _ImageCounter()
        self._pass(self._counter, begun)
        self._pass(self._counter, piece)

    def _pass(self, counter: Walker | _ImageCounter, piece: bytes) -> None:
        counter.feed(piece)
        self._tail.append(piece)
        self._tail_length += len(piece)
        while self._tail_length - len(self._tail[0]) >= self._window:
            self._tail_length -= len(self._tail.popleft())

    def is_empty(self) -> bool:
        """Nothing but white space, or the mark that ends some streams of events."""
        return self._length <= 16 and b"".join(self._head).strip(_WHITE) in (b"", b"[DONE]")

    def finish(self, reading: Reading, complete: bool) -> bool:
        """Puts what the document said into `reading`, once. True if it is whole: its last bracket has been closed.

        Without `complete` more bytes might have come, and only what stands before the break, in the head, is provable.
        """
        head = b"".join(self._head)
        if self._counter is not None:
            return self._finish_long(head, self._counter, reading, complete)
        usage = read_whole(head, reading)
        if usage is not None:
            if usage and not usage.startswith(b"{") and head.count(b'"usageMetadata"') > 1:
                read_values({b"usageMetadata": look_forward(head).get(b"usageMetadata", b"")}, reading)
            return True
        found, whole = look_forward(head), is_closed(head)
        reading.uncounted = True
        _settle(found, reading, certain=whole or (complete and not head.strip(_WHITE)))
        return whole

    def _finish_long(self, head: bytes, counter: Walker | _ImageCounter, reading: Reading, complete: bool) -> bool:
        self._tail[0] = self._tail[0][max(0, self._tail_length - self._window) :]
        tail = b"".join(self._tail)
        whole = complete and head.lstrip(_WHITE)[:1] == b"{" and tail.rstrip(_WHITE)[-1:] == b"}"
        found = look_forward(head)
        if whole:
            first = found.get(b"finishReason")
            found |= look_backward(tail)
            if first is not None:
                found[b"finishReason"] = first
        if isinstance(counter, Walker):
            if counter.finish_reason is not None:
                found[b"finishReason"] = b'"%b"' % counter.finish_reason
            reading.searches = max(reading.searches, counter.searches)
        reading.images += counter.images
        reading.uncounted |= counter.lost or not whole
        _settle(found, reading, certain=False)
        return whole


def _settle(found: dict[bytes, bytes], reading: Reading, certain: bool) -> None:
    if not certain:
        reading.unseen = True
    read_values(found, reading)


def is_closed(text: bytes) -> bool:
    """Whether the text, taken for JSON, is one object with its last bracket closed."""
    parts = _neutral(text).split(b'"')
    return text.lstrip(_WHITE)[:1] == b"{" and len(parts) % 2 == 1 and _net(parts[::2]) == 0


def look_forward(head: bytes) -> dict[bytes, bytes]:
    """Raw values of the wanted keys in a document's beginning, which may be cut off anywhere.

    Linear, and sound for any beginning of JSON: quotes behind an odd run of backslashes are no quotes, what stands
    between two quotes is skipped, a key is followed by a colon, its depth is that of the brackets before it. Names that
    bear escapes aren't recognised: Google writes none. Of a repeated key the last value of the right kind counts; of
    `finishReason`, the first.
    """
    found: dict[bytes, bytes] = {}
    if head.lstrip(_WHITE)[:1] != b"{":
        return found
    quoted = head[: head.rfind(b'"') + 1]  # spares the split a long string that the window ends in
    for key, depth, position in _keys_forward(_neutral(quoted).split(b'"')):
        wanted, kinds = _WANTED[key]
        if depth == wanted and not (key == b"finishReason" and key in found):
            value = _value(head, position, kinds)
            if value is not None:
                found[key] = value
    return found


def look_backward(tail: bytes) -> dict[bytes, bytes]:
    """Like look_forward, from the end: brackets and quotes are counted back from the last byte, so the window may start
    anywhere, even inside a string.

    The document must be whole. A first quote that might have been escaped by what is cut off is left out.
    """
    found: dict[bytes, bytes] = {}
    quote = tail.find(b'"')
    if quote < 0:
        return found
    tail = tail[quote if quote and tail[quote - 1] != 0x5C else quote + 1 :]
    for key, depth, position in _keys_backward(_neutral(tail).split(b'"')):
        wanted, kinds = _WANTED[key]
        if depth == wanted and (key == b"finishReason" or key not in found):
            value = _value(tail, position, kinds)
            if value is not None:
                found[key] = value
    return found


def _neutral(text: bytes) -> bytes:
    """The text, as long as before, without escaped backslashes and quotes."""
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in text else text


def _keys_forward(parts: list[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Wanted strings among parts that were split at quotes: each with its depth and the index past its last quote."""
    depth = position = done = 0
    for i in range(1, len(parts) - 1, 2):
        if parts[i] in _WANTED:
            depth += _net(parts[done:i:2])
            position += sum(map(len, parts[done : i + 1])) + i + 1 - done
            done = i + 1
            yield parts[i], depth, position


def _keys_backward(parts: list[bytes]) -> Iterator[tuple[bytes, int, int]]:
    done = len(parts)
    depth, position = 0, sum(map(len, parts)) + done
    for i in range(done - 2, 0, -2):
        if parts[i] in _WANTED:
            depth -= _net(parts[i + 1 : done : 2])
            position -= sum(map(len, parts[i + 1 : done])) + done - i - 1
            done = i + 1
            yield parts[i], depth, position


def _net(outside: list[bytes]) -> int:
    text = b"".join(outside)
    return text.count(b"{") + text.count(b"[") - text.count(b"}") - text.count(b"]")


def _value(text: bytes, position: int, kinds: bytes) -> bytes | None:
    """The value behind the colon at `position`; None if there is no colon, another kind of value, or not all of it."""
    colon = _COLON.match(text, position)
    if colon is None or colon.end() == len(text) or text[colon.end()] not in kinds:
        return None
    try:
        end = Skipper().skip(text, colon.end())
    except DepthError:
        return None
    return text[colon.end() : end] if end >= 0 else None


class _ImageCounter:
    """Counts `"mimeType": "image/` outside strings, at any depth; looks only at chunks with a quote, or after one.

    In a response to a request without tools only `inlineData` and `fileData` have a `mimeType`: every name is Google's,
    and what a tenant or the model wrote stands in strings, where the needle's quotes would follow backslashes. A needle
    that white space stretches beyond 256 bytes is missed if it lies across two chunks.
    """

    __slots__ = ("_before", "images")
    lost = False

    def __init__(self) -> None:
        self.images = 0
        self._before = b""

    def feed(self, chunk: bytes) -> None:
        before = self._before
        if b'"' in before:
            self._count(before + chunk[:_EDGE], 0, len(before))
        if len(chunk) >= _EDGE:
            self._before = chunk[-_EDGE:]
        else:
            self._before = (before + chunk)[-_EDGE:]
        quote = chunk.find(b'"')
        while quote >= 0:
            quote = chunk.find(b'"', self._count(chunk, quote, 0))

    def _count(self, text: bytes, start: int, cut: int) -> int:
        """Counts the needles that begin in a block from `start` on and end past `cut`. Returns the block's end."""
        stop = start + _BLOCK
        at = text.find(_MIME_TYPE, start, stop + len(_MIME_TYPE) - 1)
        while at >= 0:
            needle = _IMAGE.match(text, at)
            if needle and at < (cut or stop) and needle.end() > cut and not _is_escaped(text, at):
                self.images += 1
            at = text.find(_MIME_TYPE, at + 1, stop + len(_MIME_TYPE) - 1)
        return stop


def _is_escaped(text: bytes, position: int) -> bool:
    """Whether an odd run of backslashes stands before `position`."""
    start = position
    while start and text[start - 1] == 0x5C:
        start -= 1
    return (position - start) % 2 == 1
