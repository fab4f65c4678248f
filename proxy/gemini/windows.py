"""One JSON document as it passes: decoded if it fits the window, else looked at through its head and its tail."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Final

from proxy.gemini.reading import Reading, read_values, read_whole, take_grounding
from proxy.gemini.tokens import Skipper, Walker

_WHITE = b" \t\r\n"
COLON = rb"[ \t\r\n]*+:[ \t\r\n]*+"


class Shape:
    """What is looked for in the windows of one API's documents, and how it is read."""

    __slots__ = ("image", "key", "read_values", "reason", "usage", "wanted")

    def __init__(
        self,
        wanted: Mapping[bytes, tuple[int, bytes]],
        image: bytes,
        read_values: Callable[[dict[bytes, bytes], Reading], None],
    ) -> None:
        """`wanted`: the keys looked for in a window: first the usage's, last that of the finish reason. How many
        brackets are open around them (`{`, or `{"candidates":[{`), and what their values may begin with. Beyond its
        window a finish reason is known by its depth alone.

        `image`: a pattern of the name before an image and of what its value begins with; it begins with a quote.
        `read_values` is as proxy/gemini/reading.py has it.
        """
        self.wanted = wanted
        self.usage, *_, self.reason = wanted
        self.key = re.compile(rb'"(%s)"%s(?=[{"])' % (b"|".join(wanted), COLON))
        self.image = re.compile(image)
        self.read_values = read_values


NATIVE: Final = Shape(
    {
        b"usageMetadata": (1, b"{"),
        b"modelVersion": (1, b'"'),
        b"responseId": (1, b'"'),
        b"promptFeedback": (1, b"{"),
        b"error": (1, b'{"'),
        b"finishReason": (3, b'"'),
    },
    rb'"mimeType"(?<!\\"mimeType")%b"image\\?/' % COLON,
    read_values,
)
"""generateContent's own."""

_BLOCK: Final = 4096
"""Bytes searched for a needle from each quote on."""
_EDGE: Final = 256
"""Bytes on each side of a cut, between two chunks or two blocks, in which a needle that lies across it is found."""
_MAX_KEYS: Final = 1000
"""Names that are looked at from either end of a document; a usage beyond so many is unseen."""
_MAX_STEPS: Final = 2000
"""Steps of work that a value may be; one with more tokens is unseen."""
_MERGED: Final = 4096
"""Pieces that are shorter together are kept as one: an object costs more than a few bytes."""


class Document:
    """One JSON object, fed in pieces: those that hold its first or its last `window` bytes are kept, by reference.

    `grounding`: the request had tools, so that the response may hold searches, and objects with names that a tenant
    chose; then a document beyond the window is walked through.
    """

    __slots__ = (
        "_counter",
        "_found",
        "_grounding",
        "_head",
        "_opened",
        "_tail",
        "_tail_length",
        "_window",
        "length",
    )

    shape: ClassVar[Shape] = NATIVE
    """There is a kind of document for each."""
    read_whole: ClassVar[staticmethod[[bytes, Reading], bytes | None]] = staticmethod(read_whole)
    """Decodes one that fits the window: see proxy/gemini/reading.py."""

    def __init__(self, window: int, grounding: bool) -> None:
        self._window = window
        self._grounding = grounding
        self.length = 0
        """Bytes that came."""
        self._head: list[bytes] = []
        self._counter: Walker | _ImageCounter | None = None

    def feed(self, piece: bytes) -> Iterable[None]:
        """Takes the next bytes. To be iterated to its end: it yields wherever a turn's work is done."""
        self.length += len(piece)
        if self._counter is not None:
            return self._pass(self._counter, piece)
        if self.length > self._window:
            return self._outgrow(piece)
        _keep(self._head, piece)
        return ()

    def _outgrow(self, piece: bytes) -> Iterator[None]:
        """Looks through the head, and has a counter look at what came before it was known to be needed."""
        begun = b"".join(self._head)
        self._head.clear()
        head = begun + piece[: self._window - len(begun)]
        self._opened = head.lstrip(_WHITE)[:1] == b"{"
        self._found = look_forward(head, self.shape)
        self._tail = deque([begun])
        self._tail_length = len(begun)
        self._counter = Walker() if self._grounding else _ImageCounter(self.shape.image)
        yield
        yield from self._counter.feed(begun)
        yield from self._pass(self._counter, piece)

    def _pass(self, counter: Walker | _ImageCounter, piece: bytes) -> Iterable[None]:
        tail = self._tail
        _keep(tail, piece)
        self._tail_length += len(piece)
        while self._tail_length - len(tail[0]) >= self._window:
            self._tail_length -= len(tail.popleft())
        return counter.feed(piece)

    def is_empty(self) -> bool:
        """Nothing but white space, or the mark that ends some streams of events."""
        return self.length <= 16 and b"".join(self._head).strip(_WHITE) in (b"", b"[DONE]")

    def finish(self, reading: Reading, complete: bool) -> bool:
        """Puts what the document said into `reading`, once. True if it is whole: its last bracket has been closed.

        Without `complete` more bytes might have come, and only what stands before the break, in the head, is provable.
        """
        if self._counter is not None:
            return self._finish_long(self._counter, reading, complete)
        head = b"".join(self._head)
        usage = self.read_whole(head, reading)
        shape = self.shape
        if usage is not None:
            if usage and not usage.startswith(b"{") and head.count(b'"%b"' % shape.usage) > 1:
                found = {key: value for key, value in look_forward(head, shape).items() if key == shape.usage}
                self._settle(found, reading, certain=True)
            return True
        found, whole = look_forward(head, shape), is_closed(head)
        reading.uncounted = True
        self._settle(found, reading, certain=whole or (complete and not head.strip(_WHITE)))
        return whole

    def _finish_long(self, counter: Walker | _ImageCounter, reading: Reading, complete: bool) -> bool:
        found, shape = self._found, self.shape
        first = found.get(shape.reason)
        self._tail[0] = self._tail[0][max(0, self._tail_length - self._window) :]
        tail = b"".join(self._tail)
        whole = complete and self._opened and tail.rstrip(_WHITE)[-1:] == b"}"
        if whole:
            found |= look_backward(tail, shape)
            if first is not None:
                found[shape.reason] = first
        if isinstance(counter, Walker):
            if counter.finish_reason is not None:
                found[shape.reason] = b'"%b"' % counter.finish_reason
            take_grounding(*counter.grounded(), reading)
        reading.images += counter.images
        reading.uncounted |= counter.lost or not whole
        self._settle(found, reading, certain=False)
        return whole

    def _settle(self, found: dict[bytes, bytes], reading: Reading, certain: bool) -> None:
        if not certain or found.get(self.shape.usage) == b"":
            reading.unseen = True
        self.shape.read_values(found, reading)


def _keep(pieces: list[bytes] | deque[bytes], piece: bytes) -> None:
    if len(piece) < _MERGED and pieces and len(pieces[-1]) + len(piece) <= _MERGED:
        piece = pieces.pop() + piece
    pieces.append(piece)


def is_closed(text: bytes) -> bool:
    """Whether the text, taken for JSON, is one object with its last bracket closed."""
    text = _neutral(text)
    return text.lstrip(_WHITE)[:1] == b"{" and text.count(b'"') % 2 == 0 and _net(text) == 0


def look_forward(head: bytes, shape: Shape = NATIVE) -> dict[bytes, bytes]:
    """Raw values of the wanted keys in a document's beginning, which may be cut off anywhere.

    Sound for any beginning of JSON. A name between two quotes of which neither is escaped is a text of its own: what
    follows the end of another is no letter. One with a colon behind it is a key; its depth is that of the brackets
    before it, outside of texts. Names that bear escapes aren't recognised: Google writes none. Of a repeated key the
    last value of the right kind counts; of a finish reason, the first.
    """
    if head.lstrip(_WHITE)[:1] != b"{":
        return {}
    neutral = _neutral(head[: head.rfind(b'"') + 1])  # spares a long text that the window ends in
    places, depth, done = [], 0, 0
    for key in _keys(head, shape)[:_MAX_KEYS]:
        start, end = key.span()
        depth += _net(neutral[done:start])
        done = end
        if depth == shape.wanted[key[1]][0]:
            places.append(key)
    return _values(head, places, shape)


def look_backward(tail: bytes, shape: Shape = NATIVE) -> dict[bytes, bytes]:
    """Like look_forward, from the end: brackets are counted back from the last byte, so the window may start anywhere,
    even inside a text. The document must be whole.
    """
    keys = _keys(tail, shape)[-_MAX_KEYS:]
    if not keys:
        return {}
    begin = keys[0].start()
    neutral = _neutral(tail[begin:])
    places, depth, done = [], 0, len(neutral)
    for key in reversed(keys):
        start, end = key.span()
        depth -= _net(neutral[end - begin : done])
        done = start - begin
        if depth == shape.wanted[key[1]][0]:
            places.append(key)
    return _values(tail, places[::-1], shape)


def _keys(text: bytes, shape: Shape) -> list[re.Match[bytes]]:
    """Wanted keys at any depth, the values of which may be wanted, too; not one that what is cut off may escape."""
    return [key for key in _search(shape.key, text, 0) if key.start() and text[key.start() - 1] != 0x5C]


def _values(text: bytes, places: list[re.Match[bytes]], shape: Shape) -> dict[bytes, bytes]:
    """What stands behind the keys; nothing where it was too much work to find its end."""
    found: dict[bytes, bytes] = {}
    reasons = [key for key in places if key[1] == shape.reason]
    others = [key for key in reversed(places) if key[1] != shape.reason]
    for key in reasons + others:
        start = end = key.end()
        if key[1] not in found and text[start] in shape.wanted[key[1]][1]:
            skipper = Skipper()
            while end < len(text) and skipper.steps < _MAX_STEPS and (skipper.inside or end == start):
                end = skipper.skip(text, end)
            if not skipper.inside:
                found[key[1]] = text[start:end]
            elif end < len(text):
                found[key[1]] = b""
    return found


def _search(needle: re.Pattern[bytes], text: bytes, start: int) -> Iterator[re.Match[bytes]]:
    """Where a needle that begins with a quote stands. Text without quotes is crossed at memchr's speed."""
    start = text.find(b'"', start)
    while start >= 0:
        stop = start + _BLOCK
        for match in needle.finditer(text, start, stop + _EDGE):
            if match.start() < stop:
                yield match
        start = text.find(b'"', stop)


def _neutral(text: bytes) -> bytes:
    """The text, as long as before, without escaped backslashes and quotes."""
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in text else text


def _net(neutral: bytes) -> int:
    """Brackets opened and not closed, outside of texts."""
    if b'"' in neutral:
        neutral = b"".join(neutral.split(b'"')[::2])
    count = neutral.count
    return count(b"{") + count(b"[") - count(b"}") - count(b"]")


class _ImageCounter:
    """Counts images by their needle (`"mimeType": "image/`) outside strings, at any depth; looks only at what stands
    between quotes.

    In a response to a request without tools only `inlineData` and `fileData` have a `mimeType`: every name is Google's,
    and what a tenant or the model wrote stands in strings, where the needle's quotes would follow backslashes. A needle
    that white space stretches beyond 256 bytes is missed if it lies across two chunks.
    """

    __slots__ = ("_before", "_needle", "images")
    lost = False

    def __init__(self, needle: re.Pattern[bytes]) -> None:
        self.images = 0
        self._needle = needle
        self._before = b""

    def feed(self, chunk: bytes) -> Iterable[None]:
        before = self._before
        if b'"' in before:
            seam = before + chunk[:_EDGE]
            self.images += sum(needle.start() < len(before) < needle.end() for needle in self._needle.finditer(seam))
        self._before = (before + chunk if len(chunk) < _EDGE else chunk)[-_EDGE:]
        quote = chunk.find(b'"', before.endswith(b"\\"))
        if quote >= 0:
            self.images += sum(1 for _ in _search(self._needle, chunk, quote))
        return ()
