"""What a response said (Reading), and how a document that is held whole is decoded into it."""

from __future__ import annotations

import re

import msgspec

_COUNT = re.compile(rb"[1-9]")


class Reading(msgspec.Struct, kw_only=True, gc=False):
    """What the scanner found in one response. Of a stream: what the last event that spoke of a thing said."""

    usage: bytes | None = None
    """The last `usageMetadata` that is an object (in UTF-8), byte for byte; None where none was found. One that counts
    nothing at all, as an empty message is written, doesn't take another's place."""
    unseen: bool = False
    """A usage that would count more than `usage` may have passed unseen: between the windows, in what can't be read as
    JSON, or after the response broke off. So `usage is None and not unseen` means that there was none."""
    model_version: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    """`finishReason` of the first candidate, else `promptFeedback.blockReason`."""
    blocked: bool = False
    """It is the latter: the prompt was blocked."""
    images: int = 0
    """Parts of candidates whose `inlineData` or `fileData` has a `mimeType` that begins with `image/`."""
    searches: int = 0
    """Entries of `groundingMetadata.webSearchQueries` and `.imageSearchQueries`, over all candidates; of a stream,
    those of the event that listed most, as it may repeat what an earlier one said (A-SEARCHES-REPEAT)."""
    maps: int = 0
    """Look-ups of places (A-MAPS-BY-SOURCES): `looked_up` of each candidate's grounding; of a stream as `searches`."""
    uncounted: bool = False
    """`images`, `searches` and `maps` may be too low: a document was malformed, cut off, or had a name of more than
    512 bytes."""
    errored: bool = False
    """A top-level `error` was seen."""
    complete: bool = False
    """The framing was complete, and the JSON in it closed."""
    unreadable: bool = False
    """The content coding is unknown or broken: nothing after that point was looked at."""


class _Media(msgspec.Struct, rename="camel", gc=False):
    mime_type: str | None = None


class _Part(msgspec.Struct, rename="camel", gc=False):
    inline_data: _Media | None = None
    file_data: _Media | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Source(msgspec.Struct, gc=False):
    maps: msgspec.Raw = msgspec.Raw()
    web: msgspec.Raw = msgspec.Raw()
    image: msgspec.Raw = msgspec.Raw()


class _Grounding(msgspec.Struct, rename="camel", gc=False):
    web_search_queries: list[str] | None = None
    image_search_queries: list[str] | None = None
    grounding_chunks: list[_Source] | None = None


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    content: _Content | None = None
    finish_reason: str | None = None
    grounding_metadata: _Grounding | None = None


class _PromptFeedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | None = None


class _Response(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw()
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: _PromptFeedback | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Response).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_feedback = msgspec.json.Decoder(_PromptFeedback).decode


def read_whole(body: bytes, reading: Reading) -> bytes | None:
    """Decodes one whole document into `reading`. Returns its raw `usageMetadata`, empty where it has none.

    None, and nothing changed, where the body isn't JSON of the expected types. Of a repeated key the last value counts.
    """
    try:
        said = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usage = bytes(said.usage_metadata)
    take_usage(usage, reading)
    if said.model_version is not None:
        reading.model_version = said.model_version
    if said.response_id is not None:
        reading.response_id = said.response_id
    if said.error is not None:
        reading.errored = True
    if said.candidates:
        _read_candidates(said.candidates, reading)
    if said.prompt_feedback is not None and not (said.candidates and said.candidates[0].finish_reason):
        _take_block(said.prompt_feedback.block_reason, reading)
    return usage


def _read_candidates(candidates: list[_Candidate], reading: Reading) -> None:
    if reason := candidates[0].finish_reason:
        reading.finish_reason, reading.blocked = reason, False
    searches = maps = 0
    for candidate in candidates:
        if candidate.content is not None and candidate.content.parts:
            for part in candidate.content.parts:
                if part.inline_data is not None or part.file_data is not None:
                    reading.images += _is_image(part.inline_data) or _is_image(part.file_data)
        if candidate.grounding_metadata is not None:
            searched, looked = _grounded(candidate.grounding_metadata)
            searches += searched
            maps += looked
    take_grounding(searches, maps, reading)


def _grounded(grounding: _Grounding) -> tuple[int, int]:
    queries = len(grounding.web_search_queries or ()) + len(grounding.image_search_queries or ())
    sources = grounding.grounding_chunks or ()
    places = any(_is_object(source.maps) for source in sources)
    pages = any(_is_object(source.web) or _is_object(source.image) for source in sources)
    return looked_up(queries, places=places, pages=pages)


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw)[:1] == b"{"


def looked_up(queries: int, *, places: bool, pages: bool) -> tuple[int, int]:
    """Searches, and look-ups of places, by the queries and the kinds of sources that one candidate's grounding lists.

    Google lists the queries of both tools together (A-MAPS-BY-SOURCES).
    """
    if not places:
        return queries, 0
    return (queries, 1) if pages else (0, max(queries, 1))


def take_grounding(searches: int, maps: int, reading: Reading) -> None:
    """Puts what one document listed into `reading`, unless an earlier one listed more, or knew more of the same."""
    if (searches + maps, maps) > (reading.searches + reading.maps, reading.maps):
        reading.searches, reading.maps = searches, maps


def take_usage(raw: bytes, reading: Reading) -> None:
    """Puts a raw usage into `reading`, unless it is none, or counts nothing and takes another's place."""
    if _is_usage(raw) and (reading.usage is None or _COUNT.search(raw)):
        reading.usage = raw
        reading.unseen = False


def _is_usage(raw: bytes) -> bool:
    """An object, in UTF-8: a record keeps it as text."""
    if raw[:1] != b"{":
        return False
    try:
        return raw.isascii() or bool(raw.decode())
    except UnicodeDecodeError:
        return False


def _is_image(media: _Media | None) -> bool:
    return media is not None and media.mime_type is not None and media.mime_type.startswith("image/")


def read_values(found: dict[bytes, bytes], reading: Reading) -> None:
    """Puts raw values, by their keys, into `reading`; those that can't be read are passed over."""
    take_usage(found.get(b"usageMetadata", b""), reading)
    reading.model_version = text(found.get(b"modelVersion")) or reading.model_version
    reading.response_id = text(found.get(b"responseId")) or reading.response_id
    reason = text(found.get(b"finishReason"))
    if reason:
        reading.finish_reason, reading.blocked = reason, False
    elif b"promptFeedback" in found:
        _take_block(_block_reason(found[b"promptFeedback"]), reading)
    if b"error" in found:
        reading.errored = True


def text(raw: bytes | None) -> str | None:
    """The string that a raw value is; None where it isn't one."""
    try:
        return None if raw is None else _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _take_block(reason: str | None, reading: Reading) -> None:
    if reason:
        reading.finish_reason, reading.blocked = reason, True


def _block_reason(raw: bytes) -> str | None:
    try:
        return _decode_feedback(raw).block_reason
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
