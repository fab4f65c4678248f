"""What must be known of a request body: what it asks for, and that it names no resource which isn't the caller's.

Most of a large body is base64, which is stepped over at the speed of memchr. In the rest a cheap search tells whether
a reference may be named at all; only then is it parsed.
"""

from __future__ import annotations

import re
from mmap import mmap
from typing import Any, NamedTuple

import msgspec

from proxy.errors import CallerErred, Reason
from proxy.gemini import references

Buffer = bytes | bytearray | memoryview | mmap

SKIMMED_AT_ONCE = 8 << 20
"""Bytes of body up to which `skim` takes less than 5 ms, whatever is in them."""
SEARCHED_AT_ONCE = 512 * 1024
"""Bytes of text up to which the search takes about 1 ms."""
PARSED_AT_ONCE = 32 * 1024
"""Bytes of text up to which the strict parse takes less than 5 ms, whatever is in them."""

_BASE64_BYTES = 1024
"""Shorter inline data is left in the text."""
_MAX_PARTS = 1000
"""Values called "data" that are looked at; what comes after them counts as text."""
_PIECE = 256 * 1024
_OVERLAP = 64  # longer than any name that is searched

_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*"')
_OTHER_ESCAPE = re.compile(rb"\\[^/]")
_LOWER = bytes(range(256)).lower()
_MODEL = re.compile(rb"""model["']?\s*(?:[:/#]|\Z)""")
_NAMES = (b"fileuri", b"cachedcontent", b"filesearchstorenames")
_SEARCHES = (b"googlesearch", b"googlemaps")
_PICTURE = re.compile(rb'"mimetype"\s*:\s*"image\\?/')
# An escape that may spell a letter, digit or underscore, or that no JSON has (a lenient parser takes \f\i for "fi").
_SPELLS = re.compile(
    rb"\\(?:[^\"\\/bfnrtu]|u(?:00(?:3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])|(?![0-9a-f]{4})))", re.IGNORECASE
)

_SIZES = {"0.5K": "512", "512": "512", "1K": "1K", "2K": "2K", "4K": "4K"}


class BodyFacts(NamedTuple):
    """What a request asks for, as far as that can be told beforehand."""

    image_size: str | None = None
    """"512", "1K", "2K" or "4K"; None where none is asked for, or one that is unknown here."""
    candidates: int = 1
    max_output_tokens: int | None = None
    inline_pictures: int = 0
    text_bytes: int = 0
    """The body without its inline data."""
    grounding: bool = False
    """It may ask for Google Search or Maps."""


class _Settings(msgspec.Struct, gc=False):
    """The one part of a body that is decoded; the rest is stepped over, and found to be JSON."""

    camel: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="generationConfig")
    snake: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="generation_config")


_SETTINGS = msgspec.json.Decoder(_Settings)
_ANY = msgspec.json.Decoder()


class _Found(NamedTuple):
    """What the search says of a text."""

    references: bool
    """It may name a resource or a model."""
    grounding: bool
    pictures: int


class Outline:
    """A body once skimmed over. `read` goes on from there; where it is `costly`, in a thread."""

    __slots__ = ("_body", "_found", "_text")

    def __init__(self, body: bytes | bytearray | mmap, text: bytes | bytearray) -> None:
        self._body = body
        self._text = text
        self._found = _search(text) if len(text) <= SEARCHED_AT_ONCE else None

    @property
    def costly(self) -> bool:
        """`read` may take more than 5 ms."""
        return self._found is None or (self._found.references and len(self._text) > PARSED_AT_ONCE)

    def read(self, operation_name: str, model: str, upstream_hosts: frozenset[str]) -> BodyFacts:
        """`operation_name` is the surface table's; `model` the path's, without "models/"; hosts in lower case.

        Raises CallerErred: BAD_REQUEST, or RESOURCE_NOT_OWNED where the body names what isn't the caller's.
        """
        text = self._text
        settings = _settings(text)
        if settings is None and len(text) < len(self._body):
            # Not JSON: so what looked like inline data may be anything. All of it is text, then.
            text = self._body[:]
            self._found = None
        found = self._found or _search(text)
        grounding = found.grounding
        if found.references:
            document = references.parse(text, upstream_hosts)
            references.check_model(document, operation_name, model)
            settings, grounding = _parsed(document, grounding)
        return _facts(settings or {}, len(text), found.pictures, grounding)


def look(body: Buffer, operation_name: str, model: str, upstream_hosts: frozenset[str]) -> BodyFacts:
    """`skim` and `Outline.read` in one."""
    return skim(body).read(operation_name, model, upstream_hosts)


def skim(body: Buffer) -> Outline:
    """Steps over a body's inline data. Raises CallerErred BAD_REQUEST for what is not UTF-8.

    About 0.06 ms per MB of base64, 1 ms per MB of text up to SEARCHED_AT_ONCE and 0.5 ms beyond. Up to SKIMMED_AT_ONCE
    it may run on the event loop.
    """
    whole = bytes(body) if isinstance(body, memoryview) else body
    start = whole[:4]
    if b"\0" in start or start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _not_utf8()
    return Outline(whole, _without_base64(whole))


def _without_base64(body: bytes | bytearray | mmap) -> bytes | bytearray:
    """The body without the values of its inline data. If the result is JSON, then so is the body, and with this very
    structure: what was taken out lay within a string, and holds neither an end of it nor a byte beyond ASCII."""
    pieces, kept, at = [], 0, 0
    for _ in range(_MAX_PARTS):
        found = _DATA.search(body, at)
        if found is None:
            break
        at = found.end()
        end = body.find(b'"', at)
        if end - at >= _BASE64_BYTES and _is_plain(body, at, end):
            pieces.append(body[kept:at])
            kept = at = end
    if not pieces:
        return body[:] if isinstance(body, mmap) else body
    pieces.append(body[kept:])
    return b"".join(pieces)


def _is_plain(body: bytes | bytearray | mmap, start: int, end: int) -> bool:
    r"""ASCII, and no escape but \/, which PHP writes for every slash."""
    if body.find(b"\\", start, end) >= 0 and (body[end - 1] == 0x5C or _OTHER_ESCAPE.search(body, start, end)):
        return False
    if not isinstance(body, mmap) and body.isascii():
        return True
    return all(body[at : min(at + _PIECE, end)].isascii() for at in range(start, end, _PIECE))


def _search(text: bytes | bytearray) -> _Found:
    """Searches in pieces, so that other threads get their turn. Raises CallerErred BAD_REQUEST for what is not UTF-8."""
    if not text.isascii():
        _check_utf8(text)
    names = grounding = False
    pictures = 0
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE + _OVERLAP]
        folded = piece.translate(_LOWER, b"_")
        names = names or _may_name(piece, folded)
        grounding = grounding or any(name in folded for name in _SEARCHES)
        pictures += len(_PICTURE.findall(folded))
    return _Found(names, grounding, pictures)


def _may_name(piece: bytes | bytearray, folded: bytes | bytearray) -> bool:
    if any(name in folded for name in _NAMES):
        return True
    if b"model" in folded and _MODEL.search(folded):
        return True
    return b"\\" in piece and _SPELLS.search(piece) is not None


def _check_utf8(text: bytes | bytearray) -> None:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _settings(text: bytes | bytearray) -> dict[str, Any] | None:
    """`generationConfig`, empty where there is none; None where the text is not a JSON object."""
    try:
        settings = _SETTINGS.decode(text)
        value = _ANY.decode(settings.camel) or _ANY.decode(settings.snake)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else {}


def _parsed(document: Any, grounding: bool) -> tuple[dict[str, Any], bool]:
    """generationConfig, and whether search is asked for, of a document whose names may have been spelled in escapes."""
    if not isinstance(document, dict):
        return {}, grounding
    settings = _member(document, "generationConfig")
    tools = references.fold(repr(_member(document, "tools"))).encode()
    return settings if isinstance(settings, dict) else {}, grounding or any(name in tools for name in _SEARCHES)


def _facts(settings: dict[str, Any], text_bytes: int, pictures: int, grounding: bool) -> BodyFacts:
    image = _member(settings, "imageConfig") or _member(_member(settings, "responseFormat"), "image")
    return BodyFacts(
        image_size=_SIZES.get(str(_member(image, "imageSize")).upper()),
        candidates=_count(_member(settings, "candidateCount")) or 1,
        max_output_tokens=_count(_member(settings, "maxOutputTokens")),
        inline_pictures=pictures,
        text_bytes=text_bytes,
        grounding=grounding,
    )


def _member(value: Any, name: str) -> Any:
    """A member in camelCase or snake_case; None where there is none."""
    if not isinstance(value, dict):
        return None
    found = value.get(name)
    if found is None and value:
        return next((member for key, member in value.items() if references.camel(key) == name), None)
    return found


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
