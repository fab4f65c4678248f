"""`generationConfig`, as far as an estimate needs it: image size, candidates, cap of tokens; in either spelling."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

_MAX_VALUE = 1024
"""Bytes of settings up to which all of them are decoded."""
MAX_MODALITIES = 16
"""How many of them are looked at."""

_SIZES: dict[str | int, str] = {"0.5K": "512", "512": "512", 512: "512", "1K": "1K", "2K": "2K", "4K": "4K"}


class Asked(NamedTuple):
    """What the settings ask for; what makes no sense in them is left to Google, and counts as not asked."""

    image_size: str | None = None
    """"512", "1K", "2K" or "4K"; None where none is asked for, or one that is unknown here."""
    candidates: int = 1
    max_output_tokens: int | None = None


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
            *("aspectRatio", "aspect_ratio"),
            *("candidateCount", "candidate_count", "maxOutputTokens", "max_output_tokens"),
            *("responseModalities", "response_modalities"),
        )
    ],
    gc=False,
)
"""All that is known of the settings, at whatever depth."""

_SETTINGS = msgspec.json.Decoder(_Settings)
_MEMBERS = msgspec.json.Decoder(_Members)
_ANY = msgspec.json.Decoder()


def find(text: bytes | bytearray) -> dict[str, Any] | None:
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


def of(document: Any) -> Any:
    """The settings of a decoded body; None where it has none."""
    return member(document, "generationConfig", "generation_config")


def asked(settings: Any) -> Asked:
    """What they ask for. `settings`: what `find` or `of` gave."""
    if not settings:
        return Asked()
    return Asked(
        size(member(image_config(settings), "imageSize", "image_size")),
        count(member(settings, "candidateCount", "candidate_count")) or 1,
        count(member(settings, "maxOutputTokens", "max_output_tokens")),
    )


def image_config(settings: Any) -> Any:
    """What they say of the picture, wherever it stands; None where they say nothing."""
    image = member(settings, "imageConfig", "image_config")
    return image or member(member(settings, "responseFormat", "response_format"), "image", "image")


def asks_images(settings: Any) -> bool:
    """Whether they ask for images, whatever the model is."""
    kinds = member(settings, "responseModalities", "response_modalities")
    return isinstance(kinds, list) and any(kind == 2 or str(kind).upper() == "IMAGE" for kind in kinds[:MAX_MODALITIES])


def member(value: Any, camel: str, snake: str) -> Any:
    """A field of a decoded message, in either spelling; None where it isn't there."""
    if not isinstance(value, dict):
        return None
    found = value.get(camel)
    return value.get(snake) if found is None else found


def size(value: Any) -> str | None:
    """An image's size: "512", "1K", "2K" or "4K"; None for one that is unknown here."""
    if isinstance(value, str) and len(value) < 8:
        return _SIZES.get(value.upper())
    return _SIZES.get(value) if isinstance(value, int) else None


def count(value: Any) -> int | None:
    """A number as protocol buffers' JSON has it: 3, "3", or 3.0; None for what isn't understood here."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return int(value)
    return None
