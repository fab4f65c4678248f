"""Draws the pictures: the prompt on a coloured ground, in the size asked for, padded where a test wants it large."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import textwrap
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from proxy.emulator import errors

_JPEG_COMMENT_MAX = 65533


@dataclass(frozen=True)
class Picture:
    """What is to be drawn. `file_size` is that of the whole file in bytes, None for as large as it comes."""

    width: int
    height: int
    prompt: str
    references: int
    index: int
    media_type: str
    file_size: int | None = None


class PictureCache:
    """Draws pictures and keeps those last drawn, up to `kept_bytes`. Safe to call from several threads."""

    def __init__(self, kept_bytes: int = 16 * 1024 * 1024) -> None:
        self._room = kept_bytes
        self._kept: OrderedDict[Picture, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, picture: Picture) -> bytes:
        """The picture as a JPEG, PNG or WebP file. Raises ApiError (400) where `file_size` is less than it takes."""
        with self._lock:
            if (found := self._kept.get(picture)) is not None:
                self._kept.move_to_end(picture)
                return found
        drawn = _padded(_drawn(picture), picture)
        with self._lock:
            if len(drawn) <= self._room // 4:
                self._kept[picture] = drawn
                while sum(map(len, self._kept.values())) > self._room:
                    self._kept.popitem(last=False)
        return drawn


def _drawn(picture: Picture) -> bytes:
    ground = hashlib.sha256(f"{picture.index} {picture.prompt}".encode()).digest()
    colour = (64 + ground[0] // 2, 64 + ground[1] // 2, 64 + ground[2] // 2)
    image = Image.new("RGB", (picture.width, picture.height), colour)
    draw = ImageDraw.Draw(image)
    for at in range(3, 15, 3):
        x, y = ground[at] * picture.width // 255, ground[at + 1] * picture.height // 255
        radius = min(picture.width, picture.height) * (32 + ground[at + 2]) // 800
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=(ground[at], ground[at + 1], ground[at + 2])
        )
    letter = max(10, min(picture.width, picture.height) // 24)
    columns = max(8, int(picture.width * 1.7) // letter)
    lines = textwrap.wrap(picture.prompt[:600], columns)[: max(1, picture.height // letter - 4)]
    lines.append(f"{picture.width} x {picture.height}, picture {picture.index + 1}, references: {picture.references}")
    draw.multiline_text((letter, letter), "\n".join(lines), fill="white", font=ImageFont.load_default(letter))
    file = io.BytesIO()
    if picture.media_type == "image/png":
        image.save(file, "PNG", compress_level=1)
    elif picture.media_type == "image/webp":
        image.save(file, "WEBP", quality=80, method=0)
    else:
        image.save(file, "JPEG", quality=80)
    return file.getvalue()


def _padded(file: bytes, picture: Picture) -> bytes:
    """The file with noise in comments that decoders pass over, so that it has exactly the size asked for."""
    if picture.file_size is None or picture.file_size == len(file):
        return file
    missing = picture.file_size - len(file)
    noise = random.Random(picture.file_size).randbytes(max(0, missing))  # noqa: S311  nobody's secret
    if picture.media_type == "image/png":
        return _png_with_chunk(file, noise, missing)
    if picture.media_type == "image/webp":
        return _webp_with_chunk(file, noise, missing)
    return _jpeg_with_comments(file, noise, missing)


def _png_with_chunk(file: bytes, noise: bytes, missing: int) -> bytes:
    if missing < 12:
        raise _too_small(len(file) + 12)
    body = b"paDd" + noise[: missing - 12]
    chunk = struct.pack(">I", missing - 12) + body + struct.pack(">I", zlib.crc32(body))
    end_of_header = 8 + 25
    return file[:end_of_header] + chunk + file[end_of_header:]


def _webp_with_chunk(file: bytes, noise: bytes, missing: int) -> bytes:
    if missing < 8:
        raise _too_small(len(file) + 8)
    # RIFF counts in pairs of bytes: an odd one comes after its end.
    size, odd = (missing - 8) // 2 * 2, missing % 2
    chunk = b"paDd" + struct.pack("<I", size) + noise[:size]
    return b"".join((file[:4], struct.pack("<I", len(file) - 8 + len(chunk)), file[8:], chunk, noise[:odd]))


def _jpeg_with_comments(file: bytes, noise: bytes, missing: int) -> bytes:
    if missing < 4:
        raise _too_small(len(file) + 4)
    segments = []
    while missing:
        # Each comment costs 4 bytes; the last but one leaves room for that.
        length = min(missing - 4, _JPEG_COMMENT_MAX)
        if 0 < missing - 4 - length < 4:
            length -= 4
        start = len(noise) - missing
        segments.append(b"\xff\xfe" + struct.pack(">H", length + 2) + noise[start : start + length])
        missing -= length + 4
    return b"".join((file[:2], *segments, file[2:]))


def _too_small(least: int) -> errors.ApiError:
    return errors.invalid(f"Emulator directive [[image-bytes]]: this picture takes at least {least} bytes.")
