"""Pictures that callers send: which format one is in, what it says of itself, whether it is taken."""

from __future__ import annotations

import binascii
from typing import NamedTuple

from proxy.gateway.images.requests import wrong
from proxy.gateway.images.structure import (
    Unsound,
    check_jpeg,
    check_png,
    check_webp,
    damaged,
    jpeg_size,
    png_size,
    webp_size,
)

Content = bytes | bytearray | memoryview

LONGEST_SIDE = 16_384
MOST_PIXELS = 64_000_000
HEAD = 64 << 10
"""Characters of base64 in which a picture's dimensions are looked for. A JPEG may have much before them."""

_SIZES = {"image/png": png_size, "image/jpeg": jpeg_size, "image/webp": webp_size}
_CHECKS = {"image/png": check_png, "image/jpeg": check_jpeg, "image/webp": check_webp}


class Facts(NamedTuple):
    """What a picture says of itself."""

    media_type: str
    width: int
    height: int


def sniff(head: Content) -> str | None:
    """The media type that the first 12 bytes tell, of those that are taken."""
    start = bytes(head[:12])
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if start[:4] == b"RIFF" and start[8:] == b"WEBP" else None


def check(content: Content, what: str) -> Facts:
    """A picture that a caller sent: one still PNG, JPEG or WebP, whole, within the bounds above.

    `what` is the request's parameter that it came in. Raises CallerErred. Work is bounded by the file's bytes; what is
    wrong within its coded pixels is not seen.
    """
    try:
        return inspect(content)
    except Unsound as unsound:
        said = str(unsound)
    raise wrong(what, f"{what} {said}")  # here, so that the error knows no frame that holds the content


def inspect(content: Content) -> Facts:
    """As `check`. Raises Unsound."""
    with memoryview(content) as view:
        kind = sniff(view)
        if kind is None:
            raise Unsound("is no picture that is taken: send a PNG, a JPEG or a WebP.")
        facts = Facts(kind, *_SIZES[kind](view))
        _check_size(facts)
        _CHECKS[kind](view)
        return facts


def dimensions(base64: Content) -> tuple[int, int, str] | None:
    """Width, height and media type of a picture, told by the start of its base64. None where that doesn't tell."""
    for length in (64, 4096, HEAD):
        try:
            head = memoryview(binascii.a2b_base64(base64[: min(length, len(base64)) & ~3], strict_mode=True))
            if kind := sniff(head):
                return *_SIZES[kind](head), kind
        except (ValueError, Unsound):
            pass
    return None


def _check_size(facts: Facts) -> None:
    width, height = facts.width, facts.height
    if not width or not height:
        raise damaged()
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise Unsound(
            f"is {width} x {height} pixels large: at most {LONGEST_SIDE} a side and {MOST_PIXELS // 1_000_000} million "
            "in all are taken. Scale it down."
        )
