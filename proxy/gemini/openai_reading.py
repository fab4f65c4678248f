"""What a response of Google's compatibility layer said: how it is decoded, and what is looked for in it."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.gemini import openai_bodies
from proxy.gemini.reading import Reading, take_usage, text
from proxy.gemini.windows import COLON, Document, Shape


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Picture(msgspec.Struct, gc=False):
    b64_json: str | None = None
    url: str | None = None


class _Said(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()
    model: str | None = None
    id: str | None = None
    error: object = None


class _SaidAnswer(_Said, gc=False):
    choices: list[_Choice] | None = None


class _SaidPictures(_Said, gc=False):
    data: list[_Picture] | None = None


_decode_answer = msgspec.json.Decoder(_SaidAnswer | list[_SaidAnswer]).decode
_decode_pictures = msgspec.json.Decoder(_SaidPictures | list[_SaidPictures]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _read_answer(body: bytes, reading: Reading) -> bytes | None:
    """As `reading.read_whole`, of a chat completion, a chunk of one, or embeddings."""
    try:
        said = _decode_answer(body)
    except _UNREADABLE:
        return None
    last = b""
    for answer in said if isinstance(said, list) else (said,):
        last = _take(answer, reading)
        if answer.choices:
            reading.finish_reason = answer.choices[0].finish_reason or reading.finish_reason
    return last


def _read_pictures(body: bytes, reading: Reading) -> bytes | None:
    """As `reading.read_whole`, of pictures that were made."""
    try:
        said = _decode_pictures(body)
    except _UNREADABLE:
        return None
    last = b""
    for answer in said if isinstance(said, list) else (said,):
        last = _take(answer, reading)
        reading.images += sum(1 for picture in answer.data or () if picture.b64_json or picture.url)
    return last


def _take(said: _Said, reading: Reading) -> bytes:
    usage = bytes(said.usage)
    take_usage(usage, reading)
    reading.model_version = said.model or reading.model_version
    reading.response_id = said.id or reading.response_id
    reading.errored |= said.error is not None
    return usage


def _read_values(found: dict[bytes, bytes], reading: Reading) -> None:
    """As `reading.read_values`."""
    take_usage(found.get(b"usage", b""), reading)
    reading.model_version = text(found.get(b"model")) or reading.model_version
    reading.response_id = text(found.get(b"id")) or reading.response_id
    reading.finish_reason = text(found.get(b"finish_reason")) or reading.finish_reason
    reading.errored |= b"error" in found


_WANTED: Final = {
    b"usage": (1, b"{"),
    b"model": (1, b'"'),
    b"id": (1, b'"'),
    b"error": (1, b'{"'),
    b"finish_reason": (3, b'"'),
}
_NO_IMAGE: Final = rb'"(?!)'
_PICTURE: Final = rb'"(?:b64_json"(?<!\\"b64_json")|url"(?<!\\"url"))%b"[^"]' % COLON


class Answer(Document):
    """A chat completion, a chunk of one, or embeddings. Names in it are Google's: a function's arguments are a text."""

    __slots__ = ()
    shape = Shape(_WANTED, _NO_IMAGE, _read_values)
    read_whole = staticmethod(_read_answer)


class Pictures(Document):
    """Pictures that were made: each is an element of `data` with its base64, or a URL, and never both."""

    __slots__ = ()
    shape = Shape(_WANTED, _PICTURE, _read_values)
    read_whole = staticmethod(_read_pictures)


_KINDS: Final = {
    openai_bodies.CHAT: Answer,
    openai_bodies.EMBEDDINGS: Answer,
    openai_bodies.PICTURES: Pictures,
}


def document_of(operation_name: str) -> type[Document]:
    """The kind of document that an operation is answered with; `operation_name` is the surface table's."""
    return _KINDS.get(operation_name, Document)
