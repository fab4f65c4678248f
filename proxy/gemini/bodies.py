"""What must be known of a request body: what it asks for, and that it names no resource which isn't the caller's.

Most of a large body is base64, which is stepped over at the speed of memchr. In the rest a cheap search tells whether
a reference may be named at all; only then is it parsed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from mmap import mmap
from typing import Any, NamedTuple

import msgspec

from proxy.errors import CallerErred, Reason
from proxy.gemini import references

Buffer = bytes | bytearray | memoryview | mmap

SKIMMED_AT_ONCE = 8 << 20
"""Bytes of body up to which `skim` takes less than 5 ms, whatever is in them."""
SEARCHED_AT_ONCE = 256 * 1024
"""Bytes of text up to which the search takes less than 5 ms, whatever is in them; prose takes a tenth of that."""
PARSED_AT_ONCE = 32 * 1024
"""Bytes of text up to which the strict parse does."""

_BASE64_BYTES = 1024
"""Shorter inline data is left in the text."""
_MAX_PARTS = 1000
"""Values called "data" that are looked at; what comes after them counts as text."""
_MAX_SKIPPED = 4 << 20
"""Bytes of text that are stepped over in search of the settings. A million tokens, the longest context that Google
offers, are about as much."""
_MAX_VALUE = 1024
"""Bytes of settings up to which all of them are decoded."""
_PIECE = 256 * 1024
"""What is done at once: one step through C holds up all other threads."""
_OVERLAP = 64  # longer than any name that is searched, in lower case and without underscores

_DATA = re.compile(rb'"data"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"')
_OTHER_ESCAPE = re.compile(rb"\\[^/]")
_Utf8 = codecs.getincrementaldecoder("utf-8")
_LOWER = bytes(range(256)).lower()
_MODEL = re.compile(rb"""model["']?\s*(?:[:/#]|\Z)""")
_TOOLS = re.compile(rb"""tools["']?\s*(?:[:/#]|\Z)""")
_PICTURE = re.compile(rb'"mimetype"\s*:\s*"image\\?/')
# An escape that may spell a letter, digit or underscore, or that no JSON has (a lenient parser takes \f\i for "fi").
_SPELLS = re.compile(
    rb"\\(?:[^\"\\/bfnrtu]|u(?:00(?:3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])|(?![0-9a-f]{4})))", re.IGNORECASE
)

_SIZES: dict[str | int, str] = {"0.5K": "512", "512": "512", 512: "512", "1K": "1K", "2K": "2K", "4K": "4K"}


class BodyFacts(NamedTuple):
    """What a request asks for, as far as that can be told beforehand."""

    image_size: str | None = None
    """"512", "1K", "2K" or "4K"; None where none is asked for, or one that is unknown here."""
    candidates: int = 1
    max_output_tokens: int | None = None
    inline_pictures: int = 0
    text_bytes: int = 0
    """The body without its inline data."""
    tools: bool = False
    """It may declare tools: Google Search or Maps, or functions whose arguments the model makes up."""


_NULL = msgspec.Raw(b"null")


class _Settings(msgspec.Struct, gc=False):
    """The one part of a body that is decoded; the rest is stepped over, and found to be JSON."""

    camel: msgspec.Raw = msgspec.field(default=_NULL, name="generationConfig")
    snake: msgspec.Raw = msgspec.field(default=_NULL, name="generation_config")


_Members = msgspec.defstruct(
    "_Members",
    [
        (name, msgspec.Raw, _NULL)
        for name in (
            *("imageConfig", "image_config", "responseFormat", "response_format", "image", "imageSize", "image_size"),
            *("candidateCount", "candidate_count", "maxOutputTokens", "max_output_tokens"),
        )
    ],
    gc=False,
)
"""All that is known of the settings, at whatever depth."""

_SETTINGS = msgspec.json.Decoder(_Settings)
_MEMBERS = msgspec.json.Decoder(_Members)
_ANY = msgspec.json.Decoder()


class _Text:
    """A body without the values of its inline data; nothing is copied before it is looked at."""

    __slots__ = ("_body", "_spans", "length")

    def __init__(self, body: bytes | bytearray | mmap, spans: list[tuple[int, int]]) -> None:
        self._body = body
        self._spans = spans
        self.length = sum([end - start for start, end in spans])

    def whole(self) -> bytes | bytearray:
        """For short text: all of it in memory."""
        if self.length == len(self._body) and not isinstance(self._body, mmap):
            return self._body
        return b"".join([self._body[start:end] for start, end in self._spans])

    def pieces(self) -> Iterator[bytes | bytearray]:
        """For long text: each shorter than two _PIECE, none empty."""
        gathered = b""
        for start, end in self._spans:
            for at in range(start, end, _PIECE):
                gathered += self._body[at : min(at + _PIECE, end)]
                if len(gathered) >= _PIECE:
                    yield gathered
                    gathered = b""
        if gathered:
            yield gathered


class _Found(NamedTuple):
    """What the search says of a text."""

    references: bool
    """It may name a resource or a model."""
    tools: bool
    pictures: int


class Outline:
    """A body once skimmed over. `read` goes on from there; where it is `costly`, in a thread."""

    __slots__ = ("_body", "_found", "_settings", "_text")

    def __init__(self, body: bytes | bytearray | mmap, text: _Text) -> None:
        self._body: bytes | bytearray | mmap | None = body
        self._text = text
        self._settings: Any = None
        self._found: _Found | None = None
        if text.length <= SEARCHED_AT_ONCE:
            self._survey(body)

    def _survey(self, body: bytes | bytearray | mmap) -> None:
        self._body = None
        if self._text.length <= _MAX_SKIPPED:
            self._settings = _settings(self._text.whole())
        if self._settings is None and self._text.length < len(body):
            # Not JSON, so what looked like inline data may be anything: all of the body is text, then.
            self._text = _Text(body, [(0, len(body))])
        if self._text.length <= SEARCHED_AT_ONCE:
            self._found = _search(self._text)

    @property
    def costly(self) -> bool:
        """`read` may take more than 5 ms."""
        return self._found is None or (self._found.references and self._text.length > PARSED_AT_ONCE)

    def read(self, operation_name: str, model: str, upstream_hosts: frozenset[str]) -> BodyFacts:
        """`operation_name` is the surface table's; `model` the path's, without "models/"; hosts in lower case.

        Raises CallerErred: BAD_REQUEST, or RESOURCE_NOT_OWNED where the body names what isn't the caller's.
        """
        if self._body is not None:
            self._survey(self._body)
        found = self._found or _search(self._text)
        settings = self._settings
        if found.references:
            if self._text.length > references.MAX_PARSED:
                raise references.too_long()
            document = references.parse(self._text.whole(), upstream_hosts)
            references.check_model(document, operation_name, model)
            settings = _member(document, "generationConfig", "generation_config")
            found = found._replace(tools=found.tools or _declares_tools(document))
        return _facts(settings, self._text.length, found)


def look(body: Buffer, operation_name: str, model: str, upstream_hosts: frozenset[str]) -> BodyFacts:
    """`skim` and `Outline.read` in one."""
    return skim(body).read(operation_name, model, upstream_hosts)


def skim(body: Buffer) -> Outline:
    """Steps over a body's inline data, and searches the rest where that is short.

    Takes 0.06 ms per MB of base64 (0.7 with its slashes escaped), and 5 ms at most for a body up to SKIMMED_AT_ONCE,
    which may be skimmed on the event loop. Raises CallerErred BAD_REQUEST for what is not UTF-8.
    """
    whole = bytes(body) if isinstance(body, memoryview) else body
    start = whole[:4]
    if b"\0" in start or start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _not_utf8()
    return Outline(whole, _without_base64(whole))


def _without_base64(body: bytes | bytearray | mmap) -> _Text:
    """The body without the values of its inline data. If the result is JSON, then so is the body, and with this very
    structure: what was taken out lay within a string, and holds neither an end of it nor a byte beyond ASCII."""
    spans: list[tuple[int, int]] = []
    kept = at = 0
    all_ascii = not isinstance(body, mmap) and body.isascii()  # once, and not for each of a thousand parts
    for _ in range(_MAX_PARTS):
        at = _find(body, b'"data"', at)
        if at < 0:
            break
        found = _DATA.match(body, at)
        if found is None:
            at += 1
            continue
        at = found.end()
        end = _find(body, b'"', at)
        if end - at >= _BASE64_BYTES and _is_plain(body, at, end, all_ascii):
            spans.append((kept, at))
            kept = at = end
    spans.append((kept, len(body)))
    return _Text(body, spans)


def _find(body: bytes | bytearray | mmap, what: bytes, start: int) -> int:
    """As `find` does, in pieces."""
    for at in range(start, len(body), _PIECE):
        found = body.find(what, at, at + _PIECE + len(what) - 1)
        if found >= 0:
            return found
    return -1


def _is_plain(body: bytes | bytearray | mmap, start: int, end: int, all_ascii: bool) -> bool:
    r"""ASCII, and no escape but \/, which PHP writes for every slash. `all_ascii`: the whole body is ASCII."""
    if body[end - 1] == 0x5C:
        return False
    for at in range(start, end, _PIECE):
        stop = min(at + _PIECE, end)
        if not (all_ascii or body[at:stop].isascii()):
            return False
        if body.find(b"\\", at, stop) >= 0 and _OTHER_ESCAPE.search(body, at, min(stop + 1, end)):
            return False
    return True


def _search(text: _Text) -> _Found:
    """In pieces, so that other threads get their turn. Raises CallerErred BAD_REQUEST for what is not UTF-8."""
    if text.length <= _PIECE:
        whole = text.whole()
        if not whole.isascii():
            _check_utf8(_Utf8(), whole, final=True)
        return _search_piece(whole, whole.translate(_LOWER, b"_"), last=True)
    named, tools, pictures, left = False, False, 0, text.length
    raw: bytes | bytearray = b""
    folded: bytes | bytearray = b""
    decoder: codecs.IncrementalDecoder | None = None
    for piece in text.pieces():
        left -= len(piece)
        if decoder is not None or not piece.isascii():
            decoder = decoder or _Utf8()
            _check_utf8(decoder, piece, final=not left)
        # The overlap is of folded text: a name may hold any number of underscores.
        raw = raw[-_OVERLAP:] + piece
        folded = folded[-_OVERLAP:] + piece.translate(_LOWER, b"_")
        found = _search_piece(raw, folded, last=not left)
        named, tools, pictures = named or found.references, tools or found.tools, pictures + found.pictures
    return _Found(named, tools, pictures)


def _search_piece(raw: bytes | bytearray, folded: bytes | bytearray, *, last: bool) -> _Found:
    """What begins in the last _OVERLAP bytes may be cut off; it is found in the next piece, unless this is the last."""
    overlap = 0 if last else _OVERLAP
    own = max(0, len(folded) - overlap)
    named = (
        (b"file" in folded and (b"fileuri" in folded or b"filesearchstorenames" in folded))
        or b"cachedcontent" in folded
        or (b"model" in folded and _begins(_MODEL, folded, own))
        or (b"\\" in raw and _begins(_SPELLS, raw, len(raw) - overlap))
    )
    tools = b"tools" in folded and _begins(_TOOLS, folded, own)
    pictures = len(_PICTURE.findall(folded))
    if pictures and not last:
        pictures -= len(_PICTURE.findall(folded, own))
    return _Found(named, tools, pictures)


def _begins(pattern: re.Pattern[bytes], text: bytes | bytearray, before: int) -> bool:
    found = pattern.search(text)
    return found is not None and found.start() < before


def _check_utf8(decoder: codecs.IncrementalDecoder, piece: bytes | bytearray, *, final: bool) -> None:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _settings(text: bytes | bytearray) -> dict[str, Any] | None:
    """`generationConfig`, empty where there is none; None where the text is not a JSON object."""
    try:
        settings = _SETTINGS.decode(text)
        value = _known(settings.camel) or _known(settings.snake)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else {}


def _known(raw: msgspec.Raw, depth: int = 3) -> Any:
    """A value of the settings: of a long object the members that are known here, None for what is long beside them.

    However long it is, it is stepped over `depth` times at most, and nothing is made of what isn't known.
    """
    if raw is _NULL:
        return None
    view = memoryview(raw)
    if len(view) <= _MAX_VALUE:
        return _ANY.decode(raw)
    if view[0] != 0x7B or not depth:
        return None
    members = _MEMBERS.decode(raw)
    return {name: _known(getattr(members, name), depth - 1) for name in _Members.__struct_fields__}


def _declares_tools(document: references.Json) -> bool:
    """Also finds the name written with escapes."""
    return isinstance(document, dict) and any(references.fold(key) == "tools" for key in document)


def _facts(settings: Any, text_bytes: int, found: _Found) -> BodyFacts:
    image_size, candidates, most = None, None, None
    if settings:
        image = _member(settings, "imageConfig", "image_config")
        image = image or _member(_member(settings, "responseFormat", "response_format"), "image", "image")
        image_size = _size(_member(image, "imageSize", "image_size"))
        candidates = _count(_member(settings, "candidateCount", "candidate_count"))
        most = _count(_member(settings, "maxOutputTokens", "max_output_tokens"))
    return BodyFacts(image_size, candidates or 1, most, found.pictures, text_bytes, found.tools)


def _member(value: Any, camel: str, snake: str) -> Any:
    if not isinstance(value, dict):
        return None
    found = value.get(camel)
    return value.get(snake) if found is None else found


def _size(value: Any) -> str | None:
    if isinstance(value, str) and len(value) < 8:
        return _SIZES.get(value.upper())
    return _SIZES.get(value) if isinstance(value, int) else None


def _count(value: Any) -> int | None:
    """A number as protocol buffers' JSON has it: 3, "3", or 3.0."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return int(value)
    return None


def _not_utf8() -> CallerErred:
    return CallerErred(
        Reason.BAD_REQUEST, "The body is not UTF-8, or begins with a byte order mark. Send JSON in UTF-8 without one."
    )
