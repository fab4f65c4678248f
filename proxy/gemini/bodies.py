"""What must be known of a request body: what it asks for, and that it names no resource which isn't the caller's.

Most of a large body is base64, which is stepped over at the speed of memchr. In the rest a cheap search tells whether
a reference may be named at all; only then is it parsed.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from mmap import mmap
from typing import Any, NamedTuple

from proxy.errors import CallerErred, Hint, Reason
from proxy.gemini import bounds, generation, references, request_hints
from proxy.gemini.aliases import Aliases
from proxy.gemini.bounds import Bounds
from proxy.gemini.edits import Splice
from proxy.gemini.inline import PIECE, Text, without_base64

Buffer = bytes | bytearray | mmap

SKIMMED_AT_ONCE = 4 << 20
"""Bytes of body up to which `skim` takes less than 5 ms, whatever is in them: 3.5 by `python -m bench.holds`."""
SEARCHED_AT_ONCE = 256 * 1024
"""Bytes of text up to which the search takes less than 5 ms, whatever is in them; prose takes a tenth of that."""
PARSED_AT_ONCE = 32 * 1024
"""Bytes of text up to which the strict parse does."""
SPLICED_AT_ONCE = 8 * 1024
"""Bytes of text up to which the strict parse and the search for aliases do together, if it is made of nothing else."""

_MAX_SKIPPED = 4 << 20
"""Bytes of text that are stepped over in search of the settings. A million tokens, the longest context that Google
offers, are about as much."""
_OVERLAP = 64  # longer than any name that is searched, in lower case and without underscores

_Utf8 = codecs.getincrementaldecoder("utf-8")
_LOWER = bytes(range(256)).lower()
_MODEL = re.compile(rb"""model["']?\s*(?:[:/#]|\Z)""")
_PICTURES = {b"image"}
_NO_MEDIA: Counter[bytes] = Counter()
_TOOLS = re.compile(rb"""tools["']?\s*(?:[:/#]|\Z)""")
_MEDIA = re.compile(rb'"mimetype"\s*:\s*"(image|audio|video|application|text)\\?/')
# An escape that may spell a letter, digit or underscore, or that no JSON has (a lenient parser takes \f\i for "fi").
_SPELLS = re.compile(
    rb"\\(?:[^\"\\/bfnrtu]|u(?:00(?:3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])|(?![0-9a-f]{4})))", re.IGNORECASE
)


class Named(NamedTuple):
    """What a body says that else stands in the path."""

    model: str
    """The one that is asked for, without "models/"."""
    used: str
    """The one that goes up: another where that stands in for it."""
    streams: bool
    adds_usage: bool
    """Its stream is asked for its usage, by a splice."""


class BodyFacts(NamedTuple):
    """What a request asks for, as far as that can be told beforehand."""

    image_size: str | None = None
    """"512", "1K", "2K" or "4K"; None where none is asked for, or one that is unknown here."""
    candidates: int = 1
    max_output_tokens: int | None = None
    inline_pictures: int = 0
    text_bytes: int = 0
    """The body without its inline data, but for such as is text, or of no kind that is known here."""
    tools: bool = False
    """It may declare tools: Google Search or Maps, or functions whose arguments the model makes up."""
    audio_bytes: int = 0
    """Of inline audio, about: several media in one body are taken for equally large."""
    video_bytes: int = 0
    document_bytes: int = 0
    asks_images: bool = False
    """Pictures are among the modalities that it asks for."""
    bounds: Bounds | None = None
    """What it can weigh at most, where that was asked for."""
    splices: tuple[Splice, ...] = ()
    """What is to be put in place of the aliases in it."""
    growth: int = 0
    """By how many bytes they make it longer."""
    hint: Hint | None = None
    """The plain mistake in it, where the model that goes up draws."""
    named: Named | None = None
    """Where the body names its model, and not the path."""


class _Found(NamedTuple):
    """What the search says of a text."""

    references: bool
    """It may name a resource or a model."""
    tools: bool
    media: Counter[bytes]
    """How many parts there are of each kind: "image", "audio", "video", "application", "text"."""


class Outline:
    """A body once skimmed over. `read` goes on from there; where it is `costly`, in a thread."""

    __slots__ = ("_body", "_found", "_length", "_settings", "_text")

    def __init__(self, body: Buffer, text: Text) -> None:
        self._body: Buffer | None = body
        self._length = len(body)
        self._text = text
        self._settings: Any = None
        self._found: _Found | None = None
        if text.length <= SEARCHED_AT_ONCE:
            self._survey(body)

    def _survey(self, body: Buffer) -> None:
        self._body = None
        if self._text.length <= _MAX_SKIPPED:
            self._settings = generation.find(self._text.whole())
        if self._settings is None and self._text.length < len(body):
            # Not JSON, so what looked like inline data may be anything: all of the body is text, then.
            self._text = Text(body, [(0, len(body))])
        if self._text.length <= SEARCHED_AT_ONCE:
            self._found = _search(self._text)

    def costly(self, *, bounded: bool = False, aliased: bool = False) -> bool:
        """`read` may take more than 5 ms, with or without bounds and aliases."""
        at_once = SPLICED_AT_ONCE if aliased else PARSED_AT_ONCE
        return self._found is None or ((self._found.references or bounded) and self._text.length > at_once)

    def read(
        self,
        operation_name: str,
        model: str,
        upstream_hosts: frozenset[str],
        *,
        bounded: bool = False,
        aliases: Aliases | None = None,
    ) -> BodyFacts:
        """`operation_name` is the surface table's; `model` what the caller asked for, without "models/"; hosts in lower
        case.

        With `bounded`, its bounds are among the facts: so it must be strict JSON, whatever is in it. Raises
        CallerErred: BAD_REQUEST, or RESOURCE_NOT_OWNED where the body names what isn't the caller's.
        """
        if self._body is not None:
            self._survey(self._body)
        found = self._found or _search(self._text)
        settings, at_most = self._settings, None
        splices: tuple[Splice, ...] = ()
        if found.references or bounded:
            if self._text.length > references.MAX_PARSED:
                raise references.too_long()
            document = references.parse(self._text.whole(), upstream_hosts)
            if aliases is None:
                references.check_model(document, operation_name, model)
            elif references.check_model(document, operation_name, model, aliases.used):
                # Those of the text as such of the body: none of them reaches over inline data.
                splices = tuple(self._text.in_body(aliases.splices(self._text.whole(), operation_name)))
            settings = generation.of(document)
            if bounded:
                at_most = bounds.read(document, self._length, self._text.length)
            found = found._replace(tools=found.tools or _declares_tools(document))
        media = found.media
        asked = generation.asked(settings)
        of_body = media[b"image"], self._text.length, found.tools
        images = generation.asks_images(settings)
        told = None
        if settings:
            goes_up = model if aliases is None else aliases.used(model)
            told = request_hints.of_settings(goes_up, settings, asked.candidates, asks_images=images)
        facts = BodyFacts(*asked, *of_body, asks_images=images, bounds=at_most, splices=splices, hint=told)
        if splices:
            facts = facts._replace(growth=sum(splice.growth for splice in splices))
        total = max(media.total(), self._text.left_out)
        if media.keys() <= _PICTURES and media.total() == total:
            return facts
        each = (self._length - self._text.length) * 3 // 4 // total
        audio, video, documents = (media[kind] * each for kind in (b"audio", b"video", b"application"))
        texts = (media[b"text"] + total - media.total()) * each
        return facts._replace(
            text_bytes=facts.text_bytes + texts, audio_bytes=audio, video_bytes=video, document_bytes=documents
        )


def look(body: Buffer, operation_name: str, model: str, upstream_hosts: frozenset[str]) -> BodyFacts:
    """`skim` and `Outline.read` in one."""
    return skim(body).read(operation_name, model, upstream_hosts)


def skim(body: Buffer) -> Outline:
    """Steps over a body's inline data, and searches the rest where that is short.

    Takes 0.06 ms per MB of base64 (0.7 with its slashes escaped), and 5 ms at most for a body up to SKIMMED_AT_ONCE,
    which may be skimmed on the event loop. Raises CallerErred BAD_REQUEST for what is not UTF-8.
    """
    check_start(body)
    return Outline(body, without_base64(body))


def check_start(body: Buffer) -> None:
    """Raises CallerErred BAD_REQUEST for what begins as no JSON in UTF-8 does: by a byte order mark, or in UTF-16."""
    start = body[:4]
    if b"\0" in start or start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _not_utf8()


def _search(text: Text) -> _Found:
    """In pieces, so that other threads get their turn. Raises CallerErred BAD_REQUEST for what is not UTF-8."""
    if text.length <= PIECE:
        whole = text.whole()
        if not whole.isascii():
            _check_utf8(_Utf8(), whole, final=True)
        return _search_piece(whole, whole.translate(_LOWER, b"_"), last=True)
    named, tools, left = False, False, text.length
    media: Counter[bytes] = Counter()
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
        named, tools, media = named or found.references, tools or found.tools, media + found.media
    return _Found(named, tools, media)


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
    media = Counter(found) if (found := _MEDIA.findall(folded)) else _NO_MEDIA
    if found and not last:
        media -= Counter(_MEDIA.findall(folded, own))
    return _Found(named, tools, media)


def _begins(pattern: re.Pattern[bytes], text: bytes | bytearray, before: int) -> bool:
    found = pattern.search(text)
    return found is not None and found.start() < before


def _check_utf8(decoder: codecs.IncrementalDecoder, piece: bytes | bytearray, *, final: bool) -> None:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _declares_tools(document: references.Json) -> bool:
    """Also finds the name written with escapes."""
    return isinstance(document, dict) and any(references.fold(key) == "tools" for key in document)


def _not_utf8() -> CallerErred:
    return CallerErred(
        Reason.BAD_REQUEST, "The body is not UTF-8, or begins with a byte order mark. Send JSON in UTF-8 without one."
    )
