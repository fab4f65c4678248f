"""Between the two shapes: a request for pictures as a generateContent body, and what that answers as a picture.

The base64 of a picture crosses as it stands, undecoded, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from proxy.gateway.images import sizes
from proxy.gateway.images.requests import ImageRequest
from proxy.gateway.images.sizes import Shape
from proxy.gemini import usage as usages

_NOTHING = msgspec.Raw()
LONGEST_TEXT = 32_000
"""Characters of what came beside the picture that are passed on."""


class Given(NamedTuple):
    """A picture that goes up."""

    media_type: str
    base64: bytes


def native_body(request: ImageRequest, shape: Shape, pictures: Iterable[Given], mask: Given | None) -> list[bytes]:
    """A generateContent body for one picture, in pieces: the prompt, the pictures in order, the mask, what is said in
    words of style and the like."""
    words = sizes.words(request.style, request.background, request.input_fidelity)
    said = " ".join(part for part in (sizes.MASKED if mask else "", words) if part)
    pieces = [b'{"contents":[{"role":"user","parts":[{"text":', msgspec.json.encode(request.prompt), b"}"]
    for picture in (*pictures, *([mask] if mask else [])):
        pieces += [
            b',{"inlineData":{"mimeType":',
            msgspec.json.encode(picture.media_type),
            b',"data":"',
            picture.base64,
            b'"}}',
        ]
    if said:
        pieces += [b',{"text":', msgspec.json.encode(said), b"}"]
    image = {"aspectRatio": shape.aspect_ratio, "imageSize": shape.image_size}
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    if image := {name: value for name, value in image.items() if value}:
        config["imageConfig"] = image
    return [*pieces, b']}],"generationConfig":', msgspec.json.encode(config), b"}"]


class _Media(msgspec.Struct, rename="camel", gc=False):
    mime_type: str = ""
    data: msgspec.Raw = _NOTHING


class _Part(msgspec.Struct, rename="camel", gc=False):
    inline_data: _Media | None = None
    text: str | None = None
    thought: bool | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | None = None


class _Answer(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = _NOTHING
    prompt_feedback: _Feedback | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Drawn(NamedTuple):
    """A picture that came down."""

    media_type: str
    base64: memoryview
    """A JSON string as it stood in the answer, its quotes included; or a URL in one, as some resellers answer."""

    @property
    def is_url(self) -> bool:
        return bytes(self.base64[:5]).lower() == b'"http'


class Answer(NamedTuple):
    """What generateContent answered."""

    pictures: list[Drawn]
    """Drafts may stand before the one that counts, which is the last."""
    text: str
    why: str
    """Where there is no picture: `finishReason` or `blockReason`, as Google writes it."""
    tokens: dict[str, int]
    """By what they are billed as: `proxy.gemini.usage.quantities`."""


def read_answer(body: Any) -> Answer | None:
    """Reads an answer; its pictures are views of `body`. None where it is no such answer.

    Stepping over a picture takes a millisecond for some megabytes.
    """
    try:
        said = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    candidate = said.candidates[0] if said.candidates else _Candidate()
    parts = [part for part in (candidate.content and candidate.content.parts) or () if not part.thought]
    blocked = said.prompt_feedback.block_reason if said.prompt_feedback else None
    pictures = list(_drawn(parts))
    return Answer(
        pictures,
        " ".join(part.text.strip() for part in parts if part.text)[:LONGEST_TEXT],
        blocked or candidate.finish_reason or "",
        _tokens(bytes(said.usage_metadata), len(pictures)),
    )


def _drawn(parts: Iterable[_Part]) -> Iterator[Drawn]:
    for part in parts:
        if part.inline_data is not None and part.inline_data.mime_type.startswith("image/"):
            data = memoryview(part.inline_data.data)
            if len(data) > 2 and data[0] == 0x22:
                yield Drawn(part.inline_data.mime_type, data)


def _tokens(raw: bytes, pictures: int) -> dict[str, int]:
    if not raw.startswith(b"{"):
        return {}
    return usages.quantities(usages.parse(raw), images_seen=pictures, image_model=True, image_tokens_each=None)


def usage(tokens: Iterable[dict[str, int]]) -> dict[str, Any]:
    """OpenAI's usage of an image (openai-python 3.54, types/images_response.py), summed over calls.

    Prompt and cached tokens are input; what isn't of a picture counts as text.
    """
    counts = {"input_text": 0, "input_image": 0, "output_text": 0, "output_image": 0}
    for one in tokens:
        for name, count in one.items():
            direction, _, modality = name.partition("_")
            direction = "output" if direction == "output" else "input"
            counts[f"{direction}_{'image' if modality == 'image' else 'text'}"] += count
    came, went = counts["input_text"] + counts["input_image"], counts["output_text"] + counts["output_image"]
    return {
        "input_tokens": came,
        "input_tokens_details": {"text_tokens": counts["input_text"], "image_tokens": counts["input_image"]},
        "output_tokens": went,
        "output_tokens_details": {"text_tokens": counts["output_text"], "image_tokens": counts["output_image"]},
        "total_tokens": came + went,
    }
