"""What is answered: OpenAI's response, its events, and the most useful of several failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from proxy.errors import Hint, Refusal, Sent, UpstreamFailed
from proxy.gateway.images import translate
from proxy.gateway.images.requests import ImageRequest
from proxy.gemini import openai_errors

Piece = bytes | memoryview

_QUALITIES = {"512": "low", "1K": "medium", "2K": "high", "4K": "high"}
_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}

_REFUSED = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "OTHER"})
"""Ends of Google's that say the picture or the prompt isn't allowed; with IMAGE_ before them, too."""


class Picture(NamedTuple):
    """One picture, and what came with it."""

    media_type: str
    base64: Piece
    """With its quotes: as it stands in JSON."""
    text: str
    tokens: dict[str, int]
    size: tuple[int, int] | None
    """Width and height in pixels; None where they can't be told from its first bytes."""
    drafts: Sequence[Piece] = ()


class Failed(NamedTuple):
    """A call that brought no picture."""

    http: int
    error: dict[str, Any]
    """OpenAI's error object."""
    refusal: Refusal | None = None
    """Where it is one of ours."""
    paid: bool = False
    """It may have cost money: repeated, it does so again."""
    hint: Hint | None = None

    @classmethod
    def of(cls, refusal: Refusal) -> Failed:
        paid = isinstance(refusal, UpstreamFailed) and refusal.sent is not Sent.NOTHING
        return cls(refusal.http, openai_errors.refusal_object(refusal), refusal, paid)


def without_picture(why: str, text: str) -> Failed:
    """An answer of 200 without a picture. `why`: Google's finishReason or blockReason, empty where it gave none."""
    said = f" The model said: {text[:500]}" if text else ""
    if why.removeprefix("IMAGE_") in _REFUSED:
        message = f"The picture was refused ({why}): word the prompt differently, or give other pictures.{said}"
        return Failed(400, openai_errors.error_object(400, message, "moderation_blocked", param="prompt"), paid=True)
    end = f" ({why})" if why else ""
    message = f"The model made no picture{end}: say in the prompt that it is to draw one, and what.{said}"
    return Failed(400, openai_errors.error_object(400, message, "no_image_generated", param="prompt"), paid=True)


def most_useful(failures: Iterable[Failed]) -> Failed:
    """Which of several to answer with: what the caller can mend, then what passes by itself, then the rest."""
    return min(failures, key=_rank)


def _rank(failed: Failed) -> int:
    if failed.http == 429:
        return 2
    if failed.http >= 500:
        return 3
    return 1 if failed.refusal else 0


def as_json(
    created: int, image_size: str | None, pictures: Sequence[Picture], failures: Sequence[Failed]
) -> list[Piece]:
    """The body of an answer with at least one picture, in pieces: the pictures' base64 is not copied."""
    told = _told(image_size, pictures[0])
    pieces: list[Piece] = [b'{"created":%d,"data":[' % created]
    for number, picture in enumerate(pictures):
        pieces += [b',{"b64_json":' if number else b'{"b64_json":', picture.base64]
        if picture.text:
            pieces.append(b',"revised_prompt":' + msgspec.json.encode(picture.text))
        pieces.append(b"}")
    told["usage"] = translate.usage(picture.tokens for picture in pictures)
    if failures:
        told["x_weighbridge"] = {"failed": [failed.error for failed in failures]}
    pieces.append(b"]," + msgspec.json.encode(told)[1:])
    return pieces


def _told(image_size: str | None, picture: Picture) -> dict[str, Any]:
    told: dict[str, Any] = {"background": "opaque", "quality": _QUALITIES[image_size or "1K"]}
    if kind := _FORMATS.get(picture.media_type):
        told["output_format"] = kind
    if picture.size:
        told["size"] = "{}x{}".format(*picture.size)
    return told


def events(
    created: int, request: ImageRequest, image_size: str | None, picture: Picture, *, edits: bool
) -> list[Piece]:
    """One picture as server-sent events (openai-python 3.54, types/image_gen_completed_event.py): its drafts, as far
    as partial images were asked for, and itself."""
    name = "image_edit" if edits else "image_generation"
    told = {"created_at": created, "size": "auto", **_told(image_size, picture)}
    pieces: list[Piece] = []
    for index, draft in enumerate(picture.drafts[: request.partial_images]):
        pieces += _event(f"{name}.partial_image", draft, {**told, "partial_image_index": index})
    return pieces + _event(f"{name}.completed", picture.base64, {**told, "usage": translate.usage([picture.tokens])})


def _event(name: str, base64: Piece, told: dict[str, Any]) -> list[Piece]:
    head = f'event: {name}\ndata: {{"type":"{name}","b64_json":'.encode()
    return [head, base64, b"," + msgspec.json.encode(told)[1:] + b"\n\n"]


def error_body(failed: Failed) -> bytes:
    """The body of an answer without any picture."""
    return openai_errors.body({"error": failed.error})


def error_event(failed: Failed) -> bytes:
    """What is said in a stream of calls that failed when others have brought their pictures."""
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": failed.error}) + b"\n\n"
