"""Work on the pixels and bytes of pictures, in two threads of its own: checks, masks, other formats (Pillow)."""

from __future__ import annotations

import asyncio
import binascii
import io
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.gateway.images.formats import Content, Facts, check, dimensions, inspect
from proxy.gateway.images.requests import wrong
from proxy.gateway.images.structure import Unsound, damaged

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Facts",
    "Unsound",
    "check",
    "convert",
    "dimensions",
    "from_base64",
    "in_thread",
    "mask",
    "to_base64",
]

T = TypeVar("T")

THREADS = 2
MOST_DECODED = 24_000_000
"""Pixels of a picture that are made in memory: Google's largest have 19 million. One takes up to 10 bytes; 24 where a
WebP with transparency is made."""
TRANSPARENT_BELOW = 128
"""Of 255: a mask's pixels with less alpha are to be edited."""
QUALITY = 95
"""Of JPEG and WebP where none is asked for: what is lost is not seen."""
LARGEST_METADATA = 64_000
"""Bytes of EXIF and of XMP that go over into another format, each: one segment of a JPEG holds no more."""

_EXIF = b"Exif\0\0"
_STEP = 1 << 20
"""Characters of base64 that are coded in one go."""
_SAVED: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 3},  # 6 takes twice as long for a fifth less
    "jpeg": {"optimize": False},
    "webp": {"method": 2},  # 4 takes twice as long for a few percent less
}


_threads = ThreadPoolExecutor(THREADS, "pictures")


async def in_thread(do: Callable[..., T], *given: Any) -> T:
    """What `do` returns or raises. It is for what takes longer than the event loop may be held up.

    Who calls it bounds how many wait for a thread: they hold what they have given. A call that is cancelled stays until
    the thread has let go of that.
    """
    submitted = _threads.submit(do, *given)
    future = asyncio.wrap_future(submitted)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not submitted.cancel():
            await asyncio.wait([future])
            future.exception()  # it is told to nobody
        raise


def mask(content: Content, of: Facts) -> bytes:
    """OpenAI's mask, which is transparent where the picture `of` is to be edited, as a PNG that is white there and
    black elsewhere. Raises CallerErred."""
    facts = check(content, "mask")
    if facts[1:] != of[1:]:
        raise wrong(
            "mask",
            f"mask is {facts.width} x {facts.height} pixels large, the picture {of.width} x {of.height}: they must be "
            "of the same size.",
        )
    try:
        picture = _decoded(content, facts)
        if not picture.has_transparency_data:
            raise Unsound("has no alpha channel: send a PNG that is transparent where the picture is to be edited.")
        alpha = (picture if picture.mode in ("RGBA", "LA") else picture.convert("RGBA")).getchannel("A")
    except Unsound as unsound:
        raise wrong("mask", f"mask {unsound}") from None
    if alpha.getextrema()[0] >= TRANSPARENT_BELOW:  # type: ignore[operator]  # of one channel: two numbers
        raise wrong("mask", "mask is transparent nowhere, so there is nothing to edit: make it transparent there.")
    edited = alpha.point([255] * TRANSPARENT_BELOW + [0] * (256 - TRANSPARENT_BELOW))
    saved = io.BytesIO()
    edited.save(saved, "PNG")
    return saved.getvalue()


def convert(base64: Content, to: str, compression: int | None = None) -> bytes:
    """A picture as "png", "jpeg" or "webp", base64 to base64. Transparency is kept, or white in a JPEG, which has none.

    `compression` is OpenAI's output_compression: the quality, 0 to 100, of JPEG and WebP. Colour profile, EXIF and XMP
    (with them IPTC's word that a picture was generated) go over. Content credentials (C2PA) do not: they are signed
    over the bytes of one file. Raises Unsound where the picture is none, is damaged, or is larger than MOST_DECODED.
    """
    content, saved = from_base64(base64), io.BytesIO()
    picture = _decoded(content, inspect(content))
    kept = _metadata(picture, to)
    picture = _in_mode_of(picture, to)
    if to != "png":
        kept["quality"] = QUALITY if compression is None else compression
    try:
        picture.save(saved, to, **_SAVED[to], **kept)
    except (OSError, ValueError) as error:
        raise Unsound(f"can't be written as {to}.") from error
    return to_base64(saved.getbuffer())


def from_base64(base64: Content) -> bytes:
    """Strictly: the upstream gets it as it is. In steps, for the decoder holds the interpreter: between them other
    threads have their turn. Raises Unsound."""
    content = io.BytesIO()
    try:
        for start in range(0, len(base64), _STEP):
            step = base64[start : start + _STEP]
            if step[-1] == 0x3D and start + _STEP < len(base64):
                raise ValueError("padding in the middle")
            content.write(binascii.a2b_base64(step, strict_mode=True))
    except ValueError:
        raise Unsound(
            "is not base64: encode the file with + and /, with padding, and without line breaks (base64 -w0)."
        ) from None
    return content.getvalue()


def to_base64(content: Content) -> bytes:
    step = _STEP // 4 * 3
    return b"".join(b64encode(content[start : start + step]) for start in range(0, len(content), step))


def _decoded(content: Content, facts: Facts) -> Image.Image:
    """A picture's pixels, by the decoder of its format alone. Raises Unsound."""
    from PIL import Image  # not before: most servers never need it

    if facts.width * facts.height > MOST_DECODED:
        raise Unsound(
            f"has {facts.width} x {facts.height} pixels: at most {MOST_DECODED // 1_000_000} million are decoded."
        )
    try:
        picture = Image.open(io.BytesIO(content), formats=[facts.media_type.removeprefix("image/")])
        if picture.size != facts[1:]:
            raise damaged()
        picture.load()
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise for bad bytes is of many kinds: SyntaxError is one of them
        raise damaged() from error
    return picture


def _in_mode_of(picture: Image.Image, to: str) -> Image.Image:
    from PIL import Image

    mode = "RGBA" if picture.has_transparency_data else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    if mode == "RGB" or to != "jpeg":
        return picture
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A"))
    return flat


def _metadata(picture: Image.Image, to: str) -> dict[str, Any]:
    """What Pillow's save takes. A colour profile stays only where the colours do."""
    from PIL.PngImagePlugin import PngInfo

    info = picture.info
    kept: dict[str, Any] = {"icc_profile": info.get("icc_profile") if picture.mode in ("RGB", "RGBA", "P") else None}
    if (exif := info.get("exif")) and len(exif) <= LARGEST_METADATA:
        kept["exif"] = _EXIF + exif.removeprefix(_EXIF)  # which formats other than JPEG leave out
    if (xmp := info.get("xmp")) and len(xmp) <= LARGEST_METADATA:
        if to == "png":
            kept["pnginfo"] = PngInfo()
            kept["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        else:
            kept["xmp"] = xmp
    return kept
